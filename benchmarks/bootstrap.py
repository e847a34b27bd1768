"""The comparison as it was before the closed forms: a bootstrap, for `benchmarks/compare.py`.

Images and replicas are drawn with replacement, R - 1 of R replicas, and the draws are stretched as
Student's t is against the normal distribution. It is right at p = 0.05 with many seeds. The tails
of the draws stay nearly normal, so that its small p-values are far too small.
"""

import math

import numpy as np
from scipy import stats

from fairtrial.statistics.significance import Array

DRAWS = 10_000
Z_975 = float(stats.norm.ppf(0.975))


def bootstrap(a: Array, b: Array, is_paired: bool) -> tuple[float, float, float]:
    """Return low and high of the 95 % interval of the difference, and the two-sided p-value.

    a, b: bool (R, N), on the same images; `is_paired` says that the seeds are the same.
    """
    random = np.random.default_rng(0)
    effects = _image_effects(b - 1.0 * a)
    seeds = [b.mean(1) - a.mean(1)] if is_paired else [b.mean(1), -a.mean(1)]
    values, counts = np.unique(effects, return_counts=True)
    draws = random.multinomial(len(effects), counts / len(effects), DRAWS) @ values / len(effects)
    variances, freedoms = [effects.var() / len(effects)], [len(effects) - 1]
    if len(a) > 1:
        for x in seeds:
            chosen = random.integers(0, len(x), (DRAWS, len(x) - 1))
            draws = draws + (x - x.mean())[chosen].mean(1)
            variances.append(x.var(ddof=1) / len(x))
            freedoms.append(len(x) - 1)
    terms = [(v, df) for v, df in zip(variances, freedoms, strict=True) if v > 0]
    stretch = 1.0
    if terms:
        df = sum(v for v, _ in terms) ** 2 / sum(v * v / df for v, df in terms)
        stretch = float(stats.t.ppf(0.975, df)) / Z_975
    value = b.mean() - a.mean()
    draws = value + stretch * (draws - value)
    low, high = np.quantile(draws, [0.025, 0.975])
    beyond = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(low), float(high), min(1.0, 2 * (beyond + 1) / (DRAWS + 1))


def _image_effects(table: Array) -> Array:
    """Return the mean over replicas (N,) of a table (R, N), less the residuals' part of it."""
    replicas, n = table.shape
    mean: Array = table.mean(0)
    if replicas == 1 or not mean.var():
        return mean
    residuals = table - table.mean(1, keepdims=True) - mean + table.mean()
    variance = (residuals**2).sum() / ((replicas - 1) * (n - 1)) / replicas
    shrinkage = math.sqrt(max(0.0, 1 - variance / mean.var()))
    result: Array = mean.mean() + shrinkage * (mean - mean.mean())
    return result
