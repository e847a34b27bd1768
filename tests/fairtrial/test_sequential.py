"""The comparison after every replica, against known truth and other ways to compute it."""

import numpy as np
import pytest
from scipy import integrate, stats

from fairtrial.statistics.sequential import (
    MIN_DECISIVE,
    PRIOR_VARIANCE,
    SEEDS_LEVEL,
    InterimResult,
    interim_results,
    seeds_half_width,
)
from fairtrial.statistics.significance import Array

TRIALS = 400


def simulated(
    random: np.random.Generator, difference: float, example_sd: float, seed_sd: float, replicas: int
) -> tuple[Array, Array]:
    """Return results on 500 examples, whose true difference is `difference` by construction.

    example_sd: how much the chances of B on an example differ from those of A, apart from the mean.
    """
    examples = 500
    chance = random.uniform(0.45, 0.55, examples)
    effect = example_sd * random.choice([-1, 1], examples)
    a, b = (
        1.0
        * (
            random.uniform(size=(replicas, examples))
            < chance + mean + random.uniform(-1, 1, (replicas, 1)) * seed_sd * 3**0.5
        )
        for mean in (0, difference + effect)
    )
    return a, b


def is_naively_different(a: Array, b: Array) -> bool:
    """Return whether a t-test of the pairs of replicas is significant at any result."""
    gains = b.mean(1) - a.mean(1)
    return any(
        abs(gains[:r].mean()) > stats.t.ppf(0.975, r - 1) * gains[:r].std(ddof=1) / np.sqrt(r)
        for r in range(2, len(gains) + 1)
    )


@pytest.mark.parametrize(
    ("example_sd", "seed_sd"), [(0.0, 0.0), (0.0, 0.02), (0.1, 0.01), (0.4, 0.0), (0.4, 0.01)]
)
def test_equal_recipes_are_rarely_called_different(example_sd: float, seed_sd: float) -> None:
    random = np.random.default_rng(0)
    wrong = naively_wrong = 0
    for _ in range(TRIALS):
        a, b = simulated(random, 0, example_sd, seed_sd, replicas=60)
        wrong += any(result.outcome != "undecided" for result in interim_results(a, b))
        naively_wrong += is_naively_different(a, b)
    assert wrong <= 0.05 * TRIALS
    assert naively_wrong > 0.1 * TRIALS  # so the simulation is one in which it is easy to be wrong


@pytest.mark.parametrize(("example_sd", "seed_sd"), [(0.0, 0.02), (0.1, 0.01), (0.4, 0.0)])
def test_the_interval_has_the_true_difference_at_all_interim_results(
    example_sd: float, seed_sd: float
) -> None:
    random = np.random.default_rng(1)
    missed = 0
    for _ in range(TRIALS):
        known = interim_results(*simulated(random, 0.03, example_sd, seed_sd, replicas=60))
        missed += any(not result.interval[0] <= 0.03 <= result.interval[1] for result in known)
    assert missed <= 0.05 * TRIALS


def test_a_difference_needs_at_most_twice_the_replicas_of_a_fixed_design() -> None:
    # The standard deviation of a pair is 3.3 points, so 20 pairs show 2.2 points in 80 %.
    random = np.random.default_rng(2)
    fixed, decided = 20, []
    significant = 0
    for _ in range(200):
        a, b = simulated(random, 0.022, 0.0, 0.012, replicas=100)
        gains = b.mean(1) - a.mean(1)
        significant += stats.ttest_1samp(gains[:fixed], 0).pvalue < 0.05
        decided.append(
            next(
                (result.replicas for result in interim_results(a, b) if result.outcome == "better"),
                100,
            )
        )
    assert 0.7 < significant / 200 < 0.9
    assert np.median(decided) < 2 * fixed


@pytest.mark.parametrize("replicas", [4, 5, 8, 30])
def test_the_half_width_is_where_an_integrated_likelihood_ratio_reaches_its_limit(
    replicas: int,
) -> None:
    values = np.random.default_rng(3).normal(size=replicas)
    squares = ((values - values.mean()) ** 2).sum()
    # At a half-width from the mean, the likelihood ratio of Student's t is 1 / level.
    half_width = seeds_half_width(np.array([squares]), np.array([replicas]))[0]
    t = half_width / np.sqrt(squares / (replicas - 1) / replicas)

    def integrand(effect: float) -> float:
        density = stats.nct.pdf(t, replicas - 1, effect * np.sqrt(replicas))
        return float(density * stats.norm.pdf(effect, scale=np.sqrt(PRIOR_VARIANCE)))

    points = [t / np.sqrt(replicas) * k for k in (0.5, 1, 1.5)]
    evidence, _ = integrate.quad(integrand, -40, 40, points=points, limit=500)
    assert evidence / stats.t.pdf(t, replicas - 1) == pytest.approx(1 / SEEDS_LEVEL, rel=1e-3)


def test_each_result_is_a_two_way_analysis_of_the_replicas_so_far() -> None:
    a, b = simulated(np.random.default_rng(4), 0.05, 0.2, 0.03, replicas=7)
    known = interim_results(a, b)
    assert [result.replicas for result in known] == [1, 2, 3, 4, 5, 6, 7]
    for result in known[1:]:
        r, n = result.replicas, result.examples
        table = b[:r] * 1.0 - a[:r]
        rows, columns, mean = table.mean(1, keepdims=True), table.mean(0), table.mean()
        residual = ((table - rows - columns + mean) ** 2).sum() / ((r - 1) * (n - 1))
        seeds = max(rows.var(ddof=1), residual / n)
        of_examples = max(0.0, columns.var(ddof=1) - residual / r)
        assert result.value == pytest.approx(mean)
        assert result.se_examples == pytest.approx(np.sqrt(of_examples / n))
        limit = abs(mean) + stats.t.ppf(0.975, r - 1) * np.sqrt(seeds / r)
        assert result.mean_limit == pytest.approx(limit)
        assert np.isinf(result.half_width) == (r < MIN_DECISIVE)


def test_few_examples_are_said_to_be_what_limits_and_enough_of_them_decide() -> None:
    random = np.random.default_rng(5)
    a, b = simulated(random, 0.01, 0.25, 0.0, replicas=100)
    last = interim_results(a, b)[-1]
    assert last.outcome == "undecided"
    assert last.is_limited_by_examples
    # If the effects of that many examples are known, the power is 80 %.
    required = InterimResult(100, 500, 0.01, 0.0, 0.25 / 500**0.5, 0.0, 1.0, 1).required_examples
    assert required is not None
    effects = 0.01 + 0.25 * random.choice([-1.0, 1.0], (1_000, required))
    t = effects.mean(1) / (effects.std(1, ddof=1) / np.sqrt(required))
    shown = np.mean(t > stats.t.ppf(0.9875, required - 1))
    assert shown == pytest.approx(0.8, abs=0.04)


def test_results_without_any_spread() -> None:
    ones, zeros = np.ones((10, 50)), np.zeros((10, 50))
    same = interim_results(ones, ones)[-1]
    assert (same.outcome, same.is_identical, same.required_examples) == ("undecided", True, None)
    assert same.is_limited_by_examples  # no number of replicas would change it
    assert interim_results(zeros, ones)[-1].outcome == "better"
    assert interim_results(ones, zeros)[-1].outcome == "worse"
    # Two examples are two coins, whatever all replicas agree on.
    assert {result.outcome for result in interim_results(zeros[:, :2], ones[:, :2])} == {
        "undecided"
    }
    # Each replica gains the same three examples, which is what three coins may do.
    three = ones.copy()
    three[:, :3] = 0
    assert {result.outcome for result in interim_results(three, ones)} == {"undecided"}
    assert not interim_results(three, ones)[-1].is_identical


def test_lower_scores_may_be_better() -> None:
    a, b = simulated(np.random.default_rng(6), 0.2, 0.0, 0.0, replicas=8)
    gain, loss = interim_results(a, b)[-1], interim_results(1 - a, 1 - b, sign=-1)[-1]
    assert gain.outcome == loss.outcome == "better"
    assert gain.value == pytest.approx(-loss.value)
    assert gain.half_width == pytest.approx(loss.half_width)


@pytest.mark.parametrize("example_sd", [0.0, 0.3])
def test_scores_that_are_any_numbers_are_rarely_called_different(example_sd: float) -> None:
    """Skewed ones, as squared errors are, of equal recipes."""
    random = np.random.default_rng(7)
    wrong = 0
    for _ in range(TRIALS):
        ease, effect = random.exponential(1, 200), example_sd * random.normal(size=200)
        a, b = (
            ease + mean + random.normal(0, 0.1, (40, 1)) + random.exponential(0.3, (40, 200))
            for mean in (0, effect)
        )
        wrong += any(result.outcome != "undecided" for result in interim_results(a, b))
    assert wrong <= 0.05 * TRIALS


def test_equal_numbers_need_no_more_replicas() -> None:
    a = np.random.default_rng(8).normal(size=(6, 50))
    last = interim_results(a, a)[-1]
    assert (last.outcome, last.is_identical, last.is_limited_by_examples) == (
        "undecided",
        True,
        True,
    )
