"""Run a tool, `python -m tools NAME`, in a process that is prepared for it.

python -m tools predict docs/seven.png
"""

import argparse
import gc
import importlib
import os
import sys
from pathlib import Path

from fairtrial.__main__ import report_interrupt


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line; `name` is the tool."""
    parser = argparse.ArgumentParser(prog="python -m tools")
    tools = parser.add_subparsers(dest="name", metavar="NAME", required=True)

    predict = tools.add_parser("predict", help="classify pictures")
    predict.add_argument("files", metavar="FILE", nargs="+", type=Path, help="picture or folder")
    predict.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("data/checkpoints/model.safetensors"),
        help="of the model (default: that of the workspace)",
    )
    predict.add_argument("--json", action="store_true", help="print JSON")

    draw = tools.add_parser("draw", help="write a page on which the model classifies what you draw")
    export = tools.add_parser("export", help="write the model as ONNX, for programs without torch")
    card = tools.add_parser("card", help="write a model card")
    for tool in (draw, card):
        tool.add_argument(
            "revision",
            metavar="REV",
            nargs="?",
            default="workspace",
            help="a commit, branch, tag, experiment or `workspace` (default: %(default)s)",
        )
    for tool, path in (
        (draw, "draw.html"),
        (export, "model.onnx"),
        (card, "metrics/model-card.md"),
    ):
        tool.add_argument("--output", type=Path, default=Path(path), help="(default: %(default)s)")

    tools.add_parser("setup", help="prepare DVC in this clone; `make` has done it")
    return parser.parse_args(sys.argv[1:] or ["--help"])


def main() -> None:
    from fairtrial.project import errors
    from stages.storage.errors import InputError

    args = parse_arguments()
    try:
        importlib.import_module(f"tools.{args.name}").main(args)
    except errors.InputError as error:  # of the other library
        raise InputError(*error.args) from None


if __name__ == "__main__":
    # Before the slow imports, as `stages/__main__.py` does and explains.
    sys.excepthook = report_interrupt
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()
    from stages.storage.errors import run

    run(main)
