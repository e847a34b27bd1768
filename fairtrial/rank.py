"""Rank revisions: which of them can be told apart?

  python -m fairtrial rank HEAD higher-lr wider

All pairs are compared, and corrected together: revisions that share a letter are not told apart.
"""

import argparse
import itertools
from collections.abc import Callable, Sequence

import pandas as pd

from fairtrial.compare import (
    add_output_formats,
    add_question_arguments,
    load_revisions,
    print_result,
)
from fairtrial.project.chosen import load_chosen
from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision
from fairtrial.statistics.comparison import Comparison, compare_pairs, shared_metric
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
    revisions, pairs, letters = rank(revisions, name, args.balanced)
    unit = f" {metric.unit}".rstrip()
    ranks = [
        1 + sum(pairs[i, position].outcome == "worse" for i in range(position))
        for position in range(len(revisions))
    ]
    rows = [
        {
            "rank": str(rank),
            "revision": revision.name,
            "seeds": str(revision.replicas),
            f"{name}: mean ± sd{unit}": spread_text(revision.scores[name], metric),
            "group": of_one,
        }
        for rank, revision, of_one in zip(ranks, revisions, letters, strict=True)
    ]
    best = [one.name for one, rank in zip(revisions, ranks, strict=True) if rank == 1]
    first = f"{', '.join(best)}: not shown to be worse than another"
    if all(pairs[0, position].outcome == "worse" for position in range(1, len(revisions))):
        first = f"{best[0]} is better than all others"
    lines = [
        first,
        "all pairs are corrected together; revisions with a common letter are not told apart",
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


def rank(
    revisions: Sequence[Revision], name: str, balanced: bool = False
) -> tuple[list[Revision], dict[tuple[int, int], Comparison], list[str]]:
    """Return revisions, the best first, the comparison of each pair, and their letters."""
    sign = revisions[0].contract.sign(name)
    ranked = sorted(revisions, key=lambda one: -sign * one.scores[name].mean())
    chosen = load_chosen()
    order = list(itertools.combinations(range(len(ranked)), 2))
    choices = [find_choice(ranked[i], ranked[j], chosen) for i, j in order]
    compared = compare_pairs(ranked, order, [name], choices, balanced)[name]
    pairs = dict(zip(order, compared, strict=True))
    letters = group_letters(len(ranked), lambda i, j: pairs[i, j].outcome == "undecided")
    return ranked, pairs, letters


def group_letters(count: int, is_alike: Callable[[int, int], bool]) -> list[str]:
    """Return the letters of ranked revisions: two share one exactly when they are alike.

    A letter stands for revisions of which no two differ, and to which no other can be added.
    """
    alike = [
        {j for j in range(count) if j == i or is_alike(min(i, j), max(i, j))} for i in range(count)
    ]
    letters = [""] * count
    covered: set[tuple[int, int]] = set()  # pairs that share a letter
    names = map(_letter, itertools.count())
    for i, j in itertools.combinations_with_replacement(range(count), 2):
        if j in alike[i] and (i, j) not in covered:
            members = {i, j}
            for other in range(count):
                if alike[other] >= members:
                    members.add(other)
            name = next(names)
            for member in members:
                letters[member] += name
            covered |= set(itertools.combinations_with_replacement(sorted(members), 2))
    return letters


def _letter(number: int) -> str:
    """Return a, b, ..., z, a1, b1, ..."""
    return "abcdefghijklmnopqrstuvwxyz"[number % 26] + (str(number // 26) if number >= 26 else "")
