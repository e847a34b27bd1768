"""The command line of a tool that writes a file about the model of a revision."""

import argparse
from pathlib import Path


def parse_arguments(name: str, description: str, output: str) -> argparse.Namespace:
    """Return the arguments of the tool `name`: a revision, and a path that is `output` by default.

    The revision is the workspace unless one is named.
    """
    parser = argparse.ArgumentParser(prog=f"python -m tools {name}", description=description)
    parser.add_argument(
        "revision",
        metavar="REV",
        nargs="?",
        default="workspace",
        help="a commit, branch, tag, experiment or `workspace` (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, default=Path(output), help="(%(default)s)")
    return parser.parse_args()
