"""Compare the scores of revisions, and put the result in words."""

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision
from fairtrial.statistics.matching import (
    Choice,
    Numbers,
    common_replicas,
    match,
    number_all,
    number_seeds,
)
from fairtrial.statistics.planning import required_sample_size
from fairtrial.statistics.significance import (
    LEVEL,
    Array,
    Difference,
    Pairing,
    difference,
    is_right_or_wrong,
    mcnemar,
)
from fairtrial.statistics.simultaneous import deviations, effective_number

# A seed has failed that is so many scaled median absolute deviations below the median, and so many
# standard errors of a mean over the examples: few seeds can agree by chance.
FAILED, VISIBLE = 8.0, 4.0
MIN_FAILED = 4  # replicas, of which one can be seen to have failed
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
    design_effect: float | None  # of groups: on the variance that the examples cause
    comparisons: int  # that are corrected together
    corrected_for: float  # independent ones that they are worth; p is multiplied by it
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
    choices: Sequence[Choice | None] | None = None,
    balanced: bool = False,
    margin: float | None = None,
) -> list[Comparison]:
    """Return the comparison of each of the others with the first, by a metric of its contract.

    choices: for each of the others, how it or the first was chosen as the best of several settings.
    The other arguments, and what is raised: as of `compare_pairs`.
    """
    revisions = [first, *others]
    pairs = [(0, position) for position in range(1, len(revisions))]
    [comparisons] = compare_pairs(revisions, pairs, [metric], choices, balanced, margin).values()
    return comparisons


def compare_pairs(
    revisions: Sequence[Revision],
    pairs: Sequence[tuple[int, int]],
    metrics: Sequence[str | None] = (None,),
    choices: Sequence[Choice | None] | None = None,
    balanced: bool = False,
    margin: float | None = None,
) -> dict[str, list[Comparison]]:
    """Return the comparisons of pairs of revisions, by metrics of the first one's contract.

    pairs: the positions of A and of B. metrics: None is the first of the contract. All comparisons
    are corrected together; but the first metric of the contract, which was named before there were
    results, is not corrected for the others.
    choices: for each pair, how A or B was chosen as the best of several settings.
    balanced: whether the means of the classes count the same.
    margin: a difference that does not matter, for the verdict, in the unit of the scores.

    Raises `InputError` if a revision does not have a metric, or has it with another direction.
    """
    definitions = dict(shared_metric(revisions, name) for name in metrics)
    choices = choices or [None] * len(pairs)
    numbers = number_all(revisions, balanced)
    pairings = [match(revisions[i], revisions[j], numbers[i], numbers[j]) for i, j in pairs]
    results = {}
    for family in families(list(definitions), revisions[0].contract.default_metric):
        number = len(pairs) * len(family), _effective_number(revisions, numbers, pairs, family)
        for name in family:
            metric = definitions[name]
            results[name] = [
                _compare_two(
                    revisions[i], revisions[j], pairing, name, metric, *number, choice, margin
                )
                for (i, j), pairing, choice in zip(pairs, pairings, choices, strict=True)
            ]
    return {name: results[name] for name in definitions}


def families(metrics: list[str], primary: str) -> list[list[str]]:
    """Return which metrics are corrected together: the primary one is corrected alone."""
    rest = [name for name in metrics if name != primary]
    return [family for family in ([primary] if primary in metrics else [], rest) if family]


def _effective_number(
    revisions: Sequence[Revision],
    numbers: Sequence[Numbers],
    pairs: Sequence[tuple[int, int]],
    metrics: list[str],
) -> float:
    """Return how many independent comparisons those of pairs by some metrics are worth."""
    if (count := len(pairs) * len(metrics)) < 2:  # also none, on a page of one revision
        return float(count)
    seeds = number_seeds(revisions)
    groups = [one.groups for one in numbers if one.groups is not None]
    units = groups if len(groups) == len(numbers) else [one.examples for one in numbers]
    sizes = 1 + max(map(np.max, units)), 1 + max(map(np.max, seeds))
    arms = [
        [
            deviations(one.scores[name], of_units, number.classes, of_seeds, sizes)
            for one, of_units, number, of_seeds in zip(
                revisions, units, numbers, seeds, strict=True
            )
        ]
        for name in metrics
    ]
    return effective_number(np.array(arms), pairs)


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
    first: Revision,
    other: Revision,
    pairing: Pairing,
    name: str,
    metric: Metric,
    comparisons: int,
    corrected_for: float,
    choice: Choice | None,
    margin: float | None,
) -> Comparison:
    """Return the comparison of B with A; the arguments are those of the result, and as above.

    Holm's correction would be a little more powerful, but has no simultaneous intervals that
    always agree with it.
    """
    a, b = first.scores[name], other.scores[name]
    n_common = int(np.isin(*pairing.examples).sum())
    remarks = _example_remarks(first, other, n_common)
    is_paired = n_common == len(first.examples) == len(other.examples)
    only_a, only_b, mcnemar_p = 0, 0, None
    if is_paired and is_right_or_wrong(a, b):
        of_b = np.argsort(pairing.examples[1])[np.argsort(np.argsort(pairing.examples[0]))]
        only_a, only_b, mcnemar_p = mcnemar(a[0], b[0, of_b])
    # With one seed on a side, the two models alone are compared.
    if min(len(a), len(b)) == 1:
        a, b = a[:1], b[:1]
    diff = difference(a, b, pairing)
    design_effect = None
    if pairing.groups is not None:
        plain = difference(a, b, pairing._replace(groups=None)).examples.value
        design_effect = diff.examples.value / plain if plain else 1.0
        groups = len(np.unique(np.concatenate(pairing.groups)))
        remarks.append(f"{groups:,} groups of examples, design effect {design_effect:.2g}")
    pairs = common_replicas(first, other) if n_common else 0
    gains = metric.sign * (b[:pairs].mean(1) - a[:pairs].mean(1))
    low, high, p = None, None, None
    outcome: Outcome = "undecided"
    if diff.seeds is None:
        verdict = _verdict_of_models(first, other, diff, metric, n_common, mcnemar_p)
    else:
        if choice:
            remarks.append(choice.remark)
            if choice.same_examples and choice.same_seeds:
                corrected_for *= choice.settings
            else:
                diff = diff.corrected(*choice)
        low, high = diff.interval(corrected_for)
        p = min(1.0, corrected_for * diff.p)
        shown = change_text(diff.value, low, high, metric)
        if p < LEVEL:
            outcome = "better" if metric.sign * diff.value > 0 else "worse"
            verdict = f"{other.name} is {outcome} ({shown}, p = {p:.2g})"
            remarks += _seed_remarks(first, other, name, metric)
        else:
            verdict = f"{other.name}: no difference shown ({shown}){_advice(a, b, diff, metric)}"
        if margin is not None:
            verdict += f"; {margin_text(low, high, margin, metric)}"
    return Comparison(
        name=other.name,
        value=diff.value,
        low=low,
        high=high,
        p=p,
        se_examples=diff.examples.value**0.5,
        se_seeds=None if diff.seeds is None else diff.seeds.value**0.5,
        design_effect=design_effect,
        comparisons=comparisons,
        corrected_for=corrected_for,
        won=float((gains > 0).sum() + (gains == 0).sum() / 2),
        pairs=pairs,
        only_a=only_a,
        only_b=only_b,
        mcnemar_p=mcnemar_p,
        outcome=outcome,
        remarks=remarks,
        verdict=verdict,
    )


def _verdict_of_models(
    first: Revision,
    other: Revision,
    diff: Difference,
    metric: Metric,
    n_common: int,
    mcnemar_p: float | None,
) -> str:
    """Return what one seed on a side shows, which is something about two models alone."""
    test, p = ("t-test", diff.p) if mcnemar_p is None else ("McNemar", mcnemar_p)
    result = "no difference shown between the two models"
    if p < LEVEL:
        which = "better" if metric.sign * diff.value > 0 else "worse"
        result = f"its model is {which} on these examples"
    said = f"{result} ({test} p = {p:.2g}); one seed says nothing about another"
    if not n_common:
        said = "one seed and other examples say nothing"
    advice = f"set {first.contract.replicas} to 5 in both to compare what they were trained with"
    return f"{other.name}: {said}; {advice}"


def _example_remarks(first: Revision, other: Revision, n_common: int) -> list[str]:
    """Return a remark if some or all examples have no partner."""
    sizes = len(first.examples), len(other.examples)
    if n_common == max(sizes):
        return []
    if n_common:
        return [
            f"{n_common:,} examples are pairs, of {sizes[0]:,} and {sizes[1]:,}; the others count "
            "as strangers"
        ]
    return [
        f"unpaired: no example with the same label is in both ({sizes[0]:,} and {sizes[1]:,} "
        "examples)"
    ]


def _seed_remarks(first: Revision, other: Revision, name: str, metric: Metric) -> list[str]:
    """Return remarks on seeds that failed, and on how many could fail unseen."""
    remarks = []
    for revision in (first, other):
        if failed := failed_replicas(revision.scores[name], metric.sign):
            median = float(np.median(revision.scores[name].mean(1)))
            remarks.append(
                f"{len(failed)} of {revision.replicas} seeds of {revision.name} failed (replica "
                f"{', '.join(map(str, failed))}); the median is {metric.text(median)}"
            )
    replicas = min(first.replicas, other.replicas)
    if replicas < MIN_FAILED:
        remarks.append(f"{replicas} seeds are too few to see whether one of them failed")
    elif not remarks:
        limit = 1 - LEVEL ** (1 / replicas)
        remarks.append(
            f"0 of {replicas} trainings failed; with so few, up to {100 * limit:.0f} % might"
        )
    return remarks


def failed_replicas(scores: Array, sign: int) -> list[int]:
    """Return the numbers of the replicas whose mean score is far worse than the median.

    scores: (R, N); sign: +1 if higher ones are better. The median absolute deviation is scaled to
    the standard deviation of a normal distribution.
    """
    means = scores.mean(1)
    gaps = sign * (np.median(means) - means)
    deviation = 1.4826 * float(np.median(np.abs(gaps)))
    if len(means) < MIN_FAILED:
        return []
    far = max(
        FAILED * deviation, VISIBLE * float(np.median(scores.std(1))) / scores.shape[1] ** 0.5
    )
    failed: list[int] = np.flatnonzero(gaps > far).tolist()
    return failed


def change_text(value: float, low: float, high: float, metric: Metric) -> str:
    """Return a difference with its unit, and its interval."""
    change = f"{metric.text(value, '+.1f', '+.4g')}{metric.points}"
    return f"{change}, 95 % CI {metric.text(low, '.1f')} to {metric.text(high, '.1f')}"


def margin_text(low: float, high: float, margin: float, metric: Metric) -> str:
    """Return what an interval says about differences that are larger than a margin."""
    size = size_text(margin, metric)
    worst, best = sorted((metric.sign * low, metric.sign * high))
    if worst > -margin and best < margin:
        return f"equivalent: the difference is less than {size}"
    if worst > -margin:
        return f"not worse by {size} or more"
    if best < -margin:
        return f"worse by more than {size}"
    return f"it is not excluded that it is worse by {size}"


def _advice(a: Array, b: Array, diff: Difference, metric: Metric) -> str:
    """Return in words how much data would be required to tell, after that nothing is shown."""
    if np.array_equal(a, b):
        return ": all scores are the same"
    if diff.examples.df == 0:
        return "; a single example, or a single group, says nothing about others"
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


def summary_lines(by_metric: dict[str, list[Comparison]], first: Revision) -> list[str]:
    """Return the remarks and the verdicts, one per line."""
    lines = []
    for name, comparisons in by_metric.items():
        place = f"{name}: " if len(by_metric) > 1 else ""
        of_metric = [*remark_lines(comparisons), *(one.verdict for one in comparisons)]
        lines += [place + line for line in of_metric]
    primary = first.contract.default_metric
    if len(by_metric) > 1 and primary in by_metric:
        lines.append(f"{primary} is the first metric of dvc.yaml, and not corrected for the others")
    if first.split != first.contract.split:
        lines.append(
            f"choose by {first.contract.split}: once you have chosen by {first.split}, its scores "
            "are no longer an unbiased estimate"
        )
    return lines


def remark_lines(comparisons: list[Comparison]) -> list[str]:
    """Return what has to be known of the comparisons by a metric, one remark per line."""
    names: dict[str, list[str]] = {}  # of the revisions with the same remark
    for comparison in comparisons:
        for remark in comparison.remarks:
            names.setdefault(remark, []).append(comparison.name)
    lines = [f"{', '.join(same)}: {remark}" for remark, same in names.items()]
    if (number := max((one.comparisons for one in comparisons), default=0)) > 1:
        lines.append(
            f"p and the intervals are corrected for {number:,} comparisons, as for "
            f"{comparisons[0].corrected_for:.1f} that have nothing in common"
        )
    return lines


def to_json(values: dict[str, Any]) -> str:
    """Return JSON; what is unknown or infinite is null."""
    return json.dumps(json.loads(json.dumps(values), parse_constant=lambda _: None), indent=2)
