"""The correction of several comparisons, against known critical values and a mixed model."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import Comparison, compare, compare_pairs, summary_lines
from fairtrial.statistics.significance import Array, Pairing, difference
from fairtrial.statistics.simultaneous import deviations, effective_number
from tests.fairtrial.replicas import revision


def dunnett(count: int) -> float:
    """Return Dunnett's two-sided critical value of 5 % for equal arms whose variance is known."""

    def probability(critical: float) -> float:
        def integrand(x: float) -> float:
            limits = stats.norm.cdf([x - critical * 2**0.5, x + critical * 2**0.5])
            return float(stats.norm.pdf(x) * np.diff(limits)[0] ** count)

        return float(integrate.quad(integrand, -8, 8)[0])

    return float(optimize.brentq(lambda critical: probability(critical) - 0.95, 1, 5))


@pytest.mark.parametrize("count", [2, 5, 20])
def test_independent_arms_have_the_values_of_dunnett_and_of_tukey(count: int) -> None:
    arms = 3e-4 * np.eye(count + 1)[None]
    for pairs, critical in (
        ([(0, other) for other in range(1, count + 1)], dunnett(count)),
        (
            list(itertools.combinations(range(count + 1), 2)),
            stats.studentized_range.ppf(0.95, count + 1, np.inf) / 2**0.5,
        ),
    ):
        number = effective_number(arms, pairs)
        assert stats.norm.isf(0.025 / number) == pytest.approx(critical, rel=0.01)
        assert number < len(pairs)


def test_what_has_much_in_common_is_worth_few_comparisons() -> None:
    random = np.random.default_rng(0)
    first, common, own = random.normal(size=100), random.normal(size=100), np.eye(20, 100)
    pairs = [(0, other) for other in range(1, 21)]

    def number(share: float, unit: float = 1.0) -> float:
        arms = np.array([[first, *(common + share * one for one in own)]])
        return effective_number(unit * arms, pairs)

    assert 1 <= number(0.0) < 1.01  # they are one and the same
    assert number(0.0) < number(3.0) < number(30.0) < 20
    assert number(3.0, unit=1e-160) == pytest.approx(number(3.0))
    assert number(3.0, unit=0.0) <= 20  # no scores differ
    assert effective_number(np.ones((1, 2, 100)), [(0, 1)]) == 1


@pytest.mark.parametrize("is_paired", [True, False])
def test_deviations_have_the_variance_of_the_difference(is_paired: bool) -> None:
    """With groups, classes of unequal sizes, and unequal numbers of replicas of strangers."""
    random = np.random.default_rng(0)
    n, counts = 240, (5, 5) if is_paired else (4, 7)
    own, groups, classes = np.arange(n), np.arange(n) // 3, np.arange(n) % 4 % 3
    effects, of_seeds = classes + random.normal(0, 1, n), random.normal(0, 0.1, (7, 1))
    a, b = (
        effects * gap + of_seeds[:r] + random.normal(size=(r, n))
        for gap, r in zip((1, 3), counts, strict=True)
    )
    pairing = Pairing(is_paired, (own, own), (groups, groups), (classes, classes))
    expected = difference(a, b, pairing)
    assert expected.seeds is not None
    seeds = np.arange(counts[0]), np.arange(counts[1]) + (0 if is_paired else counts[0])
    sides = [
        deviations(scores, groups, classes, numbers, (80, 12))
        for scores, numbers in zip((a, b), seeds, strict=True)
    ]
    total = expected.examples.value + expected.seeds.value + expected.residual
    assert ((sides[1] - sides[0]) ** 2).sum() == pytest.approx(total, rel=0.02)


def made_up(gaps: list[float], seed: int, count: int = 3) -> list[Array]:
    """Return the scores of revisions on the same 200 examples, which are right with these gaps."""
    random = np.random.default_rng(seed)
    ease = random.normal(1, 1, 200)
    return [
        1.0
        * (
            ease + gap + random.normal(0, 0.05, (count, 1)) + random.normal(0, 0.4, (count, 200))
            > 0
        )
        for gap in gaps
    ]


def test_all_intervals_together_have_the_truth() -> None:
    """Of ten equal revisions against another: in 95 % of trials all of them, and narrower."""
    trials, covered, ratios = 100, 0, []
    for trial in range(trials):
        first, *others = (
            revision(f"{number}", scores, params={"train.seed": number})
            for number, scores in enumerate(made_up([0.0] * 11, trial))
        )
        compared = compare(first, others)
        covered += all(low(one) <= 0 <= high(one) for one in compared)
        [alone] = compare(first, others[:1])
        plain = difference(
            first.scores["accuracy"],
            others[0].scores["accuracy"],
            Pairing.of_same_examples(200, same_seeds=False),
        )
        assert (alone.low, alone.high) == plain.interval()
        bonferroni = plain.interval(10)
        ratios.append((high(compared[0]) - low(compared[0])) / (bonferroni[1] - bonferroni[0]))
    assert covered / trials >= 0.95 - 3 * (0.95 * 0.05 / trials) ** 0.5
    assert 0.7 < np.mean(ratios) < 0.95
    assert max(ratios) <= 1


def low(one: Comparison) -> float:
    assert one.low is not None
    return one.low


def high(one: Comparison) -> float:
    assert one.high is not None
    return one.high


def test_metrics_are_corrected_together_but_for_the_primary_one() -> None:
    a, b = made_up([0.0, 0.3], 0)
    first, other = revision("a", a), revision("b", b)
    [alone] = compare(first, [other], "loss")
    both = compare_pairs([first, other], [(0, 1)], ["loss", "accuracy"])
    assert list(both) == ["loss", "accuracy"]
    assert both["loss"] == [alone]  # each is the only one of its family
    assert both["accuracy"] == compare(first, [other])
    lines = summary_lines(both, first)
    assert lines[-1] == "accuracy is the first metric of dvc.yaml, and not corrected for the others"
    assert [line.split(": ")[0] for line in lines[:-1]] == ["loss"] * 2 + ["accuracy"] * 2
    metrics = {**first.contract.metrics, "other": first.contract.metrics["loss"]}
    contract = first.contract.model_copy(update={"metrics": metrics})
    noise = np.random.default_rng(1).normal(0.3, 1, (2, 3, 200))
    first, other = (
        revision(name, x, contract=contract, scores={"accuracy": x, "loss": 1 - x, "other": y})
        for name, x, y in zip("ab", (a, b), noise, strict=True)
    )
    three = compare_pairs([first, other], [(0, 1)], list(metrics))
    assert three["accuracy"][0].corrected_for == 1
    for name in ("loss", "other"):
        [one], [single] = three[name], compare(first, [other], name)
        assert one.comparisons == 2
        assert 1.8 < one.corrected_for <= 2
        assert low(one) < low(single) and high(one) > high(single)
        assert one.p is not None and single.p is not None
        assert one.p == pytest.approx(min(1, one.corrected_for * single.p))


def test_the_variance_is_that_of_a_mixed_model_by_reml() -> None:
    """As statsmodels fits it to the differences of pairs: examples and seeds are crossed."""
    from statsmodels.formula import api  # two seconds, which no other test needs

    random = np.random.default_rng(0)
    replicas, n = 5, 40
    a = random.normal(1, 2, n) + random.normal(0, 0.5, (replicas, n))
    b = a + 0.4 + random.normal(0, 1, n) + random.normal(0, 0.5, (replicas, 1))
    b += random.normal(0, 1, (replicas, n))
    frame = pd.DataFrame({"gap": (b - a).ravel()})
    frame["seed"] = np.repeat(np.arange(replicas), n)
    frame["example"] = np.tile(np.arange(n), replicas)
    crossed = {"seed": "0 + C(seed)", "example": "0 + C(example)"}
    everything = np.ones(replicas * n)
    model = api.mixedlm("gap ~ 1", frame, groups=everything, re_formula="0", vc_formula=crossed)
    fit = model.fit(reml=True)
    result = difference(a, b, Pairing.of_same_examples(n, same_seeds=True))
    assert result.seeds is not None
    assert result.value == pytest.approx(fit.params["Intercept"])
    assert result.residual == pytest.approx(fit.scale / n / replicas, rel=1e-3)
    error = (result.examples.value + result.seeds.value) ** 0.5
    assert error == pytest.approx(fit.bse["Intercept"], rel=1e-3)
    of_example, of_seed = fit.vcomp
    assert result.examples.value == pytest.approx(of_example / n, rel=1e-3)
    seeds = of_seed / replicas + result.residual
    assert result.seeds.value == pytest.approx(seeds, rel=1e-3)


@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=4),
    st.sampled_from([0.0, 1e-160, 1.0, 1e99]),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50)
def test_any_tables_have_a_comparison_or_a_sentence(
    counts: list[int], unit: float, has_groups: list[bool], balanced: bool, seed: int
) -> None:
    """Also with one example, class or group, without common ones, and with scores of any size."""
    random = np.random.default_rng(seed)
    names = np.array(list("abcdefg"), dtype=object)
    revisions = []
    for position, count in enumerate(counts):
        chosen = np.sort(random.choice(7, random.integers(1, 8), replace=False))
        scores = 1.0 * random.integers(0, 2, (count, len(chosen)))
        revisions.append(
            revision(
                f"{position}",
                scores,
                examples=names[chosen],
                labels=names[chosen % 3],
                groups=names[chosen % 2] if has_groups[position] else None,
                scores={"accuracy": scores, "loss": unit * random.normal(size=scores.shape)},
                params={"train.seed": int(random.integers(2))},
            )
        )
    pairs = list(itertools.combinations(range(len(counts)), 2))
    try:
        results = compare_pairs(revisions, pairs, ["loss", "accuracy"], balanced=balanced)
    except InputError as error:
        assert balanced
        assert "have no class in common" in str(error)
        return
    for one in itertools.chain(*results.values()):
        assert one.comparisons == len(pairs)
        assert 1 <= one.corrected_for <= len(pairs)
        assert one.p is None or 0 <= one.p <= 1
        assert one.low is None or low(one) <= one.value <= high(one)
