"""Compare revisions: is each of them better or worse than the first, and is that significant?

A revision is what git or DVC calls one: a commit, branch or tag, `workspace`, an experiment.

    python -m tools.compare HEAD~1 HEAD
    python -m tools.compare main workspace slower --md
"""

import argparse
import sys

from stages.storage.errors import run
from tools.analysis.comparison import compare, summary_lines, to_json
from tools.analysis.results import load_results
from tools.analysis.tables import (
    accuracy_table,
    changed_params_table,
    difference_table,
    print_tables,
    to_latex,
    to_markdown,
)
from tools.search.rows import load_chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare", description="Compare revisions with the first of them."
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("others", metavar="B", nargs="+")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--md", action="store_true", help="print Markdown")
    formats.add_argument("--latex", action="store_true", help="print LaTeX, for a paper")
    formats.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="each B was chosen as the best of N on the same images (default: as the sweep says "
        "that made it, or 1)",
    )
    parser.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="exit with 1 if one of them is significantly worse",
    )
    args = parser.parse_args()
    if args.best_of is not None and args.best_of < 1:
        parser.error("--best-of has to be 1 or more")
    first, *others = revisions = [
        load_results(name, args.split) for name in (args.first, *args.others)
    ]
    chosen = load_chosen()
    best_of = [args.best_of or chosen.get(other.name, 1) for other in others]
    comparisons = compare(first, others, best_of)
    tables = [
        changed_params_table(revisions),
        accuracy_table(revisions),
        difference_table(first, comparisons),
    ]
    lines = summary_lines(comparisons, args.split)
    if args.json:
        print(to_json(first, args.split, comparisons))
    elif args.md:
        print(to_markdown(tables, lines))
    elif args.latex:
        print(to_latex(tables, lines))
    else:
        print_tables(tables, lines)
    if args.fail_if_worse and any(comparison.outcome == "worse" for comparison in comparisons):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
