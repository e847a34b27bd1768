"""Whether B is better than A, judged anew after every pair of replicas.

Each look at the results is one more chance to be deceived: a test that is wrong in 5 % of its
looks is wrong more often in comparisons that end as soon as it is significant. The interval here
is a confidence sequence: with a confidence of 95 % it contains the true difference at all looks
together, so that it is right whenever somebody stops.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from fairtrial.statistics.significance import Array, is_right_or_wrong

# How often the seeds, at any look, and the examples may deceive. Together they are 5 %.
SEEDS_LEVEL = EXAMPLES_LEVEL = 0.025
PRIOR_VARIANCE = 4.0  # of the difference, in variances of one replica; see `seeds_half_width`
MIN_DECISIVE = 4  # replicas: with these values no smaller number has a finite interval
MIN_HOPELESS = 5  # replicas for a statement that more of them cannot help
Z_80 = float(special.ndtri(0.8))  # of a power of 80 %


class InterimResult(NamedTuple):
    """What is known after R pairs of replicas on N examples."""

    replicas: int  # R
    examples: int  # N
    value: float  # the mean score of B minus that of A
    half_width: float  # of the confidence sequence; infinite below `MIN_DECISIVE` replicas
    se_examples: float  # the standard error of the value that the examples cause
    mean_limit: float  # an upper limit (97.5 %) of |value| for all seeds, on these examples
    resolution: float  # the finest step of a score: 1 for right or wrong, 0 for other numbers
    sign: int  # +1 if higher scores are better, and -1 if lower ones are

    @property
    def interval(self) -> tuple[float, float]:
        """The confidence sequence after R replicas."""
        return self.value - self.half_width, self.value + self.half_width

    @property
    def outcome(self) -> Literal["better", "worse", "undecided"]:
        """Whether B is better or worse than A."""
        if abs(self.value) <= self.half_width:
            return "undecided"
        return "better" if self.sign * self.value > 0 else "worse"

    @property
    def is_identical(self) -> bool:
        """Whether each replica has the same scores in A and in B."""
        return self.mean_limit == 0 and self.se_examples == 0

    @property
    def is_limited_by_examples(self) -> bool:
        """Whether these examples are too few for a decision, however many replicas there are."""
        limit = t_examples(self.examples) * max(self.se_examples, self.resolution / self.examples)
        return self.replicas >= MIN_HOPELESS and (self.mean_limit < limit or self.is_identical)

    @property
    def required_examples(self) -> int | None:
        """How many examples would show a difference of `value`, with a power of 80 %.

        The number of replicas is assumed to be large enough not to matter. None if the value is 0.
        """
        if self.value == 0:
            return None
        multiple = (float(special.ndtri(1 - EXAMPLES_LEVEL / 2)) + Z_80) / abs(self.value)
        by_spread = self.examples * (multiple * self.se_examples) ** 2
        return math.ceil(max(by_spread, multiple * self.resolution, 2))


def interim_results(a: Array, b: Array, sign: int = 1) -> list[InterimResult]:
    """Return what is known after 1, 2, ..., R pairs of replicas.

    a, b: float64 (R, N), the scores of the replicas of A and of B on each of N > 1 examples.
        Replicas in the same row were trained from the same seed.
    sign: +1 if higher scores are better, and -1 if lower ones are.

    The model is a two-way table with random effects of the examples, of the seeds, and residuals,
    which are part of what the seeds cause. The squares of the half-widths for examples and seeds
    add up, as in Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    differences = b.astype(np.float64) - a
    resolution = 1.0 if is_right_or_wrong(a, b) else 0.0
    replicas, n = differences.shape
    number = np.arange(1, replicas + 1)  # of the replicas up to each; so are the sums below
    df = np.maximum(1, number - 1)
    of_replica = differences.mean(1)
    mean = of_replica.cumsum() / number
    of_example = differences.cumsum(0) / number[:, None]
    seed_squares = np.maximum(0, (of_replica**2).cumsum() - number * mean**2)
    example_squares = ((of_example - mean[:, None]) ** 2).sum(1)
    all_squares = (differences**2).sum(1).cumsum() - number * n * mean**2
    residual_squares = np.maximum(0, all_squares - n * seed_squares - number * example_squares)
    residual = residual_squares / (df * (n - 1)) / n  # the variance of a replica's mean from it
    # A few replicas can agree by chance, but their residuals alone make them differ by so much.
    seed_squares = np.maximum(seed_squares, (number - 1) * residual)
    se_examples = np.sqrt(np.maximum(0, example_squares / (n - 1) / n - residual / number))

    half_width = np.hypot(t_examples(n) * se_examples, seeds_half_width(seed_squares, number))
    half_width = np.maximum(half_width, t_examples(n) * resolution / n)
    mean_limit = np.abs(mean) + special.stdtrit(df, 0.975) * np.sqrt(seed_squares / df / number)
    columns = np.stack([mean, half_width, se_examples, mean_limit], 1).tolist()
    return [
        InterimResult(r, n, value, half, se, limit, resolution, sign)
        for r, (value, half, se, limit) in enumerate(columns, 1)
    ]


def t_examples(n: int) -> float:
    """Return the quantile of Student's t by which n examples are allowed to deceive."""
    return float(special.stdtrit(n - 1, 1 - EXAMPLES_LEVEL / 2))


def seeds_half_width(squares: Array, number: Array) -> Array:
    """Return the half-width of a confidence sequence for the mean over all seeds, float64 (R,).

    squares: float64 (R,), the sum of squared deviations from their mean of the first `number`
    values; number: int64 (R,).

    The interval has the means that the e-process of the t-test does not reject. That is the
    likelihood ratio of the values divided by their standard deviation, which is unknown, for a
    normal prior of the mean against a mean of zero: Wang and Ramdas 2023,
    https://arxiv.org/abs/2310.03722, theorem on Gaussian mixtures.
    """
    prior = 1 + number * PRIOR_VARIANCE
    ratio = np.exp((np.log(prior) / 2 - math.log(SEEDS_LEVEL)) * 2 / number)
    finite = (number > 1) & (ratio < prior)
    half_width: Array = np.full(len(number), np.inf)
    half_width[finite] = np.sqrt(
        squares[finite] * (ratio[finite] - 1) / (number * (1 - ratio / prior))[finite]
    )
    return half_width
