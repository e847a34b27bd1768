"""Compare revisions: is each of them better or worse than the first, and is that significant?

python -m fairtrial compare HEAD~1 HEAD
python -m fairtrial compare main workspace slower --md
"""

import argparse
import itertools
import math
import sys
from typing import Any

import pandas as pd

from fairtrial.project.chosen import load_chosen
from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision, load_scores, select
from fairtrial.statistics.comparison import compare_pairs, summary_lines, to_json
from fairtrial.statistics.matching import Choice, find_choice, refuse_other_task
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
    parser.add_argument(
        "--metric",
        metavar="NAME",
        action="append",
        help="repeat it for several (default: the first of the contract)",
    )
    add_question_arguments(parser)
    parser.add_argument(
        "--margin",
        type=float,
        metavar="D",
        help="say whether B is not worse by D, in the unit of the metric (points for %%)",
    )
    parser.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="each B was chosen as the best of N on the same examples (default: as recorded by the "
        "sweep that made it, or 1)",
    )
    add_output_arguments(parser)


def add_question_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `rank` has, too."""
    parser.add_argument("--split", metavar="NAME", help="(default: that of the contract)")
    parser.add_argument(
        "--slice", metavar="COLUMN=VALUE", help="only examples with this label or group: label=7"
    )
    parser.add_argument(
        "--balanced", action="store_true", help="let the means of all classes count the same"
    )
    parser.add_argument(
        "--other-task", action="store_true", help="compare revisions with other classes, too"
    )


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `until-decided` has, too."""
    add_output_formats(parser)
    parser.add_argument(
        "--fail-if-worse", action="store_true", help="exit with 1 if a B is significantly worse"
    )


def add_output_formats(parser: argparse.ArgumentParser) -> None:
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--md", action="store_true", help="print Markdown")
    formats.add_argument("--latex", action="store_true", help="print LaTeX, for a paper")
    formats.add_argument("--json", action="store_true", help="print JSON")


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
    if args.margin is not None and not 0 < args.margin < math.inf:
        raise InputError("--margin has to be above 0")
    names = list(dict.fromkeys(args.metric or [None]))
    if args.margin is not None and len(names) > 1:
        raise InputError("--margin is in the unit of one metric: give --metric once")
    revisions = load_revisions([args.first, *args.others], args)
    first, *others = revisions
    choices: list[Choice | None] = [None] * len(others)
    if args.best_of is None:
        chosen = load_chosen()
        choices = [find_choice(first, other, chosen) for other in others]
    elif args.best_of > 1:
        choices = [Choice(args.best_of, same_examples=True, same_seeds=True)] * len(others)
    margin = args.margin and first.contract.metric(names[0])[1].parse(args.margin)
    pairs = [(0, position) for position in range(1, len(revisions))]
    by_metric = compare_pairs(revisions, pairs, names, choices, args.balanced, margin)
    tables = [params_table(revisions, only_changed=True)]
    for name in by_metric:
        metric = first.contract.metrics[name]
        tables.append(scores_table(revisions, name, metric))
        tables.append(difference_table(first, by_metric[name], metric))
    primary = first.contract.default_metric
    as_values = {name: [one._asdict() for one in by_metric[name]] for name in by_metric}
    values = {
        "first": first.name,
        "split": first.split,
        "slice": args.slice,
        "balanced": args.balanced,
        "primary": primary if primary in by_metric else None,
        "metric": next(iter(by_metric)),
        "others": next(iter(as_values.values())),
        "metrics": as_values,
    }
    lines = summary_lines(by_metric, first)
    if args.balanced:
        lines.insert(0, "all classes count the same in the differences")
    print_result(args, values, tables, lines)
    compared = itertools.chain(*by_metric.values())
    if args.fail_if_worse and any(one.outcome == "worse" for one in compared):
        sys.exit(1)


def load_revisions(names: list[str], args: argparse.Namespace) -> list[Revision]:
    """Return revisions on the split and the slice that the options name.

    Raises `InputError` if a revision lacks them, or if the revisions have other classes.
    """
    first = load_scores(names[0], args.split)
    revisions = [first, *(load_scores(name, first.split) for name in names[1:])]
    if not args.other_task:
        for other in revisions[1:]:
            refuse_other_task(first, other, "--other-task compares them all the same")
    return [select(revision, args.slice) for revision in revisions] if args.slice else revisions
