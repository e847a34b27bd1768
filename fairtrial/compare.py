"""Compare revisions: is each of them better or worse than the first, and is that significant?

python -m fairtrial compare HEAD~1 HEAD
python -m fairtrial compare main workspace slower --md
"""

import argparse
import sys
from typing import Any

import pandas as pd

from fairtrial.project.errors import InputError
from fairtrial.project.scores import load_scores
from fairtrial.project.sweeps import load_chosen
from fairtrial.statistics.comparison import compare, summary_lines, to_json
from fairtrial.tables import (
    difference_table,
    params_table,
    print_tables,
    scores_table,
    to_latex,
    to_markdown,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a commit, branch, tag, experiment, workspace")
    parser.add_argument("others", metavar="B", nargs="+", help="each is compared with A")
    parser.add_argument("--metric", metavar="NAME", help="(default: the first of the contract)")
    parser.add_argument("--split", metavar="NAME", help="(default: that of the contract)")
    parser.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="each B was chosen as the best of N on the same examples (default: as recorded by the "
        "sweep that made it, or 1)",
    )
    add_output_arguments(parser)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `until-decided` has, too."""
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--md", action="store_true", help="print Markdown")
    formats.add_argument("--latex", action="store_true", help="print LaTeX, for a paper")
    formats.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--fail-if-worse", action="store_true", help="exit with 1 if a B is significantly worse"
    )


def print_result(
    args: argparse.Namespace, values: dict[str, Any], tables: list[pd.DataFrame], lines: list[str]
) -> None:
    """Print tables and lines, or the values as JSON, in the format of `add_output_arguments`."""
    if args.json:
        print(to_json(values))
    elif args.md:
        print(to_markdown(tables, lines))
    elif args.latex:
        print(to_latex(tables, lines))
    else:
        print_tables(tables, lines)


def main(args: argparse.Namespace) -> None:
    if args.best_of is not None and args.best_of < 1:
        raise InputError("--best-of has to be 1 or more")
    revisions = [load_scores(args.first, args.split)]
    first = revisions[0]
    name, metric = first.contract.metric(args.metric)
    revisions += [load_scores(other, first.split) for other in args.others]
    chosen = {} if args.best_of else load_chosen()
    best_of = [args.best_of or chosen.get(other, 1) for other in args.others]
    comparisons = compare(first, revisions[1:], name, best_of)
    tables = [
        params_table(revisions, only_changed=True),
        scores_table(revisions, name, metric),
        difference_table(first, comparisons, metric),
    ]
    others = [comparison._asdict() for comparison in comparisons]
    values = {"first": first.name, "split": first.split, "metric": name, "others": others}
    print_result(args, values, tables, summary_lines(comparisons, first))
    if args.fail_if_worse and any(one.outcome == "worse" for one in comparisons):
        sys.exit(1)
