"""Compare the results of revisions, and put the result in words."""

import json
import math
from typing import Literal, NamedTuple

import numpy as np

from tools.analysis.results import Revision
from tools.analysis.significance import (
    Difference,
    difference,
    holm,
    mcnemar,
    required_sample_size,
)

LEVEL = 0.05  # of significance


class Comparison(NamedTuple):
    """The comparison of a revision B with a revision A."""

    name: str  # of B
    difference: Difference  # B minus A
    p: float  # of the difference, corrected for the number of revisions compared with A
    only_a: int  # images that only A's model gets right
    only_b: int
    mcnemar_p: float | None  # of the two models; None if their images differ
    remarks: list[str]
    verdict: str

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether B is better or worse than A, as far as the data show it."""
        return outcome(self.difference, self.p)


def compare(first: Revision, others: list[Revision]) -> list[Comparison]:
    """Return the comparison of each of the others with the first."""
    differences = [
        difference(
            first.correct,
            other.correct,
            has_same_images(first, other),
            has_same_seeds(first, other),
        )
        for other in others
    ]
    p_values = holm([diff.p for diff in differences])
    comparisons = []
    for other, diff, p in zip(others, differences, p_values, strict=True):
        remarks = []
        only_a, only_b, mcnemar_p = 0, 0, None
        if has_same_images(first, other):
            only_a, only_b, mcnemar_p = mcnemar(first.correct[0], other.correct[0])
        else:
            remarks.append(
                "unpaired: the images or labels differ "
                f"({len(first.images):,} and {len(other.images):,} images)"
            )
        if 1 in (len(first.correct), len(other.correct)):
            remarks.append(
                "one seed: the variation between seeds is unknown and not part of the interval"
            )
        verdict = describe(diff, p, first, other, len(others))
        comparisons.append(
            Comparison(other.name, diff, p, only_a, only_b, mcnemar_p, remarks, verdict)
        )
    return comparisons


def has_same_images(first: Revision, other: Revision) -> bool:
    return first.data_md5 == other.data_md5 and np.array_equal(first.images, other.images)


def has_same_seeds(first: Revision, other: Revision) -> bool:
    seeds = [
        (revision.params.get("train.seed"), len(revision.correct)) for revision in (first, other)
    ]
    return seeds[0] == seeds[1]


def outcome(diff: Difference, p: float) -> Literal["better", "worse", "undecided"]:
    if p >= LEVEL:
        return "undecided"
    return "better" if diff.value > 0 else "worse"


def describe(diff: Difference, p: float, first: Revision, other: Revision, compared: int) -> str:
    """Return in words whether B is better or worse, or how much data would be required to tell.

    p: corrected for the number of revisions that are compared with A, `compared`.
    """
    interval = f"95 % CI {100 * diff.low:.1f} to {100 * diff.high:.1f}"
    result = outcome(diff, p)
    if result != "undecided":
        corrected = f", Holm-corrected p = {p:.2g}" if compared > 1 else ""
        return f"{other.name} is {result} ({100 * diff.value:+.1f} points, {interval}{corrected})"
    message = f"{other.name}: no difference shown ({100 * diff.value:+.1f} points, {interval})"
    if np.array_equal(first.correct, other.correct):
        return f"{message}: the same images are right in both"
    numbers = required_sample_size(diff, len(other.images), len(other.correct))
    required = [
        f"{round_up(number)} {unit}"
        for number, unit in zip(numbers, ("images", "seeds"), strict=True)
        if number is not None
    ]
    if not required:
        return message
    size = f"{100 * abs(diff.value):.2g} points"
    return f"{message}; at this noise about {' and '.join(required)} would be needed to see {size}"


def round_up(number: int) -> str:
    """Return a number rounded up to two significant digits: more would be false precision."""
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // step) * step:,}"


def summary_lines(comparisons: list[Comparison], split: str) -> list[str]:
    """Return the remarks and the verdicts, a line each."""
    lines = [
        f"{comparison.name}: {remark}"
        for comparison in comparisons
        for remark in comparison.remarks
    ]
    lines += [comparison.verdict for comparison in comparisons]
    if split == "test":
        lines.append(
            "choose by val: once you have chosen by test, its accuracy is no longer an unbiased "
            "estimate"
        )
    return lines


def to_json(first: Revision, split: str, comparisons: list[Comparison]) -> str:
    """Return the comparisons as JSON; an unknown number is null."""
    others = []
    for comparison in comparisons:
        numbers = {
            key: None if math.isnan(number) else number
            for key, number in comparison.difference._asdict().items()
        }
        others.append({**comparison._asdict(), "difference": numbers})
    return json.dumps({"first": first.name, "split": split, "others": others}, indent=2)
