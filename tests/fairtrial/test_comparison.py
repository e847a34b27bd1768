"""The comparison of revisions with made-up results."""

from pathlib import Path

import numpy as np
import pytest

from fairtrial.project.chosen import load_chosen, record_chosen
from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import (
    compare,
    failed_replicas,
    margin_text,
    round_up,
    summary_lines,
)
from fairtrial.statistics.matching import Choice, find_choice, refuse_other_task
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
    assert one.remarks[0] == (
        "400 examples are pairs, of 500 and 400; the others count as strangers"
    )
    assert one.mcnemar_p is None
    for labels in (np.ones(500, dtype=object), None):
        [other] = compare(a, [revision("b", replicas([0.9, 0.91]), labels=labels)])
        assert other.remarks[0].startswith("unpaired: no example with the same label is in both")
        assert other.pairs == 0
        [alone] = compare(a, [revision("b", replicas([0.9]), labels=labels)])
        assert alone.verdict.startswith("b: one seed and other examples say nothing")


def test_revisions_of_other_classes_are_two_tasks() -> None:
    names = np.array([f"{number % 8}" for number in range(500)], dtype=object)
    eight = revision("a", replicas([0.8, 0.81]), labels=names)
    four = revision("b", replicas([0.9, 0.91]), labels=np.where(names < "4", names, "0"))
    seven = revision("c", replicas([0.9, 0.91]), labels=np.where(names < "7", names, "0"))
    with pytest.raises(InputError, match=r"a and b have other classes \(0, 1, 2, 3, 4 and 3 more;"):
        refuse_other_task(eight, four, "do not")
    refuse_other_task(eight, seven, "do not")
    targets = np.arange(500).astype(str).astype(object)  # of a regression: no classes
    refuse_other_task(eight, revision("d", replicas([0.9]), labels=targets), "do not")


def test_an_example_is_itself_wherever_it_stands() -> None:
    a = revision("a", replicas([0.80, 0.81, 0.79]))
    order = np.random.default_rng(1).permutation(500)
    b = revision("b", replicas([0.82, 0.83, 0.81]))
    mixed = revision(
        "b",
        b.scores["accuracy"][:, order],
        examples=b.examples[order],
        labels=b.labels[order],  # type: ignore[index]
    )
    [one], [other] = compare(a, [b]), compare(a, [mixed])
    assert other._replace(low=0, high=0, p=0) == one._replace(low=0, high=0, p=0)
    assert (other.low, other.high, other.p) == pytest.approx((one.low, one.high, one.p))


def test_groups_that_depend_on_one_another_widen_the_interval() -> None:
    random = np.random.default_rng(0)
    groups = np.array([f"{number // 10}" for number in range(500)], dtype=object)
    hard = np.repeat(random.uniform(size=50) < 0.2, 10)  # all examples of a group alike
    a = 1.0 * (random.uniform(size=(5, 500)) < np.where(hard, 0.3, 0.9))
    b = 1.0 * (random.uniform(size=(5, 500)) < np.where(hard, 0.7, 0.9))
    [naive] = compare(revision("a", a), [revision("b", b)])
    [grouped] = compare(revision("a", a, groups=groups), [revision("b", b, groups=groups)])
    assert naive.design_effect is None
    assert grouped.design_effect is not None
    assert grouped.design_effect > 2
    assert grouped.remarks[0] == f"50 groups of examples, design effect {grouped.design_effect:.2g}"
    one = np.full(500, "all", dtype=object)
    [alone] = compare(revision("a", a, groups=one), [revision("b", b, groups=one)])
    assert (alone.outcome, alone.p) == ("undecided", 1)
    assert alone.verdict.endswith(
        "; a single example, or a single group, says nothing about others"
    )
    assert grouped.high - grouped.low > 1.2 * (naive.high - naive.low)  # type: ignore[operator]


def test_balanced_needs_labels() -> None:
    a = revision("a", replicas([0.8, 0.81]), labels=None)
    with pytest.raises(InputError, match="--balanced: the tables of scores have no column label"):
        compare(a, [a], balanced=True)
    zeros, ones = (
        revision(name, replicas([0.8, 0.81]), labels=np.full(500, name, dtype=object))
        for name in "01"
    )
    with pytest.raises(InputError, match="--balanced: 0 and 1 have no class in common"):
        compare(zeros, [ones], balanced=True)


PARAMS = {"train.seed": 0, "train.replicas": 2, "train.lr": 0.1}


@pytest.mark.parametrize("winner_is_first", [True, False])
@pytest.mark.parametrize(
    ("changes", "split", "expected"),
    [
        ({}, "val", Choice(24, True, True)),
        ({"train.replicas": 50}, "val", Choice(24, True, True)),
        ({"train.seed": 9}, "val", Choice(24, True, False)),
        ({}, "test", Choice(24, False, True)),
        ({"train.seed": 9}, "test", None),
        ({"train.lr": 0.2}, "val", None),
    ],
)
def test_a_choice_is_found_from_either_side(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    winner_is_first: bool,
    changes: dict[str, object],
    split: str,
    expected: Choice | None,
) -> None:
    """And stays the largest number, when half of a grid is repeated."""
    monkeypatch.chdir(tmp_path)
    for settings in (24, 12):
        record_chosen([PARAMS], settings, CONTRACT)
    other = revision("a", replicas([0.8, 0.81]), split=split)
    winner = revision("b", replicas([0.9, 0.91]), params={**PARAMS, **changes}, split=split)
    sides = (winner, other) if winner_is_first else (other, winner)
    assert find_choice(*sides, load_chosen()) == expected


def test_a_choice_with_other_seeds_is_corrected_less() -> None:
    random = np.random.default_rng(0)
    a, b = (
        revision(name, 1.0 * (random.uniform(size=(3, 500)) < fraction))
        for name, fraction in (("a", 0.8), ("b", 0.85))
    )
    widths = []
    for choice in (None, Choice(20, True, False), Choice(20, True, True)):
        [one] = compare(a, [b], choices=[choice])
        assert one.low is not None and one.high is not None
        assert (choice is None) == (not any("best of 20" in text for text in one.remarks))
        widths.append(one.high - one.low)
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.002, 0.002, "equivalent: the difference is less than 0.3 points"),
        (-0.002, 0.01, "not worse by 0.3 points or more"),
        (-0.01, 0.01, "it is not excluded that it is worse by 0.3 points"),
        (-0.02, -0.01, "worse by more than 0.3 points"),
    ],
)
def test_a_margin_is_judged_by_the_interval(low: float, high: float, text: str) -> None:
    accuracy, loss = CONTRACT.metrics["accuracy"], Metric(better="lower", unit="%")
    assert margin_text(low, high, 0.003, accuracy) == text
    assert margin_text(-high, -low, 0.003, loss) == text


def test_seeds_that_fail_are_counted_and_named() -> None:
    fractions = [0.83, 0.84, 0.10, 0.835, 0.832]
    assert failed_replicas(replicas(fractions), 1) == [2]
    assert failed_replicas(-replicas(fractions), -1) == [2]
    assert failed_replicas(1 - replicas(fractions), 1) == []
    assert failed_replicas(replicas([0.9, 0.9, 0.9, 0.9, 0.1]), 1) == [4]
    assert failed_replicas(replicas([0.9, 0.9, 0.9, 0.9, 0.898]), 1) == []
    assert failed_replicas(replicas([0.9, 0.1, 0.91]), 1) == []
    # Four agree by chance, and a fifth differs by twenty images.
    assert failed_replicas(replicas([0.9, 0.902, 0.9, 0.902, 0.86]), 1) == []
    a = revision("a", replicas([0.5, 0.51, 0.1, 0.5, 0.51]))
    [one] = compare(a, [revision("b", replicas([0.95, 0.96, 0.95, 0.94, 0.95]))])
    assert one.outcome == "better"
    assert one.remarks == ["1 of 5 seeds of a failed (replica 2); the median is 50.00"]
    fine = revision("a", replicas([0.5, 0.51, 0.52, 0.5, 0.51]))
    [one] = compare(fine, [revision("b", replicas([0.95, 0.96, 0.95, 0.94, 0.95]))])
    assert one.remarks == ["0 of 5 trainings failed; with so few, up to 45 % might"]


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
    [chosen] = compare(a, near[:1], choices=[Choice(3, True, True)])
    assert single.p is not None
    assert 1 < several[0].corrected_for < chosen.corrected_for == 3
    for one, factor in (*((one, one.corrected_for) for one in several), (chosen, 3)):
        assert one.p == pytest.approx(min(1, factor * single.p))
        assert one.low < single.low and one.high > single.high  # type: ignore[operator]
    lines = summary_lines({"accuracy": several}, a)
    worth = f"as for {several[0].corrected_for:.1f} that have nothing in common"
    assert f"p and the intervals are corrected for 3 comparisons, {worth}" in lines
    assert lines[-3:] == [one.verdict for one in several]
    assert (
        "p and the interval are corrected for the choice of the best of 3 on the same examples and "
        "with the same seeds"
    ) in chosen.remarks


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


def test_three_seeds_do_not_show_that_one_failed() -> None:
    a, b = revision("a", replicas([0.5, 0.51, 0.5])), revision("b", replicas([0.9, 0.91, 0.9]))
    [one] = compare(a, [b])
    assert one.remarks == ["3 seeds are too few to see whether one of them failed"]
