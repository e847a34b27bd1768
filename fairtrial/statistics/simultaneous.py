"""How many independent comparisons several are worth that have much in common.

Comparisons with the same first revision depend on one another, and so do those of two metrics.
Bonferroni's correction ignores that. Here the differences are drawn, as if nothing differed, with
the correlations that the scores show; the p-value that the least of all p-values falls below in 5 %
of the draws is where the correction ends (single-step max-t: Hothorn, Bretz and Westfall 2008,
doi:10.1002/bimj.200810425; Conneely and Boehnke 2007, doi:10.1086/522036). The draws have a fixed
seed, so that the same scores always give the same result.
"""

from collections.abc import Sequence

import numpy as np
from scipy import special

from fairtrial.statistics.significance import LEVEL, Array

DRAWS = 50_000  # the quantile has a standard error of 0.4 %


def deviations(
    scores: Array, units: Array, classes: Array | None, seeds: Array, sizes: tuple[int, int]
) -> Array:
    """Return what makes the mean of scores (R, N) uncertain: of each unit, and of each seed.

    units: (N,), the group of an example, or the example itself; classes: (N,), if their means count
    the same; seeds: (R,); all are whole numbers from 0. sizes: how many units and seeds there are
    in all revisions. The squares of the result, float64 (sum of sizes,), add up to a variance, and
    its products with that of another revision to a covariance.
    """
    if classes is None:
        classes = np.zeros(len(units), dtype=int)
    count = np.bincount(classes)
    weights = 1 / count[classes] / np.count_nonzero(count)
    means = scores.mean(0)
    of_class = np.bincount(classes, means)[classes] / count[classes]
    effects = np.bincount(units, (means - of_class) * weights, sizes[0])
    replicas = len(scores)
    of_seeds = np.zeros(sizes[1])
    if replicas > 1:
        gaps = scores @ weights
        of_seeds[seeds] = (gaps - gaps.mean()) / np.sqrt(replicas * (replicas - 1))
    return np.concatenate([effects, of_seeds])


def effective_number(arms: Array, pairs: Sequence[tuple[int, int]]) -> float:
    """Return how many independent comparisons are worth those of pairs, by each of M metrics.

    arms: float64 (M, K, D), what `deviations` returns, by metric and revision; pairs: positions
    from 0 to K - 1. The result is from 1 to M times the number of pairs.
    """
    m, k, d = arms.shape
    if m * len(pairs) < 2:
        return float(m * len(pairs))
    scale = np.abs(arms).max((1, 2), keepdims=True)
    table = (arms / np.where(scale > 0, scale, 1.0)).reshape(m * k, d)
    covariance = table @ table.T
    own = np.diag(covariance)
    # A little noise of each makes the matrix definite, whichever sides are the same.
    covariance += np.diag(1e-9 * own + 1e-12)
    draws = np.random.default_rng(0).standard_normal((DRAWS, m * k))
    draws = draws @ np.linalg.cholesky(covariance).T
    largest = np.zeros(DRAWS)
    for i, j in ((start + i, start + j) for start in range(0, m * k, k) for i, j in pairs):
        variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        np.maximum(largest, np.abs(draws[:, j] - draws[:, i]) / np.sqrt(variance), out=largest)
    level = 2 * float(special.ndtr(-np.quantile(largest, 1 - LEVEL)))
    return min(max(LEVEL / level, 1.0), float(m * len(pairs)))
