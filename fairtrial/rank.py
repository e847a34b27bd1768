"""Rank revisions: which of them can be told apart?

  python -m fairtrial rank HEAD higher-lr wider

All pairs are compared, and corrected together: revisions that share a letter are not told apart.
"""

import argparse
import itertools
from collections.abc import Callable

import pandas as pd

from fairtrial.compare import (
    add_output_formats,
    add_question_arguments,
    load_revisions,
    print_result,
)
from fairtrial.project.chosen import load_chosen
from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import compare_pairs, shared_metric
from fairtrial.statistics.matching import find_choice
from fairtrial.tables import spread_text

MAX_REVISIONS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revisions", metavar="A", nargs="+", help="two or more revisions")
    parser.add_argument("--metric", metavar="NAME", help="(default: the first of the contract)")
    add_question_arguments(parser)
    add_output_formats(parser)


def main(args: argparse.Namespace) -> None:
    names = list(dict.fromkeys(args.revisions))
    if not 2 <= len(names) <= MAX_REVISIONS:
        raise InputError(f"rank: needs from 2 to {MAX_REVISIONS} different revisions")
    revisions = load_revisions(names, args)
    name, metric = shared_metric(revisions, args.metric)
    revisions.sort(key=lambda one: -metric.sign * one.scores[name].mean())
    chosen = load_chosen()
    order = list(itertools.combinations(range(len(revisions)), 2))
    choices = [find_choice(revisions[i], revisions[j], chosen) for i, j in order]
    compared = compare_pairs(revisions, order, [name], choices, args.balanced)[name]
    pairs = dict(zip(order, compared, strict=True))
    letters = group_letters(len(revisions), lambda i, j: pairs[i, j].outcome == "undecided")
    unit = f" {metric.unit}".rstrip()
    rows = []
    for position, revision in enumerate(revisions):
        rows.append(
            {
                "rank": str(
                    1 + sum(pairs[i, position].outcome == "worse" for i in range(position))
                ),
                "revision": revision.name,
                "seeds": str(revision.replicas),
                f"{name}: mean ± sd{unit}": spread_text(revision.scores[name], metric),
                "group": letters[position],
            }
        )
    best = [one.name for one, letter in zip(revisions, letters, strict=True) if "a" in letter]
    lines = [
        f"{', '.join(best)}: not told apart, and none is shown to be worse than another of them"
        if len(best) > 1
        else f"{best[0]} is better than all others",
        f"all {len(pairs):,} pairs are corrected together; revisions with a common letter are not "
        "told apart",
    ]
    values = {
        "split": revisions[0].split,
        "metric": name,
        "ranking": [
            {"name": one.name, "mean": float(one.scores[name].mean()), "group": letter}
            for one, letter in zip(revisions, letters, strict=True)
        ],
        "pairs": [
            {"first": revisions[i].name, **comparison._asdict()}
            for (i, _), comparison in pairs.items()
        ],
    }
    print_result(args, values, [pd.DataFrame(rows)], lines)


def group_letters(count: int, is_alike: Callable[[int, int], bool]) -> list[str]:
    """Return the letters of ranked revisions; those that share one are all alike.

    A letter stands for a maximal run of neighbours in the ranking of which no two differ.
    """
    runs: list[range] = []
    for first in range(count):
        last = first
        while last + 1 < count and all(is_alike(i, last + 1) for i in range(first, last + 1)):
            last += 1
        if not runs or last >= runs[-1].stop:
            runs.append(range(first, last + 1))
    names = [_letter(number) for number in range(len(runs))]
    return [
        "".join(name for name, run in zip(names, runs, strict=True) if position in run)
        for position in range(count)
    ]


def _letter(number: int) -> str:
    """Return a, b, ..., z, a1, b1, ..."""
    return "abcdefghijklmnopqrstuvwxyz"[number % 26] + (str(number // 26) if number >= 26 else "")
