"""How far two revisions differ, judged by the scores of their replicas on examples.

Two things make a difference of mean scores uncertain: the examples that happen to be in the split,
and the seeds that happen to have been trained with. Arrays are float64 (R, N): the score of each of
R replicas on each of N examples. The model is that of a two-way table with random effects: a score
is the mean, plus an effect of the example on all replicas, plus an effect of the replica on all
examples, plus a residual.

Everything is a closed form. A bootstrap was measured first: its draws are nearly normal, so that
its small p-values came out far too small when there were few seeds.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import special  # scipy.stats takes half a second longer to import

Array = np.ndarray[Any, Any]

LEVEL = 0.05  # of significance
MIN_SLOPE = 5  # pairs of replicas that tell the slope of their means
MIN_COMMON = 60  # examples that tell how much the two sides have in common


class Variance(NamedTuple):
    """An estimate of a variance, and the degrees of freedom that it has."""

    value: float
    df: float

    def widened(self, choices: int) -> "Variance":
        """Return a variance whose 95 % interval is corrected for `choices` (Bonferroni).

        The quantiles are normal ones. Student's of a few seeds would make it several times wider,
        and the best of 20 is called better too often only without any correction: measured.
        """
        corrected, plain = special.ndtri([1 - LEVEL / 2 / choices, 1 - LEVEL / 2])
        return Variance(self.value * float(corrected / plain) ** 2, self.df)


class Pairing(NamedTuple):
    """Which examples and replicas of A and of B belong together.

    Examples, groups and classes are whole numbers from 0, (Na,) of A and (Nb,) of B. Equal numbers
    are the same example, group or class.
    """

    same_seeds: bool  # whether replicas of the same number are pairs
    examples: tuple[Array, Array]
    groups: tuple[Array, Array] | None = None  # of examples that depend on one another
    classes: tuple[Array, Array] | None = None  # if their means count the same; else examples do

    @classmethod
    def of_same_examples(cls, n: int, same_seeds: bool) -> "Pairing":
        """Return the pairing of two revisions that have the same n examples in the same order."""
        return cls(same_seeds, (np.arange(n), np.arange(n)))

    def common(self) -> tuple[Array, Array]:
        """Return which examples the other side has, too: bool (Na,) and (Nb,)."""
        a, b = self.examples
        return np.isin(a, b), np.isin(b, a)

    def strata(self) -> tuple[Array, Array]:
        """Return the classes, or one class of all examples if they count the same."""
        a, b = self.examples
        return self.classes or (np.zeros(len(a), dtype=int), np.zeros(len(b), dtype=int))

    def reversed(self) -> "Pairing":
        """Return the pairing of B and A."""
        groups = self.groups and self.groups[::-1]
        classes = self.classes and self.classes[::-1]
        return Pairing(self.same_seeds, self.examples[::-1], groups, classes)


class Difference(NamedTuple):
    """The mean score of B minus that of A, and its uncertainty."""

    value: float
    examples: Variance  # of the value, caused by the examples
    seeds: Variance | None  # caused by the seeds; None if a side has one replica
    residual: float  # the part of `seeds` that is there even if all seeds were equally good
    n: int  # examples, of the smaller split
    step: float  # by which one score of right or wrong changes the value; 0 for other scores
    max_df: float = math.inf  # of the variance of the value

    @property
    def p(self) -> float:
        """How often chance alone makes a difference as large, if there is none (two-sided)."""
        if self.examples.df == 0 or self.value == 0:
            return 1.0
        return float(
            max(
                2 * special.stdtr(df, -abs(self.value) / math.sqrt(variance)) if variance else 0.0
                for variance, df in (self._floor, self._total)
            )
        )

    def interval(self, comparisons: float = 1) -> tuple[float, float]:
        """Return the interval that excludes 0 exactly when `comparisons` times p is below 0.05.

        As many independent comparisons together have a confidence of 95 %. A single example, or a
        single group, says nothing, so that its interval is infinite.
        """
        if self.examples.df == 0:
            return -math.inf, math.inf
        quantile = 1 - LEVEL / comparisons / 2
        half_width = max(
            float(special.stdtrit(df, quantile)) * math.sqrt(variance)
            for variance, df in (self._floor, self._total)
        )
        return self.value - half_width, self.value + half_width

    def corrected(self, choices: int, examples: bool, seeds: bool) -> "Difference":
        """Return the difference, with the uncertainty that there is after a choice.

        choices: from how many settings one side was chosen as the best. examples, seeds: whether
        it was chosen with these. What is fresh cannot have been lucky in the choice.
        """
        # To widen the part with more degrees of freedom would add to those of the sum.
        result = self._replace(max_df=self._total.df)
        if examples:
            result = result._replace(examples=self.examples.widened(choices))
        if seeds and self.seeds:
            residual = Variance(self.residual, math.inf).widened(choices).value
            result = result._replace(seeds=self.seeds.widened(choices), residual=residual)
        return result

    @property
    def _total(self) -> Variance:
        value, df = welch_satterthwaite([(1.0, v) for v in (self.examples, self.seeds) if v])
        return Variance(value, min(df, self.max_df))

    @property
    def _floor(self) -> Variance:
        """Return the least variance that the value can have.

        A few seeds can agree by chance, and then show a spread that is far too small. But the
        residual is known from all examples, and it alone makes replicas differ. Neither is a value
        known more finely than to a score.
        """
        least = max(self.examples.value + self.residual, self.step**2)
        return Variance(least, self.examples.df)


def difference(a: Array, b: Array, pairing: Pairing) -> Difference:
    """Return the difference of the mean scores of two revisions.

    What has no partner is used, too. Examples and replicas are weighted so that the variance is
    least, as far as the scores tell: more of them do not widen the interval, except by chance.

    The variance of the mean of R replicas on N examples is that of a crossed design (Searle,
    Casella and McCulloch 1992, Variance Components, section 4.3), in which a group of examples that
    depend on one another stands for an example. The degrees of freedom are those of Welch and
    Satterthwaite (1946, doi:10.2307/3002019).
    """
    if len(a) > len(b):
        result = difference(b, a, pairing.reversed())
        return result._replace(value=-result.value)
    ra, rb = len(a), len(b)
    common = pairing.common()
    weights = example_weights(a.mean(0), b.mean(0), pairing, common)
    of_a, of_b = a @ weights[0], b @ weights[1]
    effects_a, effects_b = example_effects(a, b, weights, pairing, common)
    has_pairs = pairing.same_seeds and common[0].any()
    if ra < 2 or not has_pairs:  # the spread of one pair is unknown
        terms = [(1 / ra, of_a), (1 / rb, of_b)]
        alike = [1.0, 1.0]  # the variances of the terms if all replicas varied alike
        tables = [effects_a, effects_b]
        value = of_b.mean() - of_a.mean()
        effects = effects_b.mean(0) - effects_a.mean(0)
    else:
        # The less the pairs have in common, the more the replicas of B without a partner tell: a
        # regression estimator (Cochran 1977, Sampling Techniques, section 12.6). Its slope is that
        # of the residuals, which a few pairs tell, or that of the means, if that is larger.
        slope = regression_slope(effects_a, effects_b[:ra])
        if ra >= MIN_SLOPE:
            slope = max(slope, regression_slope(of_a[:, None], of_b[:ra, None]))
        extra = (1 - ra / rb) * (1 - slope)  # their weight
        terms = [(1 / ra, (1 - extra) * of_b[:ra] - of_a)]
        alike = [(1 - extra) ** 2 + 1]
        tables = [(1 - extra) * effects_b[:ra] - effects_a]
        value, effects = terms[0][1].mean(), tables[0].mean(0)
        if extra:
            terms.append((extra**2 / (rb - ra), of_b))
            alike.append(1.0)
            tables.append(effects_b)
            value += extra * of_b[ra:].mean()
            effects += extra * effects_b[ra:].mean(0)
    seeds, residual = None, 0.0
    if ra > 1:
        factors = [factor for factor, _ in terms]
        variances = [Variance(means.var(ddof=1), len(means) - 1) for _, means in terms]
        seeds = welch_satterthwaite(list(zip(factors, variances, strict=True)))
        # Of few and many replicas, the few may agree by chance, and then seem not to matter.
        equal = [Variance(one, df) for one, (_, df) in zip(alike, variances, strict=True)]
        df = welch_satterthwaite(list(zip(factors, equal, strict=True))).df
        seeds = Variance(seeds.value, min(seeds.df, df))
        residual = sum(
            factor * residual_variance(table) for factor, table in zip(factors, tables, strict=True)
        )
    units = min(np.count_nonzero(np.bincount(one)) for one in pairing.groups or pairing.examples)
    step = max(math.sqrt((one**2).mean()) for one in weights) / ra
    return Difference(
        float(value),
        # What an example does to one replica alone is part of the seeds' variance already.
        effects_variance(effects, residual) if units > 1 else Variance(0.0, 0.0),
        seeds,
        residual,
        min(a.shape[1], b.shape[1]),
        step if is_right_or_wrong(a, b) else 0.0,
    )


def example_weights(
    a: Array, b: Array, pairing: Pairing, common: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Return the weights of the examples in the means of A and of B, float64 (Na,) and (Nb,).

    a, b: the mean score of each example; common: as `Pairing.common` returns it. Examples that only
    one side has get less weight than those of both, by which the difference is known better: the
    weights give the least variance.
    """
    classes = pairing.strata()
    counts = [np.bincount(one, minlength=max(map(np.max, classes)) + 1) for one in classes]
    known = np.flatnonzero(np.minimum(*counts))  # the classes of both
    weights = []
    for side, fraction in enumerate(_fractions_of_common(a, b, pairing, common)):
        weight = np.zeros(len(classes[side]))
        for number in known:
            parts = [(classes[side] == number) & (common[side] == both) for both in (True, False)]
            total = sum(part.sum() for part in parts)
            for part, share in zip(parts, (fraction, 1 - fraction), strict=True):
                if size := part.sum():
                    weight[part] = (1.0 if size == total else share) / size / len(known)
        weights.append(weight)
    return weights[0], weights[1]


def _fractions_of_common(
    a: Array, b: Array, pairing: Pairing, common: tuple[Array, Array]
) -> tuple[float, float]:
    """Return how much weight the examples of both sides have in the mean of A, and in that of B."""
    n = int(common[0].sum())
    alone = np.array([len(a) - n, len(b) - n])
    natural = n / np.array([len(a), len(b)])
    if n < MIN_COMMON or not alone.any():
        return tuple(natural.tolist())
    # The same order on both sides.
    order_a, order_b = (
        np.flatnonzero(mask)[np.argsort(x[mask], kind="stable")]
        for x, mask in zip(pairing.examples, common, strict=True)
    )
    covariance = np.cov(a[order_a], b[order_b])[0, 1]
    variances = np.array([a.var(ddof=1), b.var(ddof=1)])
    if not variances.all():
        return tuple(natural.tolist())
    # Where the derivatives of the variance of the difference are 0.
    per_example = variances / np.maximum(alone, 1e-9)
    system = np.diag(variances / n + per_example) - np.diag([covariance / n] * 2)[::-1]
    fractions = np.linalg.solve(system, per_example)
    return tuple(np.clip(fractions, natural, 1).tolist())


def example_effects(
    a: Array,
    b: Array,
    weights: tuple[Array, Array],
    pairing: Pairing,
    common: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Return what each unit adds to the means of the replicas, float64 (Ra, M) and (Rb, M).

    A unit is a group of examples, or one example; M is the number of units of both sides. The mean
    of a replica, or of each class, is subtracted before, so that the sum over the units is 0. The
    effects are scaled so that the sum of their squares is an unbiased estimate of a variance.
    """
    units = pairing.groups or pairing.examples
    counts = np.bincount(np.concatenate(units))
    classes = pairing.strata()
    results = []
    for side, scores in enumerate((a, b)):
        effects = scores * weights[side]
        for number in np.flatnonzero(np.bincount(classes[side])):
            of_class = classes[side] == number
            if total := weights[side][of_class].sum():
                means = effects[:, of_class].sum(1, keepdims=True) / total
                effects[:, of_class] -= means * weights[side][of_class]
            for mask in (of_class & common[side], of_class & ~common[side]):
                count = np.count_nonzero(counts) if pairing.groups else mask.sum()
                if count > 1:
                    effects[:, mask] *= math.sqrt(count / (count - 1))
        rows = [np.bincount(units[side], row, len(counts)) for row in effects]
        results.append(np.array(rows)[:, counts > 0])
    return results[0], results[1]


def effects_variance(effects: Array, residual: float) -> Variance:
    """Return the variance of the sum of effects (M,) that have a mean of 0.

    residual: the part of it that is counted elsewhere. The degrees of freedom are those of a
    variance of values with this kurtosis: a few examples that differ tell less than many.
    """
    m, squares = len(effects), float((effects**2).sum())
    df = m - 1.0
    if squares:
        fourth = float(((effects**2 / squares) ** 2).sum())
        df = min(df, 2 / max(fourth - 3 / m + 2 / (m - 1), 1e-12))
    return Variance(max(0.0, squares - residual), df)


def regression_slope(a: Array, b: Array) -> float:
    """Return the slope, from 0 to 1, of A (R, M) on B (R, M) after their means over R."""
    a, b = a - a.mean(0), b - b.mean(0)
    squares = float((b**2).sum())
    return min(1.0, max(0.0, float((a * b).sum()) / squares)) if squares else 1.0


def residual_variance(effects: Array) -> float:
    """Return the variance of a replica's mean that is caused by the residuals.

    effects: (R, M), as `example_effects` returns them.
    """
    if len(effects) < 2:
        return 0.0
    return float(((effects - effects.mean(0)) ** 2).sum()) / (len(effects) - 1)


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
