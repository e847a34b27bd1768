"""The figures, against scipy, scikit-learn and torch."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import precision_score, recall_score

from stages.evaluate import (
    Predictions,
    most_confident_mistakes,
    replica_metrics,
    score,
    split_metrics,
    wilson_interval,
)
from stages.storage.tensors import Array


def example(n: int = 300) -> tuple[Array, Array]:
    """Logits (N, 10), right more often than not, and labels (N,)."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, n).astype(np.uint8)
    logits = random.normal(0, 2, (n, 10)) + 3 * np.eye(10)[labels]
    return logits, labels


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 500), (500, 500), (411, 500), (2_040, 2_500)]
)
def test_the_interval_is_wilsons(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_confidences_and_losses_are_torchs() -> None:
    logits, labels = example()
    found = score(logits, labels)
    tensor = torch.from_numpy(logits)
    expected = torch.nn.functional.cross_entropy(
        tensor, torch.from_numpy(labels).long(), reduction="none"
    )
    np.testing.assert_allclose(found.losses, expected, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found.confidence, tensor.softmax(1).amax(1), rtol=1e-10)
    np.testing.assert_array_equal(found.predicted, tensor.argmax(1))


def test_a_hopeless_mistake_costs_a_finite_loss() -> None:
    found = split_metrics(score(np.array([[1e30] + [0.0] * 9]), np.array([3], np.uint8)), 15)
    assert found["cross_entropy"] == pytest.approx(1e30)
    assert found["calibration_error"] == 1.0


def test_no_loss_is_negative() -> None:
    found = score(np.array([[1e4] + [0.0] * 9]), np.array([0], np.uint8))
    assert 0 <= found.losses.item() < 1e-11


def test_the_noise_is_that_of_the_replicas() -> None:
    random = np.random.default_rng(1)
    logits, labels = example()
    several = np.stack([logits + random.normal(0, 2, logits.shape) for _ in range(3)])
    found = replica_metrics(several, labels)
    accuracies = (several.argmax(2) == labels).mean(1)
    assert found["replicas"]["n"] == 3
    assert found["replicas"]["mean"] == pytest.approx(accuracies.mean(), abs=1e-6)
    assert found["replicas"]["sd"] == pytest.approx(accuracies.std(ddof=1), abs=1e-6)
    together = torch.from_numpy(several).softmax(2).mean(0).argmax(1).numpy()
    assert found["ensemble"] == pytest.approx((together == labels).mean(), abs=1e-6)
    alone = replica_metrics(several[:1], labels)
    assert alone["replicas"]["sd"] is None
    assert alone["ensemble"] == alone["replicas"]["mean"]


def test_every_example_counts_once() -> None:
    logits, labels = example()
    scored = score(logits, labels)
    found = split_metrics(scored, 15)
    assert found["n"] == 300
    correct = logits.argmax(1) == labels
    assert found["accuracy"]["value"] == pytest.approx(correct.mean(), abs=1e-6)
    assert found["cross_entropy"] == pytest.approx(scored.losses.mean(), abs=1e-6)


def test_recall_and_precision_are_scikit_learns() -> None:
    logits, labels = example()
    found = split_metrics(score(logits, labels), 15)
    predicted = logits.argmax(1)
    for name, measure in (("recall", recall_score), ("precision", precision_score)):
        assert found[name] == pytest.approx(measure(labels, predicted, average=None), abs=1e-6)


def test_nothing_can_be_said_of_a_digit_that_is_not_there() -> None:
    found = split_metrics(score(np.eye(10)[[0, 0, 1]], np.array([0, 0, 2], np.uint8)), 15)
    assert found["recall"][:4] == [1.0, None, 0.0, None]
    assert found["precision"][:4] == [1.0, 0.0, None, None]


def test_calibration_error_of_a_case_done_by_hand() -> None:
    # Two bins: of four images at 60 % two are right, of two at 90 % both.
    confidence = np.array([0.6] * 4 + [0.9] * 2)
    rest = (1 - confidence) / 9
    logits = np.log(np.column_stack([confidence, *[rest] * 9]))
    labels = np.array([0, 0, 1, 1, 0, 0], np.uint8)
    expected = 4 / 6 * abs(0.5 - 0.6) + 2 / 6 * abs(1.0 - 0.9)
    one_bin = abs(4 / 6 - (4 * 0.6 + 2 * 0.9) / 6)
    scored = score(logits, labels)
    assert split_metrics(scored, 5)["calibration_error"] == pytest.approx(expected, abs=1e-6)
    assert split_metrics(scored, 1)["calibration_error"] == pytest.approx(one_bin, abs=1e-6)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    scored = score(np.array([[1e4] + [0.0] * 9]), np.array([0], np.uint8))
    assert split_metrics(scored, 7)["calibration_error"] == 0.0


def test_the_surest_mistakes_come_first() -> None:
    images = np.arange(4, dtype=np.uint8).repeat(784).reshape(4, 1, 28, 28)
    confidence = np.array([0.99, 0.5, 0.9, 0.7])
    scored = Predictions(np.array([1, 2, 3, 4]), np.array([1, 0, 0, 0]), confidence, np.zeros(4))
    chosen, captions = most_confident_mistakes(images, scored, count=2)
    assert chosen[:, 0, 0].tolist() == [2, 3]
    assert captions == ["3 as 0, 90%", "4 as 0, 70%"]
