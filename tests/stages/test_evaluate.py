"""The metrics, compared with scipy, torch and the definitions."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from anypictures.grids import for_display, image_grid
from samebits import seeded_generator
from stages.datasets.card_files import rows_of
from stages.evaluate import (
    METRICS,
    Predictions,
    first_layer_filters,
    most_confident_mistakes,
    recalls_and_precisions,
    score,
    split_metrics,
    tables,
    wilson_interval,
)
from stages.learning.checkpoints import CHECKPOINT
from stages.learning.models import build_model
from stages.storage.image_files import names_of_examples
from stages.storage.tensors import Array, write_tensors
from tests.helpers.cards import DIGITS
from tests.helpers.project import Project
from tests.helpers.training import WIDTHS

CLASSES = DIGITS.classes


def example(n: int = 300) -> tuple[Array, Array]:
    """Return logits (N, 10), most of whose largest entries are right, and labels uint8 (N,)."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, n).astype(np.uint8)
    logits = random.normal(0, 2, (n, 10)) + 3 * np.eye(10)[labels]
    return logits, labels


@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 500), (500, 500), (411, 500), (2_040, 2_500)]
)
def test_the_wilson_interval_equals_scipy(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_predictions_equal_torch() -> None:
    logits, labels = example()
    predictions = score(logits, labels)
    tensor = torch.from_numpy(logits).float().double()  # as they are rounded
    losses = torch.nn.functional.cross_entropy(
        tensor, torch.from_numpy(labels).long(), reduction="none"
    )
    np.testing.assert_allclose(predictions.losses, losses, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(predictions.confidence, tensor.softmax(1).amax(1), rtol=1e-10)
    np.testing.assert_array_equal(predictions.predicted, tensor.argmax(1))


def test_the_loss_of_a_mistake_with_a_confidence_of_one_is_finite() -> None:
    metrics = split_metrics([score(np.array([[1e30] + [0.0] * 9]), np.array([3], np.uint8))], 15)
    assert metrics["cross_entropy"] == pytest.approx(1e30)
    assert metrics["calibration_error"] == 1.0


def test_no_loss_is_negative() -> None:
    predictions = score(np.array([[1e4] + [0.0] * 9]), np.array([0], np.uint8))
    assert 0 <= predictions.losses.item() < 1e-11


def test_replica_metrics_equal_numpy_and_torch() -> None:
    random = np.random.default_rng(1)
    one_replica, labels = example()
    logits = np.stack([one_replica + random.normal(0, 2, one_replica.shape) for _ in range(3)])
    metrics = split_metrics([score(of_replica, labels) for of_replica in logits], 15)
    accuracies = (logits.argmax(2) == labels).mean(1)
    assert metrics["replicas"]["n"] == 3
    assert metrics["replicas"]["mean"] == pytest.approx(accuracies.mean(), abs=1e-6)
    assert metrics["replicas"]["sd"] == pytest.approx(accuracies.std(ddof=1), abs=1e-6)
    ensemble = torch.from_numpy(logits).softmax(2).mean(0).argmax(1).numpy()
    assert metrics["ensemble"] == pytest.approx((ensemble == labels).mean(), abs=1e-6)


def test_one_replica_has_no_standard_deviation_and_is_its_own_ensemble() -> None:
    logits, labels = example()
    metrics = split_metrics([score(logits, labels)], 15)
    assert metrics["replicas"]["sd"] is None
    assert metrics["ensemble"] == metrics["replicas"]["mean"]


def test_accuracy_and_cross_entropy_are_means_over_all_images() -> None:
    logits, labels = example()
    predictions = score(logits, labels)
    metrics = split_metrics([predictions], 15)
    assert metrics["n"] == 300
    correct = logits.argmax(1) == labels
    assert metrics["accuracy"]["value"] == pytest.approx(correct.mean(), abs=1e-6)
    assert metrics["cross_entropy"] == pytest.approx(predictions.losses.mean(), abs=1e-6)


def test_recall_and_precision_are_those_of_their_definitions() -> None:
    logits, labels = example()
    predictions = score(logits, labels)
    predicted = logits.argmax(1)
    recalls, precisions = recalls_and_precisions(predictions)
    for number, (recall, precision) in enumerate(zip(recalls, precisions, strict=True)):
        assert recall == (predicted[labels == number] == number).mean()
        assert precision == (labels[predicted == number] == number).mean()
    metrics = split_metrics([predictions], 15)
    assert metrics["balanced_accuracy"] == pytest.approx(recalls.mean(), abs=1e-6)


def test_recall_without_labels_and_precision_without_predictions_are_undefined() -> None:
    predictions = score(np.eye(10)[[0, 0, 1]], np.array([0, 0, 2], np.uint8))
    recalls, precisions = recalls_and_precisions(predictions)
    np.testing.assert_array_equal(recalls[:4], [1, np.nan, 0, np.nan])
    np.testing.assert_array_equal(precisions[:4], [1, 0, np.nan, np.nan])
    # Of the classes that have images.
    assert split_metrics([predictions], 15)["balanced_accuracy"] == 0.5


def test_the_calibration_error_of_two_bins_computed_by_hand() -> None:
    # Of four images with a confidence of 60 % two are right, of two with 90 % both.
    confidence = np.array([0.6] * 4 + [0.9] * 2)
    rest = (1 - confidence) / 9
    logits = np.log(np.column_stack([confidence, *[rest] * 9]))
    labels = np.array([0, 0, 1, 1, 0, 0], np.uint8)
    expected = 4 / 6 * abs(0.5 - 0.6) + 2 / 6 * abs(1.0 - 0.9)
    one_bin = abs(4 / 6 - (4 * 0.6 + 2 * 0.9) / 6)
    predictions = score(logits, labels)
    for bins, error in ((5, expected), (1, one_bin)):
        metrics = split_metrics([predictions], bins)
        assert metrics["calibration_error"] == pytest.approx(error, abs=1e-6)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    predictions = score(np.array([[1e4] + [0.0] * 9]), np.array([0], np.uint8))
    assert split_metrics([predictions], 7)["calibration_error"] == 0.0


def test_the_most_confident_mistakes_come_first() -> None:
    images = np.arange(4, dtype=np.uint8).repeat(784).reshape(4, 1, 28, 28)
    confidence = np.array([0.99, 0.5, 0.9, 0.7])
    predicted = np.array([1, 0, 0, 0])
    probabilities = confidence[:, np.newaxis]
    predictions = Predictions(np.array([1, 2, 3, 4]), predicted, probabilities, np.zeros(4))
    chosen, captions = most_confident_mistakes(images, predictions, CLASSES, count=2)
    assert chosen[:, 0, 0, 0].tolist() == [2, 3]
    assert captions == ["3 as 0, 90%", "4 as 0, 70%"]


def test_mistakes_have_the_names_of_the_classes() -> None:
    predictions = Predictions(
        np.array([2, 0], np.uint8), np.array([1, 0]), np.array([[0.75], [0.5]]), np.zeros(2)
    )
    images = np.zeros((2, 3, 8, 8), np.uint8)
    chosen, captions = most_confident_mistakes(images, predictions, ("bolt", "nut", "Räder"), 5)
    assert chosen.shape == (1, 3, 8, 8)
    assert captions == ["Räder as nut, 75%"]


def test_the_tables_have_every_image_class_and_replica() -> None:
    labels = np.array([1, 0], np.uint8)
    logits = np.array([[[3.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    replicas = [score(of_replica, labels) for of_replica in logits]
    images = np.zeros((2, 1, 8, 8), np.uint8)
    known = rows_of("images", images)
    header, _ = tables([row._replace(group="a") for row in known], replicas, ("a", "b"), 2)[
        "scores"
    ]
    assert header[:3] == ["example", "label", "group"]
    result = tables(known, replicas, ("bolt", "Räder"), bins=2)
    header, rows = result["scores"]
    assert header == ["example", "label", *(f"{name}.{r}" for name in METRICS for r in (0, 1))]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    losses = torch.nn.functional.cross_entropy
    expected = [
        [
            float(losses(torch.from_numpy(logits[r][i]), torch.tensor(labels[i]).long()))
            for r in (0, 1)
        ]
        for i in (0, 1)
    ]
    assert columns["label"] == ("Räder", "bolt")
    assert (columns["accuracy.0"], columns["accuracy.1"]) == ((0, 1), (1, 1))
    found = [columns["cross_entropy.0"], columns["cross_entropy.1"]]
    np.testing.assert_allclose(np.transpose(found), expected, atol=1e-6)
    assert result["predictions"] == (
        ["label", "predicted"],
        [("Räder", "bolt"), ("bolt", "bolt")],
    )
    assert result["classes"] == (
        ["class", "recall", "precision"],
        [("bolt", 1.0, 0.5), ("Räder", 0.0, "")],
    )
    assert [row[0] for row in result["calibration"][1]] == [2]


def test_an_image_is_named_by_its_pixels() -> None:
    images = np.arange(3, dtype=np.uint8).repeat(64).reshape(3, 1, 8, 8)
    names = names_of_examples(rows_of("digits", images))
    assert names == [hashlib.sha256(bytes([n] * 64)).hexdigest()[:16] for n in range(3)]
    assert names_of_examples(rows_of("digits", images[[2, 0, 2, 2]])) == [
        names[2],
        names[0],
        f"{names[2]}-2",
        f"{names[2]}-3",
    ]


@pytest.mark.parametrize(("name", "side"), [("linear", 9), ("mlp", 9), ("cnn", 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_filters_are_means_over_the_channels(name: str, side: int, channels: int) -> None:
    shape = (channels, 9, 9)
    model = build_model(name, WIDTHS[name], shape, 30, seeded_generator(0, "weights"))
    filters = first_layer_filters(model, channels)
    expected = model.filters.detach().reshape(-1, channels, side, side).mean(1)[:20]
    assert filters.shape == expected.shape
    np.testing.assert_allclose(filters, expected, rtol=1e-5, atol=1e-7)


def test_a_refusal_leaves_the_last_results(project: Project) -> None:
    """The checkpoint is another one and val is whole, but test is damaged: no result changes."""
    results = {path: path.read_bytes() for path in project.path.glob("data/logits/*")}
    assert len(results) == 2
    test_split = project.path / "data/prepared/test.safetensors"
    content = test_split.read_bytes()
    test_split.unlink()  # it may be a link into DVC's cache
    test_split.write_bytes(content[:-1])
    checkpoint = project.path / CHECKPOINT
    checkpoint.unlink()
    weights = {"weight": np.zeros((10, 784), np.float32), "bias": np.zeros(10, np.float32)}
    write_tensors(checkpoint, weights, model="linear", width="0", dataset=DIGITS.model_dump_json())
    assert project.refused("evaluate").startswith("data/prepared/test.safetensors: ")
    assert {path: path.read_bytes() for path in results} == results
    assert project.status() == ""


def test_mistakes_have_the_names_of_their_files_and_captions_fit() -> None:
    name = "running shoes of a child"
    long = f"shoes/{'IMG-with-a-long-name' * 2}.jpg"
    for files, expected in (
        ([long, "a.png"], f"{name} as boot, 75%\n{Path(long).name}"),
        (["train-images.gz[3]", "train-images.gz[4]"], f"{name} as boot, 75%"),
    ):
        predictions = Predictions(
            np.array([0, 1], np.uint8), np.array([1, 1]), np.array([[0.75], [0.5]]), np.zeros(2)
        )
        images = np.zeros((2, 3, 8, 8), np.uint8)
        _, [caption] = most_confident_mistakes(images, predictions, (name, "boot"), 5, files)
        assert caption == expected
    sheet = image_grid(np.zeros((6, 28, 28, 3), np.uint8), [f"{name} as boot, 75%\n{long}"] * 6, 6)
    assert sheet.width < 900  # so that it is readable on a page
    ink = np.asarray(sheet.convert("L")) < 128
    assert not ink[:, [0, -1]].any() and not ink[-1].any()
    lines = ink[8 + 84 + 2 :, 8:100].any(1)
    assert np.flatnonzero(np.diff(lines.astype(int)) == 1).size >= 5  # of text, one under another


def test_a_sheet_without_images_says_why() -> None:
    sheet = image_grid(np.zeros((0, 28, 28, 1), np.uint8), [], 6, "The model makes no mistake.")
    assert np.asarray(sheet).min() == 0
    assert np.asarray(image_grid(np.zeros((0, 28, 28, 1), np.uint8), [], 6)).min() == 255


def test_photos_in_grey_are_no_drawings() -> None:
    images = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    assert for_display(images, "natural").shape == (1, 8, 8, 3)
    assert (for_display(images, "natural")[..., 2] == images[:, 0]).all()
    assert (for_display(images, "strokes") == 255 - images.transpose(0, 2, 3, 1)).all()
