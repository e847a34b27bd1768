"""The statistics of a comparison, against known truth and other implementations."""

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairtrial.statistics.planning import required_sample_size
from fairtrial.statistics.significance import (
    Array,
    Difference,
    Pairing,
    Variance,
    mcnemar,
    mean_interval,
    wilson_interval,
)
from fairtrial.statistics.significance import difference as general_difference
from tests.fairtrial.replicas import replicas

RANDOM = np.random.default_rng(0)


def difference(a: Array, b: Array, same_examples: bool, pairs: int) -> Difference:
    """Return the difference with the same examples in the same order, or with none in common."""
    first, second = np.arange(a.shape[1]), np.arange(b.shape[1])
    examples = first, second if same_examples else second + len(first)
    return general_difference(a, b, Pairing(pairs > 0, examples))


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (0, 1), (0, 5), (3, 4), (10, 25), (120, 180), (700, 700)]
)
def test_mcnemar_is_the_closed_form_and_the_binomial_test(only_a: int, only_b: int) -> None:
    both, neither = 1_000, 100
    a = np.repeat([1.0, 1.0, 0.0, 0.0], [both, only_a, only_b, neither])
    b = np.repeat([1.0, 0.0, 1.0, 0.0], [both, only_a, only_b, neither])
    *counts, p = mcnemar(a, b)
    assert counts == [only_a, only_b]
    n, least = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert p == pytest.approx(min(1.0, 2 * tail))
    if n:
        assert p == pytest.approx(stats.binomtest(only_b, n).pvalue)


@given(st.integers(1, 1_000), st.floats(0, 1))
def test_wilson_is_that_of_scipy(n: int, fraction: float) -> None:
    hits = round(n * fraction)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert wilson_interval(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    scores = np.arange(n) < hits
    assert mean_interval(scores.astype(float)) == wilson_interval(hits, n)


def test_the_interval_of_a_mean_is_students() -> None:
    values = RANDOM.normal(size=30)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == pytest.approx((expected.low, expected.high))
    assert mean_interval(values[:1]) == (-math.inf, math.inf)


def test_the_interval_without_noise_of_seeds_is_that_of_a_paired_t_test() -> None:
    a, b = (1.0 * (RANDOM.uniform(size=(1, 5_000)) < fraction) for fraction in (0.8, 0.82))
    result = difference(a, b, True, 0)
    expected = stats.ttest_rel(b[0], a[0])
    interval = expected.confidence_interval(0.95)
    assert result.value == pytest.approx(b.mean() - a.mean())
    # But for the degrees of freedom, which the kurtosis of so few differences makes fewer.
    assert result.interval() == pytest.approx((interval.low, interval.high), rel=1e-4)
    assert result.p == pytest.approx(expected.pvalue, rel=0.02)
    assert result.seeds is None


@pytest.mark.parametrize("is_paired", [True, False])
def test_the_interval_without_noise_of_examples_is_that_of_a_t_test_of_the_seeds(
    is_paired: bool,
) -> None:
    """Examples are right in nested sets, so that they make no difference."""
    ease = np.linspace(0, 1, 200_000)
    fractions = RANDOM.normal(0.80, 0.01, (2, 5))
    a, b = (np.array([1.0 * (ease < fraction) for fraction in side]) for side in fractions)
    result = difference(a, b, True, 5 if is_paired else 0)
    if is_paired:
        expected = stats.ttest_rel(b.mean(1), a.mean(1))
    else:
        expected = stats.ttest_ind(b.mean(1), a.mean(1), equal_var=False)
    interval = expected.confidence_interval(0.95)
    # The few examples between the replicas still vary, and unpaired seeds share all others.
    assert result.interval() == pytest.approx((interval.low, interval.high), abs=1e-3)
    assert result.p == pytest.approx(expected.pvalue, abs=0.01)


def anova(table: Array) -> tuple[float, float, float]:
    """Return the mean squares of seeds, examples and residuals of a table (R, N), by definition."""
    r, n = table.shape
    grand = statistics.fmean(table.ravel())
    rows, columns = [statistics.fmean(x) for x in table], [statistics.fmean(x) for x in table.T]
    seeds = n * sum((x - grand) ** 2 for x in rows) / (r - 1)
    examples = r * sum((x - grand) ** 2 for x in columns) / (n - 1)
    residual = sum(
        (table[i, j] - rows[i] - columns[j] + grand) ** 2 for i in range(r) for j in range(n)
    )
    return seeds, examples, residual / ((r - 1) * (n - 1))


def test_the_variance_is_that_of_a_two_way_random_effects_model() -> None:
    """By the expected mean squares: Var = (MS_seeds + MS_images - MS_residual) / (R N)."""
    examples = RANDOM.normal(1, 2, 60)
    a, b = (
        examples + gap + RANDOM.normal(0, 0.5, (5, 1)) + RANDOM.normal(0, 1, (5, 60))
        for gap in (0, 0.4)
    )
    result = difference(a, b, True, 5)
    ms_seeds, ms_examples, ms_residual = anova(b - a)
    assert result.seeds is not None
    assert result.seeds.value == pytest.approx(ms_seeds / 300)
    assert result.residual == pytest.approx(ms_residual / 300)
    assert result.examples.value == pytest.approx((ms_examples - ms_residual) / 300)


def widths(a: Array, b: Array, pairing: Pairing) -> float:
    low, high = general_difference(a, b, pairing).interval()
    return high - low


@pytest.mark.parametrize("likeness", [0.0, 0.7, 1.0])
def test_more_replicas_on_one_side_narrow_the_interval(likeness: float) -> None:
    """5 against 100 is on average no wider than 5 against 5, whatever pairs have in common."""
    ratios = []
    for _ in range(60):
        ease, seeds = RANDOM.normal(1, 1, 300), RANDOM.normal(0, 0.2, (100, 1))
        noise = RANDOM.normal(0, 0.4, (100, 300))
        other_seeds = likeness * seeds + math.sqrt(1 - likeness**2) * RANDOM.normal(
            0, 0.2, (100, 1)
        )
        other = likeness * noise + math.sqrt(1 - likeness**2) * RANDOM.normal(0, 0.4, (100, 300))
        a = 1.0 * (ease + seeds + noise > 0)
        b = 1.0 * (ease + 0.03 + other_seeds + other > 0)
        pairing = Pairing.of_same_examples(300, same_seeds=True)
        ratios.append(widths(a[:5], b, pairing) / widths(a[:5], b[:5], pairing))
        assert widths(b, a[:5], pairing) == pytest.approx(widths(a[:5], b, pairing))
    assert statistics.fmean(ratios) <= 1 + 3 * statistics.stdev(ratios) / math.sqrt(60)


def test_more_examples_on_either_side_narrow_the_interval() -> None:
    """Also those that the other side does not have."""
    ratios: list[list[float]] = []
    for _ in range(60):
        ease = RANDOM.normal(1, 1, 700)
        a, b = (1.0 * (ease + gap + RANDOM.normal(0, 0.3, (5, 700)) > 0) for gap in (0, 0.05))
        both, first, second = np.arange(300), np.arange(500), np.r_[np.arange(300), 500:700]
        base = widths(a[:, both], b[:, both], Pairing(False, (both, both)))
        ratios.append(
            [
                widths(a[:, x], b[:, y], Pairing(False, (x, y))) / base
                for x, y in ((first, both), (both, second), (first, second))
            ]
        )
    for column in zip(*ratios, strict=True):
        assert statistics.fmean(column) <= 1 + 3 * statistics.stdev(column) / math.sqrt(60)


def test_examples_without_a_partner_hardly_disturb_the_pairs() -> None:
    """An interval with 490 of 500 pairs is near that of 500, and far from that of strangers."""
    ease = RANDOM.normal(1, 1, 510)
    a, b = (1.0 * (ease + gap + RANDOM.normal(0, 0.1, (5, 510)) > 0) for gap in (0, 0.1))
    x, y = np.arange(500), np.arange(10, 510)
    pairs = widths(a[:, x], b[:, x], Pairing(False, (x, x)))
    most = widths(a[:, x], b[:, y], Pairing(False, (x, y)))
    strangers = widths(a[:, x], b[:, y], Pairing(False, (x, y + 1_000)))
    assert pairs * 0.8 < most < pairs * 1.2
    assert strangers > 2 * pairs


def test_the_order_of_examples_and_the_names_of_units_do_not_matter() -> None:
    a, b = RANDOM.normal(size=(3, 40)), RANDOM.normal(0.3, size=(3, 40))
    own, groups, classes = np.arange(40), np.arange(40) // 4, np.arange(40) % 3
    plain = general_difference(a, b, Pairing(True, (own, own), (groups, groups), (classes,) * 2))
    order = RANDOM.permutation(40)
    mixed = general_difference(
        a,
        b[:, order],
        Pairing(True, (own, own[order]), (groups, groups[order]), (classes, classes[order])),
    )
    assert mixed.interval() == pytest.approx(plain.interval())
    assert mixed.value == pytest.approx(plain.value)


def test_balanced_means_are_those_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    a, b = (RANDOM.normal(gap, 1, (4, 100)) for gap in (0, 0.2))
    own = np.arange(100)
    result = general_difference(a, b, Pairing(False, (own, own), None, (labels, labels)))
    means = [(b - a)[:, labels == number].mean() for number in range(3)]
    assert result.value == pytest.approx(statistics.fmean(means))
    # Stratified sampling (Cochran 1977, section 5.3), less what is the replicas' own.
    spread = [(b.mean(0) - a.mean(0))[labels == number].var(ddof=1) for number in range(3)]
    total = sum(v / n / 9 for v, n in zip(spread, (60, 30, 10), strict=True))
    assert result.examples.value + result.residual == pytest.approx(total, rel=0.05)


def test_groups_are_the_units_that_are_drawn() -> None:
    """As a t-test of the groups' sums, where all groups have the same size."""
    groups = np.arange(200) // 5
    of_group = RANDOM.normal(0, 1, 40)
    a = RANDOM.normal(size=(1, 200))
    b = a + 0.2 + of_group[groups] + RANDOM.normal(0, 0.5, (1, 200))
    own = np.arange(200)
    clustered = general_difference(a, b, Pairing(False, (own, own), (groups, groups)))
    naive = general_difference(a, b, Pairing(False, (own, own)))
    sums = (b - a)[0].reshape(40, 5).mean(1)
    assert clustered.examples.value == pytest.approx(sums.var(ddof=1) / 40)
    assert clustered.examples.value / naive.examples.value > 3  # the design effect
    one = general_difference(a, b, Pairing(False, (own, own), (groups * 0, groups * 0)))
    assert (one.interval(), one.p) == ((-math.inf, math.inf), 1)


def test_a_choice_is_corrected_where_it_was_made() -> None:
    diff = Difference(0.02, Variance(1e-5, 499), Variance(1e-5, 8), 1e-6, 500, 0.0)

    def width(examples: bool, seeds: bool) -> float:
        low, high = diff.corrected(20, examples, seeds).interval()
        return high - low

    plain = width(examples=False, seeds=False)
    assert plain == diff.interval()[1] - diff.interval()[0]
    by_examples, by_seeds, by_both = width(True, False), width(False, True), width(True, True)
    assert plain < by_examples < by_both
    assert plain < by_seeds < by_both
    only_examples = Difference(0.02, Variance(1e-5, 499), Variance(0.0, 8), 0.0, 500, 0.0)
    corrected = only_examples.corrected(20, True, False)
    assert corrected.interval() == pytest.approx(only_examples.interval(20), rel=0.01)


@pytest.mark.parametrize(("ra", "rb"), list(itertools.product(range(1, 7), repeat=2)))
def test_any_numbers_of_replicas_are_compared(ra: int, rb: int) -> None:
    a, b = (1.0 * (RANDOM.uniform(size=(r, 200)) < p) for r, p in ((ra, 0.8), (rb, 0.82)))
    for n_pairs in (0, min(ra, rb)):
        result = difference(a, b, True, n_pairs)
        low, high = result.interval()
        assert low < result.value < high
        assert 0 < result.p <= 1
        assert (result.seeds is None) == (min(ra, rb) == 1)


@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 50]),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 1e-9, 1.0, 1e9]),
    st.integers(0, 4),
    st.booleans(),
    st.integers(1, 100),
    st.integers(0, 2**32 - 1),
)
def test_p_and_interval_never_contradict(
    ra: int,
    rb: int,
    n: int,
    fraction_a: float,
    fraction_b: float,
    spread: float,
    n_pairs: int,
    same_examples: bool,
    comparisons: int,
    seed: int,
) -> None:
    """Also with one example, all right, all wrong, or identical replicas.

    spread: of further noise; without it, scores are right or wrong.
    """
    random = np.random.default_rng(seed)
    a, b = (
        (random.uniform(size=(r, n)) < fraction) + spread * random.normal(size=(r, n))
        for r, fraction in ((ra, fraction_a), (rb, fraction_b))
    )
    result = difference(a, b, same_examples, min(n_pairs, ra, rb))
    low, high = result.interval(comparisons)
    assert low <= result.value <= high
    assert 0 <= result.p <= 1
    if min(result.p * comparisons, 1) < 0.05 - 1e-9:
        assert low > 0 or high < 0
    if result.p * comparisons > 0.05 + 1e-9:
        assert low <= 0 <= high
    if n == 1:
        assert (low, high, result.p) == (-math.inf, math.inf, 1)


def test_replicas_that_agree_do_not_make_an_interval_without_width() -> None:
    a = np.tile(1.0 * (np.arange(500) < 400), (2, 1))
    b = np.tile(1.0 * (np.arange(500) < 403), (2, 1))
    low, high = difference(a, b, True, 2).interval()
    assert low < 0.006 < high
    assert high - low > 4 / 1_000  # twice 1.96 of a score, at least


def test_unpaired_examples_are_wider() -> None:
    a, b = replicas([0.80, 0.81, 0.79]), replicas([0.82, 0.83, 0.81])
    same, other = (difference(a, b, same, 0) for same in (True, False))
    assert other.value == pytest.approx(same.value)
    widths = [high - low for low, high in (same.interval(), other.interval())]
    assert widths[1] > 1.5 * widths[0]
    ratio = math.sqrt(other.examples.value) / math.sqrt(2 * 0.81 * 0.19 / 500)
    assert ratio == pytest.approx(1, abs=0.05)


def test_the_same_scores_are_no_difference() -> None:
    a = replicas([0.8, 0.82, 0.81])
    result = difference(a, a, True, 3)
    assert (result.value, result.p) == (0, 1)
    assert required_sample_size(result, 3) == (None, None)


@pytest.mark.parametrize(
    ("examples", "seeds", "required"),
    [(1e-6, 1e-4, "seeds"), (1e-4, 1e-6, "examples"), (1e-4, 1e-5, "both"), (0.0, 1e-4, "seeds")],
)
def test_the_required_sample_size_has_its_power(
    examples: float, seeds: float, required: str
) -> None:
    """By drawing from the model, with the variance's upper limit for the truth."""
    diff = Difference(0.01, Variance(examples, 499), Variance(seeds, 4), 0.0, 500, 0.0)
    more_examples, more_seeds = required_sample_size(diff, 5)
    assert (more_examples is not None) == (required in ("examples", "both"))
    assert (more_seeds is not None) == (required in ("seeds", "both"))
    limit = seeds * 4 / stats.chi2.ppf(0.2, 4)
    count = more_seeds or 5
    true_seeds, true_examples = limit * 5 / count, examples * 500 / (more_examples or 500)
    random = np.random.default_rng(0)
    seen = 0
    for value, chi2 in zip(
        random.normal(0.01, math.sqrt(true_seeds + true_examples), 4_000),
        random.chisquare(count - 1, 4_000) / (count - 1),
        strict=True,
    ):
        one = Difference(
            value,
            Variance(true_examples, 499),
            Variance(true_seeds * chi2, count - 1),
            0.0,
            500,
            0.0,
        )
        seen += one.p < 0.05
    assert seen / 4_000 == pytest.approx(0.8, abs=0.04)


@pytest.mark.parametrize("replicas", [1, 2])
def test_two_seeds_give_no_advice(replicas: int) -> None:
    seeds = None if replicas == 1 else Variance(1e-4, 1)
    diff = Difference(0.01, Variance(1e-4, 499), seeds, 0.0, 500, 0.002)
    assert required_sample_size(diff, replicas) == (None, None)


# The same model as in the module, drawn from: 95 % intervals have the truth in 93.5 to 98 %.
@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("seed_sd", [0.02, 0.1])
def test_the_interval_has_the_truth_as_often_as_it_says(count: int, seed_sd: float) -> None:
    random = np.random.default_rng(0)
    trials, n = 1_000, 300
    covered = 0
    spread = seed_sd**2 + 0.3**2
    truth = stats.norm.cdf(2.1 / math.sqrt(4.25 + spread)) - stats.norm.cdf(
        1.8 / math.sqrt(4 + spread)
    )
    for _ in range(trials):
        ease = random.normal(1.8, 2, n)
        other = ease + 0.3 + random.normal(0, 0.5, n)
        a, b = (
            1.0
            * (x + random.normal(0, seed_sd, (count, 1)) + random.normal(0, 0.3, (count, n)) > 0)
            for x in (ease, other)
        )
        low, high = difference(a, b, True, 0).interval()
        covered += low <= truth <= high
    # Within three standard errors of the aim.
    assert 0.935 - 0.023 <= covered / trials <= 0.98 + 0.013


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("seed_sd", [0.02, 0.2])
def test_so_has_the_interval_of_any_scores(count: int, pairs: bool, seed_sd: float) -> None:
    """Of skewed ones, as squared errors are, in any unit."""
    random = np.random.default_rng(1)
    trials, n, unit = 1_000, 200, 1e6
    covered = 0
    for _ in range(trials):
        ease = random.exponential(1, n)
        a, b = (
            unit
            * (
                ease * scale  # so that the mean of B is 0.2 larger
                + random.normal(0, seed_sd, (count, 1))
                + random.exponential(0.3, (count, n))
            )
            for scale in (1.0, 1.2)
        )
        low, high = difference(a, b, True, count if pairs else 0).interval()
        covered += low <= 0.2 * unit <= high
    assert 0.935 - 0.023 <= covered / trials <= 0.985 + 0.013


def test_the_unit_of_scores_changes_nothing_else() -> None:
    a, b = RANDOM.normal(size=(3, 50)), RANDOM.normal(0.3, size=(4, 50))
    one, thousand = (difference(k * a, k * b, True, 3) for k in (1, 1000))
    assert thousand.p == pytest.approx(one.p)
    assert np.array(thousand.interval()) == pytest.approx(1000 * np.array(one.interval()))
    assert required_sample_size(thousand, 3) == required_sample_size(one, 3)
