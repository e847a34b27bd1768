"""Write a page about revisions: verdicts, tables, and the plots and pictures of `dvc.yaml`.

The page is `report.html`, which needs no network and no other file. Without a revision it
compares the workspace with HEAD, or shows HEAD alone if the two are equal.

    python -m fairtrial report
    python -m fairtrial report HEAD~1 HEAD --output report.html --figures figures
"""

import argparse
from pathlib import Path

from fairtrial.project.errors import printable, shorten


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    revisions = (
        "a commit, branch, tag, experiment or `workspace`; the first is compared with others"
    )
    add("revisions", metavar="REV", nargs="*", help=revisions)
    add("--output", type=Path, default=Path("report.html"))
    figures = "write the plots there too, as SVG and PDF for a paper"
    add("--figures", metavar="FOLDER", type=Path, help=figures)


def main(args: argparse.Namespace) -> None:
    from fairtrial.project.files import write_bytes
    from fairtrial.project.scores import default_revisions
    from fairtrial.statistics.matching import OtherTaskError
    from fairtrial.web.own_plots import write_figures
    from fairtrial.web.page import render_report

    names = list(dict.fromkeys(args.revisions)) or default_revisions()
    try:
        page, plots = render_report(names)
    except OtherTaskError:
        if args.revisions:
            raise
        names = names[1:]  # the workspace alone: it has other data than the last commit
        page, plots = render_report(names)
    if args.figures:
        write_figures(plots, args.figures)
    write_bytes(args.output, page.encode())
    print(shorten(printable(f"{args.output}: {', '.join(names)}")))
