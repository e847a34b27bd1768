"""Compare the results of revisions, and put the result in words."""

import json
from typing import Literal, NamedTuple

import numpy as np

from fairtrial.project.scores import Revision
from fairtrial.statistics.significance import (
    LEVEL,
    Difference,
    Pairs,
    difference,
    mcnemar,
    required_sample_size,
)

Outcome = Literal["better", "worse", "undecided"]


class Comparison(NamedTuple):
    """The comparison of a revision B with a revision A.

    p and the interval come from one distribution and are corrected for the number of comparisons:
    the interval excludes 0 just where p is below 0.05. All three are None where one side has a
    single seed, which says nothing about other seeds.
    """

    name: str  # of B
    value: float  # the mean accuracy of B minus that of A
    low: float | None
    high: float | None
    p: float | None
    se_images: float  # the standard error of the value that the images cause
    se_seeds: float | None  # and that the seeds cause
    won: float  # pairs of replicas of the same seed in which B is better; a tie counts half
    pairs: int
    only_a: int  # images that only A's model classifies correctly
    only_b: int
    mcnemar_p: float | None  # of the two models; None if their images differ
    outcome: Outcome
    remarks: list[str]
    verdict: str


def compare(
    first: Revision, others: list[Revision], best_of: list[int] | None = None
) -> list[Comparison]:
    """Return the comparison of each of the others with the first.

    best_of: of how many settings each of the others was chosen as the best, on the same images;
    of one each unless given.
    """
    best_of = best_of or [1] * len(others)
    return [
        compare_two(first, other, len(others), settings)
        for other, settings in zip(others, best_of, strict=True)
    ]


def compare_two(first: Revision, other: Revision, revisions: int, settings: int) -> Comparison:
    """Return the comparison of B with A, corrected for the number of comparisons (Bonferroni).

    revisions: how many revisions are compared with A; settings: of how many B was the best.

    Holm's correction would be a little more powerful, but has no simultaneous intervals that
    always agree with it.
    """
    comparisons = revisions * settings
    same_images = has_same_images(first, other)
    remarks = []
    only_a, only_b, mcnemar_p = 0, 0, None
    if same_images:
        only_a, only_b, mcnemar_p = mcnemar(first.correct[0], other.correct[0])
    else:
        remarks.append(
            "unpaired: the images or labels differ "
            f"({len(first.images):,} and {len(other.images):,} images)"
        )
    pairs = common_seeds(first, other) if same_images else []
    replicas = min(len(first.correct), len(other.correct))
    if replicas == 1:  # compare the two models alone
        diff = difference(first.correct[:1], other.correct[:1], same_images, [])
    else:
        diff = difference(first.correct, other.correct, same_images, pairs)
    gains = [other.correct[b].mean() - first.correct[a].mean() for a, b in pairs]
    won = sum(1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in gains)
    low, high, p = None, None, None
    outcome: Outcome = "undecided"
    if diff.seeds is not None:
        low, high = diff.interval(comparisons)
        p = min(1.0, comparisons * diff.p)
        if p < LEVEL:
            outcome = "better" if diff.value > 0 else "worse"
    if settings > 1 and p is not None:
        remarks.append(
            "p and the interval are corrected for the choice of the best of "
            f"{settings:,} on the same images"
        )
    if diff.seeds is None:
        verdict = describe_models(other.name, only_a, only_b, mcnemar_p)
    elif outcome == "undecided":
        verdict = describe_undecided(first, other, diff, (low, high))
    else:
        verdict = (
            f"{other.name} is {outcome} ({100 * diff.value:+.1f} points, "
            f"{_interval_text(low, high)}, p = {p:.2g})"
        )
    return Comparison(
        other.name,
        diff.value,
        low,
        high,
        p,
        diff.images.value**0.5,
        None if diff.seeds is None else diff.seeds.value**0.5,
        won,
        len(pairs),
        only_a,
        only_b,
        mcnemar_p,
        outcome,
        remarks,
        verdict,
    )


def has_same_images(first: Revision, other: Revision) -> bool:
    return first.data_md5 == other.data_md5 and np.array_equal(first.images, other.images)


def common_seeds(first: Revision, other: Revision) -> Pairs:
    """Return the positions, in both revisions, of the replicas of the same seed."""
    positions = {seed: position for position, seed in enumerate(_seeds(first))}
    return [
        (positions[seed], position)
        for position, seed in enumerate(_seeds(other))
        if seed in positions
    ]


def _seeds(revision: Revision) -> list[int]:
    seed = revision.params.get("train.seed")
    return replica_seeds(seed, len(revision.correct)) if isinstance(seed, int) else []


def _interval_text(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 % CI {100 * low:.1f} to {100 * high:.1f}"


def describe_models(name: str, only_a: int, only_b: int, mcnemar_p: float | None) -> str:
    """Return in words what one seed on a side says: something about two models at most."""
    advice = "set train.replicas to 5 in both to compare what they were trained with"
    if mcnemar_p is None:
        return f"{name}: one seed and other images say nothing; {advice}"
    if mcnemar_p < LEVEL:
        which = "more" if only_b > only_a else "fewer"
        result = f"its model classifies {which} of these images correctly"
    else:
        result = "no difference shown between the two models"
    return (
        f"{name}: {result} (McNemar p = {mcnemar_p:.2g}); one seed says nothing about another; "
        f"{advice}"
    )


def describe_undecided(
    first: Revision,
    other: Revision,
    diff: Difference,
    interval: tuple[float | None, float | None],
) -> str:
    """Return in words that no difference is shown, and how much data would be required to tell."""
    message = (
        f"{other.name}: no difference shown "
        f"({100 * diff.value:+.1f} points, {_interval_text(*interval)})"
    )
    if np.array_equal(first.correct, other.correct):
        return f"{message}: the same images are right in both"
    replicas = min(len(first.correct), len(other.correct))
    images, seeds = required_sample_size(diff, replicas)
    size = f"a difference of {100 * abs(diff.value):.2g} points"
    required = [
        f"{round_up(number)} {unit}"
        for number, unit in ((images, "images"), (seeds, "seeds"))
        if number is not None
    ]
    if not required:
        return message
    limit = "" if images is None else ", which more seeds alone cannot show"
    return f"{message}; about {' and '.join(required)} would be needed to show {size}{limit}"


def round_up(number: int) -> str:
    """Return a number rounded up to two significant digits: more would be false precision."""
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // step) * step:,}"


def summary_lines(comparisons: list[Comparison], split: str) -> list[str]:
    """Return the remarks and the verdicts, one per line."""
    lines = [*remark_lines(comparisons), *(comparison.verdict for comparison in comparisons)]
    if split == "test":
        lines.append(
            "choose by val: once you have chosen by test, its accuracy is no longer an unbiased "
            "estimate"
        )
    return lines


def remark_lines(comparisons: list[Comparison]) -> list[str]:
    """Return what has to be known of the comparisons, one remark per line."""
    names: dict[str, list[str]] = {}  # of the revisions with the same remark
    for comparison in comparisons:
        for remark in comparison.remarks:
            names.setdefault(remark, []).append(comparison.name)
    lines = [f"{', '.join(same)}: {remark}" for remark, same in names.items()]
    if len(comparisons) > 1:
        lines.append(f"p and the intervals are corrected for {len(comparisons):,} comparisons")
    return lines


def to_json(first: Revision, split: str, comparisons: list[Comparison]) -> str:
    """Return the comparisons as JSON; what is unknown is null."""
    others = [comparison._asdict() for comparison in comparisons]
    return json.dumps({"first": first.name, "split": split, "others": others}, indent=2)
