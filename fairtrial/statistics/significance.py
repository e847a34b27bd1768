"""How far two revisions differ, judged by the scores of their replicas on examples.

Two things make a difference of mean scores uncertain: the examples that happen to be in the split,
and the seeds that happen to have been trained with. Arrays are float64 (R, N): the score of each of
R replicas on each of N examples. The model is that of a two-way table with random effects: a score
is the mean, plus an effect of the example on all replicas, plus an effect of the replica on all
examples, plus a residual.

Everything is a closed form. A bootstrap was measured first: its draws are nearly normal, so that
its small p-values came out far too small when there were few seeds.
"""

import bisect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # scipy.stats takes half a second longer to import

Array = np.ndarray[Any, Any]

LEVEL = 0.05  # of significance
POWER = 0.8  # with which advice promises to show a difference
MAX_ADVICE = 10_000  # seeds beyond which advice gives none


class Variance(NamedTuple):
    """An estimate of a variance, and the degrees of freedom that it has."""

    value: float
    df: float


class Difference(NamedTuple):
    """The mean score of B minus that of A, and its uncertainty."""

    value: float
    examples: Variance  # of the value, caused by the examples
    seeds: Variance | None  # caused by the seeds; None if a side has one replica
    residual: float  # the part of `seeds` that is there even if all seeds were equally good
    n: int  # examples, of the smaller split
    resolution: float  # the finest step of a score: 1 for right or wrong, 0 for other numbers

    @property
    def p(self) -> float:
        """How often chance alone makes a difference as large, if there is none (two-sided)."""
        if self.n < 2 or self.value == 0:
            return 1.0
        return float(
            max(
                2 * special.stdtr(df, -abs(self.value) / math.sqrt(variance)) if variance else 0.0
                for variance, df in (self._floor, self._total)
            )
        )

    def interval(self, comparisons: int = 1) -> tuple[float, float]:
        """Return the interval that excludes 0 exactly when `comparisons` times p is below 0.05.

        All of these comparisons together have a confidence of 95 % (Bonferroni). A single example
        says nothing, so that its interval is infinite.
        """
        if self.n < 2:
            return -math.inf, math.inf
        quantile = 1 - LEVEL / comparisons / 2
        half_width = max(
            float(special.stdtrit(df, quantile)) * math.sqrt(variance)
            for variance, df in (self._floor, self._total)
        )
        return self.value - half_width, self.value + half_width

    @property
    def _total(self) -> Variance:
        return welch_satterthwaite([(1.0, v) for v in (self.examples, self.seeds) if v])

    @property
    def _floor(self) -> Variance:
        """Return the least variance that the value can have.

        A few seeds can agree by chance, and then show a spread that is far too small. But the
        residual is known from all examples, and it alone makes replicas differ. Neither is an
        accuracy known more finely than to an example.
        """
        least = max(self.examples.value + self.residual, (self.resolution / self.n) ** 2)
        return Variance(least, self.examples.df)


def difference(a: Array, b: Array, same_examples: bool, pairs: int) -> Difference:
    """Return the difference of the mean scores of two revisions.

    pairs: how many replicas, the first of both, are compared with each other because they have the
    same seed and number; without the same examples on both sides there are none.

    The variance of the mean of R replicas on N examples is that of a crossed design (Searle,
    Casella and McCulloch 1992, Variance Components, section 4.3), the degrees of freedom are those
    of Welch and Satterthwaite (1946, doi:10.2307/3002019).
    """
    value = float(b.mean() - a.mean())
    ra, rb = len(a), len(b)
    if not same_examples or pairs < 2:  # the spread of one pair is unknown
        pairs = 0
    # The mean of all of B less that of all of A, as a sum of pairs and of what has no partner.
    tables = [((rb - pairs) / (ra * rb), a), ((ra - pairs) / (ra * rb), b)]
    if pairs:
        tables.append((pairs / (ra * rb), b[:pairs] - a[:pairs]))
    tables = [(weight, table) for weight, table in tables if weight]

    seeds, residual = None, 0.0
    if min(ra, rb) > 1:
        terms = [
            (weight, Variance(table.mean(1).var(ddof=1), len(table) - 1))
            for weight, table in tables
        ]
        seeds = welch_satterthwaite(terms)
        residual = sum(weight * residual_variance(table) for weight, table in tables)
    if same_examples:
        per_example = [(b.mean(0) - a.mean(0), residual)]
    else:
        per_example = [
            (x.mean(0), residual_variance(x) / len(x) if len(x) > 1 else 0.0) for x in (a, b)
        ]
    # What an example does to one replica alone is part of the seeds' variance already.
    examples = [
        (1.0, Variance(max(0.0, mean_variance(means) - counted), len(means) - 1))
        for means, counted in per_example
    ]
    return Difference(
        value,
        welch_satterthwaite(examples),
        seeds,
        residual,
        min(a.shape[1], b.shape[1]),
        1.0 if is_right_or_wrong(a, b) else 0.0,
    )


def is_right_or_wrong(*tables: Array) -> bool:
    """Return whether all scores are 0 or 1, as those of an accuracy are."""
    return all(bool(((table == 0) | (table == 1)).all()) for table in tables)


def welch_satterthwaite(terms: list[tuple[float, Variance]]) -> Variance:
    """Return the weighted sum of variances, and its degrees of freedom."""
    parts = [(weight * variance.value, variance.df) for weight, variance in terms]
    total = sum(value for value, _ in parts)
    if total == 0:
        return Variance(0.0, min(df for _, df in parts))
    # As fractions of the total, because the square of a small variance may be 0.
    return Variance(total, 1 / sum((value / total) ** 2 / df for value, df in parts if value))


def mean_variance(values: Array) -> float:
    """Return the variance of the mean of independent values (N,)."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def residual_variance(table: Array) -> float:
    """Return the residual mean square of a table (R, N), R > 1, divided by N.

    That is the variance of a replica's mean which the residuals cause.
    """
    replicas, n = table.shape
    if n < 2:
        return 0.0
    residuals = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float((residuals**2).sum() / ((replicas - 1) * (n - 1)) / n)


def wilson_interval(hits: float, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a proportion, `hits` of `n`."""
    z2 = float(special.ndtri(1 - LEVEL / 2)) ** 2
    centre = (hits + z2 / 2) / (n + z2)
    half_width = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def mean_interval(scores: Array) -> tuple[float, float]:
    """Return the 95 % interval of the mean of scores (N,): Wilson's, or else Student's.

    Student's is infinite for one example.
    """
    n = len(scores)
    if is_right_or_wrong(scores):
        return wilson_interval(scores.sum(), n)
    if n < 2:
        return -math.inf, math.inf
    half_width = float(special.stdtrit(n - 1, 1 - LEVEL / 2)) * math.sqrt(mean_variance(scores))
    return float(scores.mean()) - half_width, float(scores.mean()) + half_width


def mcnemar(a: Array, b: Array) -> tuple[int, int, float]:
    """Return how many examples only A and only B get right, and the exact p-value.

    a, b: 0 or 1 (N,), of one model each. McNemar 1947, doi:10.1007/BF02295996: if the models are
    equally good, either is as likely to be the only correct one.
    """
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    one_sided = float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5))
    return only_a, only_b, min(1.0, 2 * one_sided)


def required_sample_size(diff: Difference, replicas: int) -> tuple[int | None, int | None]:
    """Return how many examples or how many seeds would show a difference of `diff.value`.

    Seeds if more of them are enough; else examples, if more of them are; else both, by the same
    factor. None stands for what is not needed, and both are None where nothing is known.

    With a probability of 80 % these numbers have a power of 80 %: the variance that a few seeds
    show is itself uncertain, so its upper limit is taken. Two seeds show too little for any advice.
    """
    if diff.value == 0 or diff.seeds is None or diff.seeds.df < 2:
        return None, None
    chi2_quantile = 2 * special.gammaincinv(diff.seeds.df / 2, 1 - POWER)
    # The residual is known from all examples, and needs no upper limit.
    upper_limit = diff.seeds.value * diff.seeds.df / chi2_quantile
    seeds = max(upper_limit, diff.residual)
    df_of_one = diff.seeds.df / (replicas - 1)  # for each seed more

    def power(factor: float, count: int) -> float:
        """Return the power with `factor` times the examples, and `count` replicas."""
        of_seeds = Variance(seeds * replicas / count, max(1.0, df_of_one * (count - 1)))
        of_examples = Variance(diff.examples.value / factor, diff.examples.df * factor)
        variance, df = welch_satterthwaite([(1.0, of_seeds), (1.0, of_examples)])
        variance = max(variance, (diff.resolution / (diff.n * factor)) ** 2)
        if variance == 0:
            return 1.0
        # The noncentral t is replaced by a shifted one, which is close at these powers.
        quantile = special.stdtrit(df, 1 - LEVEL / 2)
        return float(special.stdtr(df, abs(diff.value) / math.sqrt(variance) - quantile))

    def smallest(is_enough: Callable[[int], bool], low: int, high: int) -> int:
        """Return the smallest number from low to high for which a monotonous condition holds."""
        return low + bisect.bisect_left(range(low, high), True, key=is_enough)

    if power(1.0, MAX_ADVICE) >= POWER:
        return None, smallest(lambda count: power(1.0, count) >= POWER, 2, MAX_ADVICE)
    if power(1e9, replicas) >= POWER:
        percent = smallest(lambda percent: power(percent / 100, replicas) >= POWER, 100, 10**11)
        return math.ceil(diff.n * percent / 100), None
    percent = smallest(
        lambda percent: power(percent / 100, math.ceil(replicas * percent / 100)) >= POWER,
        100,
        10**11,
    )
    return math.ceil(diff.n * percent / 100), math.ceil(replicas * percent / 100)
