"""How many seeds and examples would show a difference."""

import bisect
import math
from collections.abc import Callable
from typing import NamedTuple

from scipy import special

from fairtrial.statistics.significance import (
    LEVEL,
    Array,
    Difference,
    Variance,
    is_right_or_wrong,
    welch_satterthwaite,
)

POWER = 0.8  # with which advice promises to show a difference
MAX_ADVICE = 10_000  # seeds beyond which advice gives none


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
        variance = max(variance, (diff.step * replicas / count / factor) ** 2)
        return power_of_test(abs(diff.value), Variance(variance, df))

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


def power_of_test(size: float, variance: Variance) -> float:
    """Return how often a difference of this size is shown, if it has this variance.

    The noncentral t is replaced by a shifted one, which is close at the powers of advice.
    """
    if variance.value == 0:
        return 1.0
    quantile = special.stdtrit(variance.df, 1 - LEVEL / 2)
    return float(special.stdtr(variance.df, size / math.sqrt(variance.value) - quantile))


def smallest(is_enough: Callable[[int], bool], low: int, high: int) -> int:
    """Return the smallest number from low to high for which a monotonous condition holds."""
    return low + bisect.bisect_left(range(low, high), True, key=is_enough)


class Spread(NamedTuple):
    """What makes scores of a revision differ, as far as its own replicas show it.

    Two revisions that are compared are assumed to have the spread of the one, their seeds not to be
    pairs, and as few examples to differ in as their difference needs.
    """

    seeds: float  # the variance of the mean score of a replica that the seed causes
    n: int  # examples
    is_binary: bool  # whether scores are right or wrong

    @classmethod
    def of(cls, scores: Array) -> "Spread":
        """Return the spread of scores (R, N) of more than one replica."""
        seeds = float(scores.mean(1).var(ddof=1))
        return cls(seeds, scores.shape[1], is_right_or_wrong(scores))

    def power(self, size: float, seeds: int, n: int) -> float:
        """Return the power to show a difference of this size.

        seeds: of each revision; n: examples, the same for both.
        """
        # What the seeds cause gets smaller with more examples, but by how much is not known.
        of_seeds = Variance(2 * self.seeds / seeds, 2 * (seeds - 1))
        of_examples = (size * (1 - min(size, 1.0)) if self.is_binary else size**2) / n
        terms = [(1.0, of_seeds), (1.0, Variance(of_examples, n - 1))]
        return power_of_test(size, welch_satterthwaite(terms))

    def detectable(self, seeds: int, n: int) -> float:
        """Return the smallest difference that is shown with a power of 80 %; as `power` takes."""
        low, high = 0.0, 1.0
        while self.power(high, seeds, n) < POWER and high < 1e30:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            if self.power(middle, seeds, n) < POWER:
                low = middle
            else:
                high = middle
        return high

    def required_seeds(self, size: float) -> int | None:
        """Return how many seeds show a difference on these examples, or None if no number does."""

        def is_enough(seeds: int) -> bool:
            return self.power(size, seeds, self.n) >= POWER

        return smallest(is_enough, 2, MAX_ADVICE) if is_enough(MAX_ADVICE) else None
