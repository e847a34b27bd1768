"""The comparison of revisions with made-up results."""

from typing import Any

import numpy as np
import pytest

from tests.helpers.replicas import replicas
from tools.analysis.comparison import compare, round_up
from tools.analysis.results import Revision
from tools.analysis.significance import Array


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (64, "64"), (641, "650"), (6_392, "6,400"), (99_500, "100,000")]
)
def test_advice_has_two_digits(number: int, text: str) -> None:
    assert round_up(number) == text


def revision(name: str, correct: Array, **changes: Any) -> Revision:
    images = np.stack([np.arange(correct.shape[1]), np.zeros(correct.shape[1], int)], 1)
    values = {"name": name, "images": images, "correct": correct, "params": {}, "data_md5": "x"}
    return Revision(**{**values, **changes})


def test_other_images_and_a_single_seed_are_remarked() -> None:
    a = revision("a", replicas([0.8]))
    [one] = compare(a, [revision("b", replicas([0.9], 400), data_md5="y")])
    assert one.remarks == [
        "unpaired: the images or labels differ (500 and 400 images)",
        "one seed: the variation between seeds is unknown and not part of the interval",
    ]
    assert one.mcnemar_p is None
    moved = np.add(a.images, [[0, 1]])
    [other_labels] = compare(a, [revision("b", replicas([0.9]), images=moved)])
    assert "unpaired" in other_labels.remarks[0]


def test_several_are_corrected() -> None:
    a = revision("a", replicas([0.80, 0.805, 0.795]))
    near = [revision(f"b{i}", replicas([0.815, 0.82, 0.81])) for i in range(3)]
    [single] = compare(a, near[:1])
    several = compare(a, near)
    assert several[0].p == pytest.approx(min(1, 3 * single.p))


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
