"""The comparison of revisions with made-up results."""

from typing import Any

import numpy as np
import pytest

from tests.helpers.replicas import replicas
from fairtrial.statistics.comparison import compare, round_up, summary_lines
from fairtrial.project.results import Revision
from fairtrial.statistics.significance import Array


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (64, "64"), (641, "650"), (6_392, "6,400"), (99_500, "100,000")]
)
def test_advice_has_two_digits(number: int, text: str) -> None:
    assert round_up(number) == text


def revision(name: str, correct: Array, **changes: Any) -> Revision:
    images = np.stack([np.arange(correct.shape[1]), np.zeros(correct.shape[1], int)], 1)
    values = {"name": name, "images": images, "correct": correct, "params": {}, "data_md5": "x"}
    return Revision(**{**values, **changes})


def test_one_seed_says_nothing_of_others() -> None:
    a = revision("a", replicas([0.8]))
    [more] = compare(a, [revision("b", replicas([0.9]))])
    assert more.outcome == "undecided"
    assert (more.low, more.high, more.p) == (None, None, None)
    assert more.verdict.startswith(
        "b: its model classifies more of these images correctly (McNemar p = "
    )
    assert "one seed says nothing about another; set train.replicas to 5" in more.verdict
    [same] = compare(a, [revision("b", replicas([0.8]))])
    assert same.verdict.startswith("b: no difference shown between the two models (McNemar p = 1)")
    [hundred] = compare(a, [revision("b", np.repeat(replicas([0.9]), 100, 0))])
    assert hundred.value == pytest.approx(0.1)
    assert hundred.p is None


def test_other_images_are_remarked() -> None:
    a = revision("a", replicas([0.8, 0.81]))
    [one] = compare(a, [revision("b", replicas([0.9, 0.91], 400), data_md5="y")])
    assert one.remarks == ["unpaired: the images or labels differ (500 and 400 images)"]
    assert one.mcnemar_p is None
    assert one.pairs == 0
    [alone] = compare(a, [revision("b", replicas([0.9], 400), data_md5="y")])
    assert alone.verdict.startswith("b: one seed and other images say nothing")
    moved = np.add(a.images, [[0, 1]])
    [other_labels] = compare(a, [revision("b", replicas([0.9, 0.91]), images=moved)])
    assert "unpaired" in other_labels.remarks[0]


def test_replicas_of_the_same_seed_are_pairs() -> None:
    shares = [0.70, 0.75, 0.80, 0.85, 0.90]
    a = revision("a", replicas(shares), params={"train.seed": 3})
    better = replicas([share + 0.01 for share in shares])
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
    lines = summary_lines(several, "val")
    assert lines[0] == "p and the intervals are corrected for 3 comparisons"
    assert lines[1:] == [one.verdict for one in several]
    assert chosen.remarks == [
        "p and the interval are corrected for the choice of the best of 3 on the same images"
    ]


@pytest.mark.parametrize(
    ("change", "outcome"), [(0.1, "better"), (-0.1, "worse"), (0, "undecided")]
)
def test_the_outcome_is_that_of_the_verdict(change: float, outcome: str) -> None:
    a, b = (
        revision("a", replicas([0.8, 0.81])),
        revision("b", replicas([0.8 + change, 0.81 + change])),
    )
    [one] = compare(a, [b])
    assert one.outcome == outcome
    expected = f"b is {outcome} (" if change else "b: no difference shown ("
    assert one.verdict.startswith(expected)
