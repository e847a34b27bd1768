"""Whether B is better than A, judged by which images their replicas get right.

An accuracy varies with the images that happen to be in the split and with the seed that the
model was trained with. Arrays are bool (R, N): whether each of R replicas gets each of N images
right. A and B are compared on the same images where possible; their replicas are pairs if they
were trained with the same seeds.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

Array = np.ndarray[Any, Any]

BOOTSTRAP_DRAWS = 10_000
Z_975 = float(stats.norm.ppf(0.975))  # of a two-sided interval of 95 %
Z_80 = float(stats.norm.ppf(0.8))  # of a power of 80 %


class Difference(NamedTuple):
    """The accuracy of B minus that of A, as a share of the images, and its uncertainty."""

    value: float
    low: float  # of the 95 % confidence interval
    high: float
    p: float  # two-sided p-value of the null hypothesis that there is no difference
    prob_better: float  # the share of the pairs of seeds in which B is better; a tie counts half
    se_images: float  # the standard error due to the images
    se_seeds: float  # the standard error due to the seeds; NaN if it is unknown


def difference(a: Array, b: Array, same_images: bool, same_seeds: bool) -> Difference:
    """Return the difference of the mean accuracies, by a bootstrap over images and replicas.

    The bootstrap draws images by their mean effect on all replicas, and adds the mean of drawn
    replicas. It draws R - 1 replicas instead of R: the variance of R values about their own
    mean is too small by the factor (R - 1) / R, and the mean of R - 1 makes up for it. The effect
    of an image on one replica alone is part of the variance of the replicas, and is therefore
    removed from that of the images. With few replicas the variance is itself uncertain: the
    interval is widened by the ratio of Student's t to the normal distribution, for the degrees
    of freedom of Welch and Satterthwaite (1946, doi:10.2307/3002019).
    """
    random = np.random.default_rng(0)  # the same result for the same two revisions
    if same_images:
        per_image = [image_effects(b - 1.0 * a)]
    else:
        per_image = [image_effects(1.0 * b), -image_effects(1.0 * a)]
    per_seed = [b.mean(1) - a.mean(1)] if same_seeds else [b.mean(1), -a.mean(1)]
    value = b.mean() - a.mean()
    draws = np.zeros(BOOTSTRAP_DRAWS)
    variances, degrees_of_freedom = [], []
    for x in per_image:
        # Few values occur: a draw of images is a draw of how often each of these occurs.
        values, counts = np.unique(x, return_counts=True)
        drawn_counts = random.multinomial(len(x), counts / len(x), BOOTSTRAP_DRAWS)
        draws += drawn_counts @ values / len(x)
        variances.append(x.var() / len(x))
        degrees_of_freedom.append(len(x) - 1)
    se_images = math.sqrt(sum(variances))
    se_seeds = math.nan
    if all(len(x) > 1 for x in per_seed):
        for x in per_seed:
            drawn_replicas = random.integers(0, len(x), (BOOTSTRAP_DRAWS, len(x) - 1))
            draws += (x - x.mean())[drawn_replicas].mean(1)
            variances.append(x.var(ddof=1) / len(x))
            degrees_of_freedom.append(len(x) - 1)
        se_seeds = math.sqrt(sum(variances[len(per_image) :]))
    draws = value + t_to_z_ratio(variances, degrees_of_freedom) * (draws - value)
    low, high = np.quantile(draws, [0.025, 0.975])
    # Twice the share of the draws beyond zero, and never 0, because the draws are finite.
    beyond_zero = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (beyond_zero + 1) / (BOOTSTRAP_DRAWS + 1))
    pairs = per_seed[0] if same_seeds else np.add.outer(*per_seed)
    prob_better = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    return Difference(float(value), float(low), float(high), p, prob_better, se_images, se_seeds)


def image_effects(x: Array) -> Array:
    """Return the effect of each image on all replicas, float64 (N,), of x (R, N).

    It is the mean over the replicas, shrunk towards the mean of all images such that its
    variance is that of the image effects in a two-way table without repetition.
    """
    replicas, images = x.shape
    mean: Array = x.mean(0)
    if replicas == 1 or not mean.var():
        return mean
    residuals = x - x.mean(1, keepdims=True) - mean + x.mean()
    residual_variance = (residuals**2).sum() / ((replicas - 1) * (images - 1)) / replicas
    shrinkage = math.sqrt(max(0.0, 1 - residual_variance / mean.var()))
    effects: Array = mean.mean() + shrinkage * (mean - mean.mean())
    return effects


def t_to_z_ratio(variances: list[float], degrees_of_freedom: list[int]) -> float:
    """Return the ratio of the 97.5 % quantiles of Student's t and the normal distribution."""
    terms = [(v, d) for v, d in zip(variances, degrees_of_freedom, strict=True) if v > 0 and d > 0]
    if not terms:
        return 1.0
    total = sum(v for v, _ in terms) ** 2 / sum(v * v / d for v, d in terms)
    return float(stats.t.ppf(0.975, total)) / Z_975


def mcnemar(a: Array, b: Array) -> tuple[int, int, float]:
    """Return how many images only A and only B gets right, and the exact p-value; bool (N,) each.

    McNemar 1947, doi:10.1007/BF02295996: under the null hypothesis both are equally likely.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 0, 0, 1.0
    return only_a, only_b, float(stats.binomtest(only_b, only_a + only_b).pvalue)


def required_sample_size(
    difference: Difference, images: int, replicas: int
) -> tuple[int | None, int | None]:
    """Return how many images, or how many replicas, would show such a difference.

    They show it with a power of 80 %. The result has images if more of them are enough, else
    replicas if more of these are enough, else both; what is not required is None, and both are
    if there is no difference.
    """
    if difference.value == 0:
        return None, None
    target = (difference.value / (Z_975 + Z_80)) ** 2  # the variance to be reached
    variance_images = difference.se_images**2
    variance_seeds = 0.0 if math.isnan(difference.se_seeds) else difference.se_seeds**2
    if variance_seeds < target:
        return math.ceil(images * variance_images / (target - variance_seeds)), None
    if variance_images < target:
        return None, math.ceil(replicas * variance_seeds / (target - variance_images))
    return (
        math.ceil(2 * images * variance_images / target),
        math.ceil(2 * replicas * variance_seeds / target),
    )


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons (Holm 1979, jstor.org/stable/4615733)."""
    from statsmodels.stats.multitest import multipletests

    if not p_values:
        return []
    corrected: list[float] = multipletests(p_values, method="holm")[1].tolist()
    return corrected
