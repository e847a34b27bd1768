"""Whether B is better than A, judged by which images their replicas get right.

Two things make an accuracy noisy: the images that happen to be in the split, and the seed that
happens to have been trained with. Arrays are bool (R, N): whether each of R replicas gets each
of N images right. Both are judged on the same images, unless that is impossible, and the
replicas are pairs if they were trained from the same seeds.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]

DRAWS = 10_000  # of the bootstrap
WIDE = float(stats.norm.ppf(0.975))
POWER = float(stats.norm.ppf(0.8))  # a true difference is to be seen in four cases of five


class Difference(NamedTuple):
    """How much better B is than A: accuracies and standard errors as shares of the images."""

    value: float
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided: how often chance alone does as much
    wins: float  # the share of the pairs of seeds in which B is the better one
    of_images: float  # the standard error that the images cause
    of_seeds: float  # that which the seeds cause; NaN if it cannot be known


def difference(a: Array, b: Array, same_images: bool, same_seeds: bool) -> Difference:
    """Return the difference of the mean accuracies, by a bootstrap over images and replicas.

    Images are drawn for what each does to all replicas, and to that is added the mean of drawn
    replicas: of R - 1, whose variance is the one that R have, since the spread of R values
    about their own mean is that much too small. What an image does to one replica alone is in
    the replicas' spread and so taken out of the images'. With few replicas their spread is
    itself uncertain: the interval is widened as Student's t is against the normal
    distribution, for the degrees of freedom of Welch and Satterthwaite (1946,
    doi:10.2307/3002019).
    """
    random = np.random.default_rng(0)  # the same answer for the same two commits
    per_image = [_shared(b - 1.0 * a)] if same_images else [_shared(1.0 * b), -_shared(1.0 * a)]
    per_seed = [b.mean(1) - a.mean(1)] if same_seeds else [b.mean(1), -a.mean(1)]
    value = b.mean() - a.mean()
    draws = np.zeros(DRAWS)
    variances, freedoms = [], []
    for x in per_image:
        # To draw images is to draw how many have each of the few values.
        values, counts = np.unique(x, return_counts=True)
        drawn = random.multinomial(len(x), counts / len(x), DRAWS)
        draws += drawn @ values / len(x)
        variances.append(x.var() / len(x))
        freedoms.append(len(x) - 1)
    of_images = math.sqrt(sum(variances))
    seeds_known = all(len(x) > 1 for x in per_seed)
    of_seeds = math.nan
    if seeds_known:
        for x in per_seed:
            chosen = random.integers(0, len(x), (DRAWS, len(x) - 1))
            draws += (x - x.mean())[chosen].mean(1)
            variances.append(x.var(ddof=1) / len(x))
            freedoms.append(len(x) - 1)
        of_seeds = math.sqrt(sum(variances[len(per_image) :]))
    wider = _wider(variances, freedoms)
    draws = value + wider * (draws - value)
    low, high = np.quantile(draws, [0.025, 0.975])
    # Twice the smaller share beyond nothing; never quite 0, since there are only so many draws.
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (DRAWS + 1))
    scores = per_seed[0] if same_seeds else np.add.outer(*per_seed)
    wins = (scores > 0).mean() + (scores == 0).mean() / 2
    return Difference(float(value), float(low), float(high), p, float(wins), of_images, of_seeds)


def _shared(x: Array) -> Array:
    """Return the mean over replicas, float64 (N,), of x (R, N), less what is one replica's alone.

    By the mean squares of a two-way table without repetition.
    """
    replicas, images = x.shape
    mean: Array = x.mean(0)
    if replicas == 1 or not mean.var():
        return mean
    alone = x - x.mean(1, keepdims=True) - mean + x.mean()
    variance = (alone**2).sum() / ((replicas - 1) * (images - 1)) / replicas
    smaller = math.sqrt(max(0.0, 1 - variance / mean.var()))
    result: Array = mean.mean() + smaller * (mean - mean.mean())
    return result


def _wider(variances: list[float], freedoms: list[int]) -> float:
    """Return how much wider Student's interval is than the normal one."""
    terms = [(v, f) for v, f in zip(variances, freedoms, strict=True) if v > 0 and f > 0]
    if not terms:
        return 1.0
    freedom = sum(v for v, _ in terms) ** 2 / sum(v * v / f for v, f in terms)
    return float(stats.t.ppf(0.975, freedom)) / WIDE


def mcnemar(a: Array, b: Array) -> tuple[int, int, float]:
    """Return how many images only A and only B gets right, bool (N,), and the exact p-value.

    McNemar 1947, doi:10.1007/BF02295996: under the null hypothesis the one is as likely as
    the other.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 0, 0, 1.0
    return only_a, only_b, float(stats.binomtest(only_b, only_a + only_b).pvalue)


def needed(found: Difference, images: int, replicas: int) -> tuple[int | None, int | None]:
    """Return how many images, or replicas, would show a difference as large as `found`.

    They would in four cases of five. Images if more of them alone are enough, else replicas if
    those are, else both; the other of the two is None, as both are where there is no difference.
    """
    if found.value == 0:
        return None, None
    target = (found.value / (WIDE + POWER)) ** 2  # the variance that it takes
    of_images = found.of_images**2
    of_seeds = 0.0 if math.isnan(found.of_seeds) else found.of_seeds**2
    if of_seeds < target:
        return math.ceil(images * of_images / (target - of_seeds)), None
    if of_images < target:
        return None, math.ceil(replicas * of_seeds / (target - of_images))
    return math.ceil(2 * images * of_images / target), math.ceil(2 * replicas * of_seeds / target)


def holm(values: list[float]) -> list[float]:
    """Return p-values corrected for being several (Holm 1979, jstor.org/stable/4615733)."""
    order = np.argsort(values, kind="stable")
    corrected = [0.0] * len(values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        corrected[place] = largest
    return corrected
