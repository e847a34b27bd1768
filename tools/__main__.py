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
from fairtrial.project.errors import nearest
from stages.storage.errors import InputError
from tools import template

EXAMPLES = """examples:
  python -m tools predict docs/seven.png
  python -m tools look data/pictures
  python -m tools card higher-lr"""


def is_here(tool: str) -> bool:
    """Return whether a project still has a tool, which may be removed."""
    return Path(__file__).with_name(f"{tool}.py").is_file()


def parse_arguments() -> argparse.Namespace:
    """Return the arguments of the command line; `name` is the tool."""
    parser = argparse.ArgumentParser(
        prog="python -m tools", epilog=EXAMPLES, formatter_class=argparse.RawTextHelpFormatter
    )
    tools = parser.add_subparsers(dest="name", metavar="NAME", required=True)

    if is_here("predict"):
        predict = tools.add_parser("predict", help="classify pictures")
        files = "picture or folder"
        predict.add_argument("files", metavar="FILE", nargs="+", type=Path, help=files)
        checkpoint = Path("data/checkpoints/model.safetensors")
        predict.add_argument("--checkpoint", type=Path, default=checkpoint, help="(%(default)s)")
        predict.add_argument("--json", action="store_true", help="print JSON")
        seen = "write a picture with the images as the model sees them"
        predict.add_argument("--show", metavar="PNG", type=Path, help=seen)
        predict.add_argument("--csv", action="store_true", help="print a table as CSV")
    if is_here("look"):
        look = tools.add_parser("look", help="show what fetch reads of pictures")
        look.add_argument("source", metavar="SOURCE", nargs="?", help="(fetch.source)")
        look.add_argument("--output", type=Path, default=Path("look.png"), help="(%(default)s)")
    for name, what, output in (
        ("draw", "write a page on which the model classifies what you draw", "draw.html"),
        ("export", "write the model as ONNX, for programs without torch", "model.onnx"),
        ("card", "write a model card", "metrics/model-card.md"),
    ):
        if not is_here(name):
            continue
        tool = tools.add_parser(name, help=what)
        tool.add_argument("--output", type=Path, default=Path(output), help="(%(default)s)")
        if name != "export":
            about = "a commit, branch, tag, experiment or `workspace` (default: %(default)s)"
            tool.add_argument("revision", metavar="REV", nargs="?", default="workspace", help=about)

    own = "make this template your project: rename it, remove parts"
    template.add_arguments(tools.add_parser("template", help=own))
    tools.add_parser("setup", help="prepare DVC in this clone; `make` has done it")
    name, *_ = arguments = sys.argv[1:] or ["--help"]
    if not name.startswith("-") and name not in tools.choices:
        raise InputError(f"python -m tools {name}: unknown tool; {nearest(name, tools.choices)}")
    return parser.parse_args(arguments)


def main() -> None:
    from fairtrial.project import errors

    args = parse_arguments()
    try:
        importlib.import_module(f"tools.{args.name}").main(args)
    except errors.InputError as error:  # of the other library
        raise InputError(*error.args) from None
    except Exception as error:
        if not (sentence := errors.sentence_of(error)):
            raise
        raise InputError(sentence) from None


if __name__ == "__main__":
    # Before the slow imports, as `stages/__main__.py` does and explains.
    sys.excepthook = report_interrupt
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()
    from stages.storage.errors import run

    run(main)
