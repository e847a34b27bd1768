"""The comparison as it was before, kept as a peer for `benchmarks/compare.py`.

It pairs examples only if both sides have the same ones, knows neither groups nor classes, weights
all replicas alike, and takes the degrees of freedom of normally distributed scores.
"""

from fairtrial.statistics.significance import (
    Array,
    Difference,
    Variance,
    is_right_or_wrong,
    mean_variance,
    welch_satterthwaite,
)


def difference(a: Array, b: Array, same_examples: bool, pairs: int) -> Difference:
    """Return the difference of the mean scores (R, N) of two revisions.

    pairs: how many replicas, the first of both, have the same seed.
    """
    ra, rb = len(a), len(b)
    if not same_examples or pairs < 2:
        pairs = 0
    # The mean of all of B less that of all of A, as a sum of pairs and of what has no partner.
    tables = [((rb - pairs) / (ra * rb), a), ((ra - pairs) / (ra * rb), b)]
    if pairs:
        tables.append((pairs / (ra * rb), b[:pairs] - a[:pairs]))
    tables = [(weight, table) for weight, table in tables if weight]
    seeds = welch_satterthwaite(
        [(weight, Variance(table.mean(1).var(ddof=1), len(table) - 1)) for weight, table in tables]
    )
    residual = sum(weight * _residual_variance(table) for weight, table in tables)
    if same_examples:
        per_example = [(b.mean(0) - a.mean(0), residual)]
    else:
        per_example = [(x.mean(0), _residual_variance(x) / len(x)) for x in (a, b)]
    examples = welch_satterthwaite(
        [
            (1.0, Variance(max(0.0, mean_variance(means) - counted), len(means) - 1))
            for means, counted in per_example
        ]
    )
    n = min(a.shape[1], b.shape[1])
    step = 1 / n if is_right_or_wrong(a, b) else 0.0
    return Difference(float(b.mean() - a.mean()), examples, seeds, residual, n, step)


def _residual_variance(table: Array) -> float:
    """Return the variance of a replica's mean which the residuals of a table (R, N) cause."""
    replicas, n = table.shape
    residuals = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    return float((residuals**2).sum() / ((replicas - 1) * (n - 1)) / n)
