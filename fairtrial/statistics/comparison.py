"""Compare the scores of revisions, and put the result in words."""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision
from fairtrial.statistics.significance import (
    LEVEL,
    Array,
    Difference,
    difference,
    is_right_or_wrong,
    mcnemar,
    required_sample_size,
)

Outcome = Literal["better", "worse", "undecided"]


class Comparison(NamedTuple):
    """The comparison of a revision B with a revision A by a metric.

    p and the interval come from one distribution and are corrected for the number of comparisons:
    the interval excludes 0 exactly when p < 0.05. All three are None where one side has a single
    seed, which says nothing about other seeds.
    """

    name: str  # of B
    value: float  # the mean score of B minus that of A
    low: float | None
    high: float | None
    p: float | None
    se_examples: float  # the standard error of the value that the examples cause
    se_seeds: float | None  # and that the seeds cause
    won: float  # pairs of replicas of the same seed in which B is better; a tie counts half
    pairs: int
    only_a: int  # examples that only A's first replica gets right; 0 unless scores are 0 or 1
    only_b: int
    mcnemar_p: float | None  # of the two models; None if examples differ or scores are not 0 or 1
    outcome: Outcome
    remarks: list[str]
    verdict: str


def compare(
    first: Revision,
    others: Sequence[Revision],
    metric: str | None = None,
    best_of: Sequence[int] | None = None,
) -> list[Comparison]:
    """Return the comparison of each of the others with the first, by a metric of its contract.

    best_of: for each of the others, the number of settings that it was chosen from as the best on
        the same examples; 1 unless given.

    Raises `InputError` if a revision does not have the metric, or has it with another direction.
    """
    name, definition = shared_metric([first, *others], metric)
    return [
        _compare_two(first, other, name, definition, len(others), settings)
        for other, settings in zip(others, best_of or [1] * len(others), strict=True)
    ]


def shared_metric(revisions: Sequence[Revision], name: str | None) -> tuple[str, Metric]:
    """Return a metric that all revisions have, by default that of the first one's contract.

    Raises `InputError` if one of them does not have it, or means something else by it.
    """
    first = revisions[0]
    name, metric = first.contract.metric(name)
    for other in revisions[1:]:
        if other.contract.metrics.get(name) != metric:
            theirs = other.contract.metrics.get(name, "no such metric")
            raise InputError(
                f"{other.name}: dvc.yaml says of {name}: {theirs}; and {first.name}: {metric}; "
                "choose another by --metric, or give both the same contract"
            )
    return name, metric


def _compare_two(
    first: Revision, other: Revision, name: str, metric: Metric, revisions: int, settings: int
) -> Comparison:
    """Return the comparison of B with A, corrected for the number of comparisons (Bonferroni).

    revisions: how many revisions are compared with A; settings: of how many B was the best.

    Holm's correction would be a little more powerful, but has no simultaneous intervals that
    always agree with it.
    """
    a, b = first.scores[name], other.scores[name]
    comparisons = revisions * settings
    same_examples = has_same_examples(first, other)
    remarks = []
    only_a, only_b, mcnemar_p = 0, 0, None
    if not same_examples:
        remarks.append(
            "unpaired: the examples or labels differ "
            f"({len(first.examples):,} and {len(other.examples):,} examples)"
        )
    elif is_right_or_wrong(a, b):
        only_a, only_b, mcnemar_p = mcnemar(a[0], b[0])
    pairs = common_replicas(first, other) if same_examples else 0
    if min(len(a), len(b)) == 1:  # compare the two models alone
        diff = difference(a[:1], b[:1], same_examples, 0)
    else:
        diff = difference(a, b, same_examples, pairs)
    gains = metric.sign * (b[:pairs].mean(1) - a[:pairs].mean(1))
    won = float((gains > 0).sum() + (gains == 0).sum() / 2)
    low, high, p = None, None, None
    outcome: Outcome = "undecided"
    if diff.seeds is None:
        test, p_of_models = ("t-test", diff.p) if mcnemar_p is None else ("McNemar", mcnemar_p)
        result = "no difference shown between the two models"
        if p_of_models < LEVEL:
            which = "better" if metric.sign * diff.value > 0 else "worse"
            result = f"its model is {which} on these examples"
        said = f"{result} ({test} p = {p_of_models:.2g}); one seed says nothing about another"
        if not same_examples:
            said = "one seed and other examples say nothing"
        advice = (
            f"set {first.contract.replicas} to 5 in both to compare what they were trained with"
        )
        verdict = f"{other.name}: {said}; {advice}"
    else:
        low, high = diff.interval(comparisons)
        p = min(1.0, comparisons * diff.p)
        shown = change_text(diff.value, low, high, metric)
        if p < LEVEL:
            outcome = "better" if metric.sign * diff.value > 0 else "worse"
            verdict = f"{other.name} is {outcome} ({shown}, p = {p:.2g})"
        else:
            verdict = f"{other.name}: no difference shown ({shown}){_advice(a, b, diff, metric)}"
        if settings > 1:
            remarks.append(
                "p and the interval are corrected for the choice of the best of "
                f"{settings:,} on the same examples"
            )
    return Comparison(
        other.name,
        diff.value,
        low,
        high,
        p,
        diff.examples.value**0.5,
        None if diff.seeds is None else diff.seeds.value**0.5,
        won,
        pairs,
        only_a,
        only_b,
        mcnemar_p,
        outcome,
        remarks,
        verdict,
    )


def has_same_examples(first: Revision, other: Revision) -> bool:
    """Return whether two revisions are scored on the same examples with the same labels."""
    columns = (first.examples, other.examples), (first.labels, other.labels)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in columns)


def common_replicas(first: Revision, other: Revision) -> int:
    """Return how many replicas are pairs: those of the same number, if the seeds are the same."""
    same_seed = first.seed == other.seed and first.seed is not None
    return min(first.replicas, other.replicas) if same_seed else 0


def change_text(value: float, low: float, high: float, metric: Metric) -> str:
    """Return a difference with its unit, and its interval."""
    change = f"{metric.text(value, '+.1f', '+.4g')}{metric.points}"
    return f"{change}, 95 % CI {metric.text(low, '.1f')} to {metric.text(high, '.1f')}"


def _advice(a: Array, b: Array, diff: Difference, metric: Metric) -> str:
    """Return in words how much data would be required to tell, after that nothing is shown."""
    if np.array_equal(a, b):
        return ": all scores are the same"
    examples, seeds = required_sample_size(diff, min(len(a), len(b)))
    required = [
        f"{round_up(number)} {unit}"
        for number, unit in ((examples, "examples"), (seeds, "seeds"))
        if number is not None
    ]
    if not required:
        return ""
    limit = "" if examples is None else ", which more seeds alone cannot show"
    size = f"a difference of {size_text(diff.value, metric)}"
    return f"; about {' and '.join(required)} would be needed to show {size}{limit}"


def size_text(value: float, metric: Metric) -> str:
    """Return the size of a difference, roughly, with its unit."""
    return f"{metric.text(abs(value), '.2g', '.2g')}{metric.points}"


def round_up(number: int) -> str:
    """Return a number rounded up to two significant digits: more would be false precision."""
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // step) * step:,}"


def summary_lines(comparisons: list[Comparison], first: Revision) -> list[str]:
    """Return the remarks and the verdicts, one per line."""
    lines = [*remark_lines(comparisons), *(comparison.verdict for comparison in comparisons)]
    if first.split != first.contract.split:
        lines.append(
            f"choose by {first.contract.split}: once you have chosen by {first.split}, its scores "
            "are no longer an unbiased estimate"
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


def to_json(values: dict[str, Any]) -> str:
    """Return JSON; what is unknown or infinite is null."""
    return json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None), indent=2)
