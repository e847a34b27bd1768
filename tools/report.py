"""Write a page about revisions: comparison, curves, mistakes, and a canvas to draw on.

The page is `report.html`, which needs no network and no other file. Without a revision it
compares the workspace with HEAD, or shows HEAD alone if the two are equal. The page classifies
what is drawn with the model of the last revision.

    python -m tools.report
    python -m tools.report HEAD~1 HEAD --output report.html --figures figures
"""

import argparse
from pathlib import Path

from stages.storage.errors import printable, run, shorten
from stages.storage.files import write_bytes
from tools.analysis.results import default_revisions
from tools.web.page import render_report
from tools.web.paper import write_figures


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.report", description="Write a page about revisions."
    )
    parser.add_argument(
        "revisions",
        metavar="REV",
        nargs="*",
        help="a commit, branch, tag, experiment or `workspace`; the others are compared with the "
        "first",
    )
    parser.add_argument("--output", type=Path, default=Path("report.html"))
    parser.add_argument(
        "--figures",
        metavar="FOLDER",
        type=Path,
        help="write the plots there too, as SVG and PDF for a paper",
    )
    args = parser.parse_args()
    names = list(dict.fromkeys(args.revisions)) or default_revisions()
    page, figures = render_report(names)
    if args.figures:
        write_figures(figures, args.figures)
    write_bytes(args.output, page.encode())
    print(shorten(printable(f"{args.output}: {', '.join(names)}")))


if __name__ == "__main__":
    run(main)
