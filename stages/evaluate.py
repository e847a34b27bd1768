"""Evaluate the model and its replicas on the validation and the test images.

Reads `data/prepared/{val,test}.safetensors`, `data/checkpoints/{model,replicas}.safetensors`
and section `evaluate` of `params.yaml`. Writes `data/logits/{val,test}.safetensors`: logits
float64 (R, N, K) of R replicas, the first of which is the model; `metrics/evaluate.json`, the
metrics of each split; `metrics/predictions.csv`, a row for each image, with the predictions of
all replicas; `metrics/mistakes.png`, the mistakes on val of which the model is most confident;
`metrics/weights.png`, the weights of its first layer.

    python -m stages evaluate
"""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from samebits import softmax_cross_entropy
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, read_checkpoint, read_replicas
from stages.learning.models import Linear, Model, predict
from stages.params import load_params
from stages.params.evaluate import Evaluate
from stages.storage.errors import InputError
from stages.storage.files import write_bytes, write_csv, write_json
from stages.storage.pictures import encode_png, for_display, heatmap, image_grid
from stages.storage.splits import read_split
from stages.storage.tensors import Array, write_tensors

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("val", "test")}
DECIMALS = 6  # of the metrics


class Predictions(NamedTuple):
    """What a model predicts for N images, beside their labels."""

    labels: Array  # uint8 or uint16 (N,)
    predicted: Array  # int64 (N,), the class of the largest logit
    confidence: Array  # float64 (N,), the probability of that class
    losses: Array  # float64 (N,), cross-entropy


def probabilities(logits: Array) -> Array:
    """Return the softmax of logits float64 (N, K)."""
    labels = torch.zeros(len(logits), dtype=torch.int64)  # any: the losses are not used
    return softmax_cross_entropy(torch.from_numpy(logits), labels)[0].numpy()


def score(logits: Array, labels: Array) -> Predictions:
    """Return the predictions for images with logits float64 (N, K) and labels (N,)."""
    tensors = torch.from_numpy(logits), torch.from_numpy(labels).long()
    shares, losses = softmax_cross_entropy(*tensors)
    return Predictions(labels, logits.argmax(1), shares.numpy().max(1), losses.numpy())


def split_metrics(predictions: Predictions, classes: tuple[str, ...], bins: int) -> dict[str, Any]:
    """Return the metrics of a split.

    `recall` and `precision` have an entry for each class, null where they are undefined; the
    balanced accuracy is the mean of the recalls. The expected calibration error has `bins` equal
    bins: Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    labels, predicted, confidence = predictions[:3]
    n = len(labels)
    correct = predicted == labels
    low, high = wilson_interval(int(correct.sum()), n)
    bin_numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [math.fsum((correct - confidence)[bin_numbers == number]) for number in range(bins)]
    hits, of_label, of_prediction = (
        np.bincount(values, minlength=len(classes))
        for values in (labels[correct], labels, predicted)
    )
    present = of_label > 0
    recalls = (hits[present] / of_label[present]).tolist()
    return {
        "n": n,
        "accuracy": {"value": round(correct.mean(), DECIMALS), "low": low, "high": high},
        "cross_entropy": round(math.fsum(predictions.losses) / n, DECIMALS),
        "calibration_error": round(math.fsum(map(abs, gaps)) / n, DECIMALS),
        "balanced_accuracy": round(math.fsum(recalls) / len(recalls), DECIMALS),
        "recall": ratios(classes, hits, of_label),
        "precision": ratios(classes, hits, of_prediction),
    }


def replica_metrics(logits: Array, labels: Array) -> dict[str, Any]:
    """Return mean and standard deviation of the accuracy of R replicas, and of their ensemble.

    logits: float64 (R, N, K). The ensemble predicts by the mean of the probabilities. The
    standard deviation is null for one replica.
    """
    accuracies = [(of_replica.argmax(1) == labels).mean().item() for of_replica in logits]
    total = np.zeros(logits.shape[1:])
    for of_replica in logits:  # one after the other, which fixes the order of the additions
        total += probabilities(of_replica)
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return {
        "replicas": {
            "n": len(accuracies),
            "mean": round(statistics.fmean(accuracies), DECIMALS),
            "sd": None if sd is None else round(sd, DECIMALS),
        },
        "ensemble": round((total.argmax(1) == labels).mean(), DECIMALS),
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927, doi:10.2307/2276774)."""
    z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
    share = successes / n
    centre = share + z * z / (2 * n)
    half_width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (
        max(0.0, min(1.0, (centre + side) / (1 + z * z / n))) for side in (-half_width, half_width)
    )
    return round(low, DECIMALS), round(high, DECIMALS)


def ratios(classes: tuple[str, ...], parts: Array, wholes: Array) -> dict[str, float | None]:
    """Return part / whole for each class; None where the whole is 0."""
    return {
        name: round(part / whole, DECIMALS) if whole else None
        for name, part, whole in zip(classes, parts.tolist(), wholes.tolist(), strict=True)
    }


def most_confident_mistakes(
    images: Array, predictions: Predictions, classes: tuple[str, ...], count: int
) -> tuple[Array, list[str]]:
    """Return up to `count` wrongly classified images (M, C, H, W), most confident first.

    images: uint8 (N, C, H, W). The captions name label, prediction and confidence.
    """
    labels, predicted, confidence = predictions[:3]
    wrong = np.flatnonzero(predicted != labels)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [
        f"{classes[labels[i]]} as {classes[predicted[i]]}, {confidence[i]:.0%}" for i in chosen
    ]
    return images[chosen], captions


def first_layer_filters(model: Model, channels: int) -> Array:
    """Return up to 20 filters (M, k, k) of the model, each the mean over the channels.

    k is the size of the images, or the width of a convolution.
    """
    weight = model.filters.detach()[:20]
    side = math.isqrt(weight[0].numel() // channels)
    filters = weight.reshape(-1, channels, side, side).numpy()
    # One channel after the other, which fixes the order of the additions.
    total: Array = sum((filters[:, channel] for channel in range(1, channels)), start=filters[:, 0])
    return total / channels


def prediction_rows(
    name: str,
    classes: tuple[str, ...],
    index: Array,
    predictions: Predictions,
    others: Array,
) -> Iterator[list[Any]]:
    """Yield the rows of `metrics/predictions.csv` for the split `name`, with names of classes.

    index: int32 (N,), the position of each image in the raw split; others: int64 (R - 1, N), what
    the other replicas predict.
    """
    labels, predicted, confidence = predictions[:3]
    names = np.array(classes)
    of_classes = (names[column] for column in (labels, predicted))
    columns = index, *of_classes, confidence.round(DECIMALS), *names[others]
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield [name, *row]


def main() -> None:
    params = load_params(Evaluate, "evaluate")
    model, info = read_checkpoint(CHECKPOINT)
    models = [model, *read_replicas(REPLICAS)]
    splits = {}
    for name, path in DATA.items():
        info_of_split, splits[name] = read_split(path)
        if info_of_split != info:
            raise InputError(
                f"{path}: of {info_of_split.title}, but the model was trained on {info.title}; "
                "`dvc repro` makes both again"
            )
    logits = {
        name: np.stack([predict(m, torch.from_numpy(split["images"])).numpy() for m in models])
        for name, split in splits.items()
    }
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise InputError(f"{CHECKPOINT}: gives logits that are not finite; lower train.lr")
    predictions = {name: score(logits[name][0], split["labels"]) for name, split in splits.items()}
    metrics = {
        name: split_metrics(predictions[name], info.classes, params.calibration_bins)
        | replica_metrics(logits[name], split["labels"])
        for name, split in splits.items()
    }
    header = ["split", "index", "label", "predicted", "confidence"]
    header += [f"replica_{number}" for number in range(1, len(models))]
    rows = [
        row
        for name, split in splits.items()
        for row in prediction_rows(
            name, info.classes, split["index"], predictions[name], logits[name][1:].argmax(2)
        )
    ]
    # Of val alone: whoever looks at mistakes on test begins to choose by them.
    mistakes, captions = most_confident_mistakes(
        splits["val"]["images"], predictions["val"], info.classes, params.mistakes
    )
    filters = first_layer_filters(model, info.shape[0])
    # Only those of the linear model belong to classes.
    names = info.classes if isinstance(model, Linear) else map(str, range(len(filters)))
    for name, values in logits.items():
        write_tensors(Path(f"data/logits/{name}.safetensors"), {"logits": values})
    write_json(Path("metrics/evaluate.json"), metrics)
    write_csv(Path("metrics/predictions.csv"), header, rows)
    write_bytes(
        Path("metrics/mistakes.png"),
        encode_png(image_grid(for_display(mistakes, info.style), captions)),
    )
    weights = image_grid(heatmap(filters), list(names)[: len(filters)], columns=5)
    write_bytes(Path("metrics/weights.png"), encode_png(weights))
    for name, result in metrics.items():
        accuracy, replicas = result["accuracy"], result["replicas"]
        print(
            f"{name}: accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
            f"{accuracy['high']:.4f}, n = {result['n']:,}), "
            f"cross-entropy {result['cross_entropy']:.4f}"
        )
        if replicas["n"] > 1:
            print(
                f"{name}: {replicas['n']} seeds {replicas['mean']:.4f} ± {replicas['sd']:.4f}, "
                f"ensemble {result['ensemble']:.4f}"
            )
