"""The comparison of revisions with made-up results."""

import numpy as np
import pytest

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import compare, round_up, summary_lines
from tests.fairtrial.replicas import CONTRACT, replicas, revision


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (64, "64"), (641, "650"), (6_392, "6,400"), (99_500, "100,000")]
)
def test_advice_has_two_digits(number: int, text: str) -> None:
    assert round_up(number) == text


def test_one_seed_says_nothing_of_others() -> None:
    a = revision("a", replicas([0.8]))
    [more] = compare(a, [revision("b", replicas([0.9]))])
    assert more.outcome == "undecided"
    assert (more.low, more.high, more.p) == (None, None, None)
    assert more.verdict.startswith("b: its model is better on these examples (McNemar p = ")
    assert "one seed says nothing about another; set train.replicas to 5" in more.verdict
    [same] = compare(a, [revision("b", replicas([0.8]))])
    assert same.verdict.startswith("b: no difference shown between the two models (McNemar p = 1)")
    [hundred] = compare(a, [revision("b", np.repeat(replicas([0.9]), 100, 0))])
    assert hundred.value == pytest.approx(0.1)
    assert hundred.p is None


def test_one_seed_of_any_scores_is_judged_by_a_t_test() -> None:
    random = np.random.default_rng(0)
    loss = random.exponential(1, (1, 500))
    a, b = (
        revision(name, replicas([0.8]), scores={"accuracy": replicas([0.8]), "loss": values})
        for name, values in (("a", loss), ("b", loss - 0.1 + random.normal(0, 0.1, loss.shape)))
    )
    [one] = compare(a, [b], "loss")
    assert one.verdict.startswith("b: its model is better on these examples (t-test p = ")


def test_other_examples_are_remarked() -> None:
    a = revision("a", replicas([0.8, 0.81]))
    [one] = compare(a, [revision("b", replicas([0.9, 0.91], 400))])
    assert one.remarks == ["unpaired: the examples or labels differ (500 and 400 examples)"]
    assert one.mcnemar_p is None
    assert one.pairs == 0
    [alone] = compare(a, [revision("b", replicas([0.9], 400))])
    assert alone.verdict.startswith("b: one seed and other examples say nothing")
    for labels in (np.ones(500, dtype=object), None):
        [other] = compare(a, [revision("b", replicas([0.9, 0.91]), labels=labels)])
        assert "unpaired" in other.remarks[0]


def test_replicas_of_the_same_number_and_seed_are_pairs() -> None:
    fractions = [0.70, 0.75, 0.80, 0.85, 0.90]
    a = revision("a", replicas(fractions), params={"train.seed": 3})
    better = replicas([fraction + 0.01 for fraction in fractions])
    [pairs] = compare(a, [revision("b", better, params={"train.seed": 3})])
    [strangers] = compare(a, [revision("b", better, params={"train.seed": 4})])
    [fewer] = compare(a, [revision("b", better[:3], params={"train.seed": 3})])
    assert (pairs.pairs, pairs.won, pairs.outcome) == (5, 5, "better")
    assert (strangers.pairs, strangers.won, strangers.outcome) == (0, 0, "undecided")
    assert (fewer.pairs, fewer.won) == (3, 3)


def test_several_are_corrected_with_their_intervals() -> None:
    a = revision("a", replicas([0.80, 0.805, 0.795]))
    near = [revision(f"b{i}", replicas([0.815, 0.82, 0.81])) for i in range(3)]
    [single] = compare(a, near[:1])
    several = compare(a, near)
    [chosen] = compare(a, near[:1], best_of=[3])
    assert single.p is not None
    for one in (*several, chosen):
        assert one.p == pytest.approx(min(1, 3 * single.p))
        assert one.low < single.low and one.high > single.high  # type: ignore[operator]
    lines = summary_lines(several, a)
    assert lines[0] == "p and the intervals are corrected for 3 comparisons"
    assert lines[1:] == [one.verdict for one in several]
    assert chosen.remarks == [
        "p and the interval are corrected for the choice of the best of 3 on the same examples"
    ]


@pytest.mark.parametrize(
    ("change", "outcome"), [(0.1, "better"), (-0.1, "worse"), (0, "undecided")]
)
def test_the_outcome_is_that_of_the_verdict_and_of_the_direction(
    change: float, outcome: str
) -> None:
    a = revision("a", replicas([0.8, 0.81]))
    b = revision("b", replicas([0.8 + change, 0.81 + change]))
    expected = f"b is {outcome} (" if change else "b: no difference shown ("
    for metric, unit in ((None, " points, 95 % CI"), ("loss", ", 95 % CI")):
        [one] = compare(a, [b], metric)
        assert one.outcome == outcome
        assert one.verdict.startswith(expected)
        assert unit in one.verdict
        assert one.value == pytest.approx(-change if metric else change, abs=0.003)


def test_a_metric_that_means_something_else_is_refused() -> None:
    a = revision("a", replicas([0.8, 0.81]))
    with pytest.raises(InputError, match=r"unknown metric 'f1'; known: accuracy, loss"):
        compare(a, [a], "f1")
    for metrics in ({"accuracy": Metric(better="lower", unit="%")}, {"f1": Metric(better="lower")}):
        other = CONTRACT.model_copy(update={"metrics": metrics})
        with pytest.raises(InputError, match=r"^b: dvc.yaml says of accuracy: .*; and a: better="):
            compare(a, [revision("b", replicas([0.8, 0.81]), contract=other)])
