"""The statistics of a comparison, against known truth and other implementations."""

import math

import numpy as np
import pytest
from mlxtend.evaluate import mcnemar as mlxtend_mcnemar
from scipy import stats

from tests.helpers.replicas import replicas
from tools.analysis.significance import (
    Difference,
    difference,
    holm,
    mcnemar,
    required_sample_size,
)

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (0, 1), (0, 5), (3, 4), (10, 25), (120, 180), (700, 700)]
)
def test_mcnemar_is_that_of_mlxtend_and_the_closed_form(only_a: int, only_b: int) -> None:
    both, neither = 1_000, 100
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    *counts, p = mcnemar(a, b)
    assert counts == [only_a, only_b]
    n, least = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert p == pytest.approx(min(1.0, 2 * tail) if only_a != only_b else 1.0)
    if n:
        _, expected = mlxtend_mcnemar(np.array([[both, only_a], [only_b, neither]]), exact=True)
        assert p == pytest.approx(min(1.0, expected))


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        # The example of the article "Holm-Bonferroni method" of Wikipedia: H1 and H4 are rejected.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.04], [1.0, 1.0, 0.12]),  # never more than 1
    ],
)
def test_holm_gives_the_published_values(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_the_interval_without_noise_of_seeds_is_that_of_a_paired_t_test() -> None:
    a, b = (RANDOM.uniform(size=(1, 5_000)) < share for share in (0.8, 0.82))
    result = difference(a, b, True, True)
    paired = stats.ttest_rel(b[0].astype(float), a[0].astype(float))
    expected = paired.confidence_interval(0.95)
    assert result.value == pytest.approx(b.mean() - a.mean())
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=5e-4)
    assert result.p == pytest.approx(paired.pvalue, abs=0.01)
    assert math.isnan(result.se_seeds)


def test_the_interval_without_noise_of_images_is_that_of_a_t_test_of_the_seeds() -> None:
    """Every image is right in the same replicas, so that images make no difference."""
    ease = np.linspace(0, 1, 200_000)
    shares_a, shares_b = RANDOM.normal(0.80, 0.01, (2, 5))
    a, b = (np.array([ease < share for share in shares]) for shares in (shares_a, shares_b))
    result = difference(a, b, True, False)
    welch = stats.ttest_ind(shares_b, shares_a, equal_var=False).confidence_interval(0.95)
    assert result.high - result.low == pytest.approx(welch.high - welch.low, rel=0.1)
    paired = difference(a, b, True, True)
    expected = stats.ttest_rel(shares_b, shares_a).confidence_interval(0.95)
    assert paired.high - paired.low == pytest.approx(expected.high - expected.low, rel=0.15)


def test_unpaired_images_are_wider() -> None:
    a, b = replicas([0.80, 0.81, 0.79]), replicas([0.82, 0.83, 0.81])
    paired, unpaired = (difference(a, b, same, False) for same in (True, False))
    assert unpaired.value == pytest.approx(paired.value)
    assert unpaired.high - unpaired.low > 1.5 * (paired.high - paired.low)
    share = unpaired.se_images / math.sqrt(2 * 0.81 * 0.19 / 500)
    assert share == pytest.approx(1, abs=0.05)


def test_the_probability_of_being_better_counts_pairs_of_seeds() -> None:
    a, b = replicas([0.80, 0.82]), replicas([0.81, 0.82])
    assert difference(a, b, True, True).prob_better == 0.75
    assert difference(a, b, True, False).prob_better == (1 + 1 + 0 + 0.5) / 4


def test_the_same_predictions_are_no_difference() -> None:
    a = replicas([0.8, 0.82])
    result = difference(a, a, True, True)
    assert (result.value, result.low, result.high, result.p) == (0, 0, 0, 1)
    assert required_sample_size(result, 500, 2) == (None, None)


@pytest.mark.parametrize(
    ("se_images", "se_seeds", "required"),
    [(0.02, 0.0, "images"), (0.02, math.nan, "images"), (0.0, 0.02, "seeds"), (0.02, 0.02, "both")],
)
def test_the_required_sample_size_has_a_power_of_80_percent(
    se_images: float, se_seeds: float, required: str
) -> None:
    gap = Difference(0.01, -0.03, 0.05, 0.6, 0.6, se_images, se_seeds)
    images, seeds = required_sample_size(gap, 500, 4)
    assert (images is not None) == (required in ("images", "both"))
    assert (seeds is not None) == (required in ("seeds", "both"))
    variance = se_images**2 * 500 / (images or 500)
    variance += (0 if math.isnan(se_seeds) else se_seeds**2) * 4 / (seeds or 4)
    power = stats.norm.cdf(0.01 / math.sqrt(variance) - stats.norm.ppf(0.975))
    assert power == pytest.approx(0.8, abs=0.01)
