"""Compare revisions: is each of them better or worse than the first, and is that significant?

A revision is what git or DVC calls one: a commit, branch or tag, `workspace`, an experiment.

    python -m fairtrial.compare HEAD~1 HEAD
    python -m fairtrial.compare main workspace slower --md
    python -m fairtrial.compare HEAD slower --until-known
"""

import argparse
import signal
import sys

from fairtrial.project.errors import run
from fairtrial import until_decided as more_replicas
from fairtrial.statistics.comparison import compare, summary_lines, to_json
from fairtrial.project.results import load_results
from fairtrial.statistics.sequential import MIN_DECISIVE
from fairtrial.tables import (
    accuracy_table,
    changed_params_table,
    difference_table,
    print_tables,
    to_latex,
    to_markdown,
)
from fairtrial.search.rows import load_chosen

MAX_REPLICAS = 100  # of each revision, unless the user says otherwise


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fairtrial.compare", description="Compare revisions with the first of them."
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
    parser.add_argument(
        "--until-known",
        action="store_true",
        help="train more replicas of A and B until it is known which of them is better",
    )
    parser.add_argument(
        "--max-replicas",
        type=int,
        metavar="N",
        help=f"of each with --until-known (default: {MAX_REPLICAS})",
    )
    args = parser.parse_args()
    if args.best_of is not None and args.best_of < 1:
        parser.error("--best-of has to be 1 or more")
    max_replicas = MAX_REPLICAS if args.max_replicas is None else args.max_replicas
    if args.max_replicas is not None and not args.until_known:
        parser.error("--max-replicas belongs to --until-known: add that")
    if args.until_known:
        if args.best_of is not None:
            parser.error("--until-known does not correct for a choice: omit --best-of")
        if len(args.others) > 1:
            parser.error("--until-known compares two revisions: give one B")
        if args.split == "test":
            parser.error("--until-known chooses, and to choose is what val is for: omit --split")
        if max_replicas < MIN_DECISIVE:
            parser.error(f"--max-replicas has to be {MIN_DECISIVE} or more: fewer decide nothing")
    # As Ctrl-C, so that the folders of --until-known do not outlive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    first, *others = revisions = [
        load_results(name, args.split) for name in (args.first, *args.others)
    ]
    tables = [changed_params_table(revisions)]
    if args.until_known:
        look = more_replicas.train_until_known(first, others[0], max_replicas)
        outcomes = [look.outcome]
        lines = [more_replicas.describe(others[0].name, look)]
        text = more_replicas.to_json(first.name, others[0].name, look)
    else:
        chosen = load_chosen()
        best_of = [args.best_of or chosen.get(other.name, 1) for other in others]
        comparisons = compare(first, others, best_of)
        outcomes = [comparison.outcome for comparison in comparisons]
        tables += [accuracy_table(revisions), difference_table(first, comparisons)]
        lines = summary_lines(comparisons, args.split)
        text = to_json(first, args.split, comparisons)
    if args.json:
        print(text)
    elif args.md:
        print(to_markdown(tables, lines))
    elif args.latex:
        print(to_latex(tables, lines))
    else:
        print_tables(tables, lines)
    if args.fail_if_worse and "worse" in outcomes:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
