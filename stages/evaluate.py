"""Score the model and its replicas on the validation and the test images.

Reads `data/prepared/{val,test}.safetensors`, `data/prepared/files.csv`,
`data/checkpoints/{model,replicas}.safetensors` and section `evaluate` of `params.yaml`. Writes

- `data/logits/{val,test}.safetensors`: logits float32 (R, N, K) of R replicas, the first of which
  is the model;
- `metrics/scores.csv`: for each image whether each replica is right, and its cross-entropy;
- `metrics/evaluate.json`: the metrics of each split;
- of the model, for the plots: `metrics/predictions.csv`, a row for each image,
  `metrics/classes.csv`, the recall and precision of each class, `metrics/calibration.csv`, the
  accuracy at each confidence, `metrics/mistakes.png`, the mistakes on val that it is most
  confident of, and `metrics/weights.png`, the weights of its first layer.

    python -m stages evaluate
"""

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from anypictures.grids import for_display, heatmap, png_grid
from anypictures.identities import Row
from samebits import softmax_cross_entropy
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, read_checkpoint, read_replicas
from stages.learning.models import Model, predict
from stages.params import load_params
from stages.params.evaluate import Evaluate
from stages.storage.errors import InputError
from stages.storage.files import write_bytes, write_csv, write_json
from stages.storage.image_files import names_of_examples, read_rows
from stages.storage.split_files import read_split
from stages.storage.tensors import Array, write_tensors

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("val", "test")}
FILES = Path("data/prepared/files.csv")
DECIMALS = 6  # of the metrics


class Predictions(NamedTuple):
    """What a model predicts for N images, beside their labels."""

    labels: Array  # uint8 or uint16 (N,)
    predicted: Array  # int64 (N,), the class of the largest logit
    probabilities: Array  # float64 (N, K)
    losses: Array  # float64 (N,), cross-entropy

    @property
    def correct(self) -> Array:
        return np.equal(self.predicted, self.labels)

    @property
    def confidence(self) -> Array:
        """The probability of the predicted class."""
        confidence: Array = self.probabilities.max(1)
        return confidence


# What the table of scores has of each image, and what `meta` in dvc.yaml may name.
METRICS: dict[str, Callable[[Predictions], Array]] = {
    "accuracy": lambda of: of.correct.astype(int),
    "cross_entropy": lambda of: of.losses.round(DECIMALS),
}


def score(logits: Array, labels: Array) -> Predictions:
    """Return the predictions for images with logits float32 (N, K) and labels (N,)."""
    tensors = torch.from_numpy(logits), torch.from_numpy(labels).long()
    probabilities, losses = softmax_cross_entropy(*tensors)
    return Predictions(labels, logits.argmax(1), probabilities.numpy(), losses.numpy())


def calibration(predictions: Predictions, bins: int) -> list[tuple[int, float, float]]:
    """Return number of images, mean confidence and accuracy of those of `bins` bins with images.

    The bins of the confidence have equal widths.
    """
    correct, confidence = predictions.correct, predictions.confidence
    bin_numbers = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (n, math.fsum(confidence[bin_numbers == number]) / n, correct[bin_numbers == number].mean())
        for number, n in enumerate(np.bincount(bin_numbers).tolist())
        if n
    ]


def recalls_and_precisions(predictions: Predictions) -> tuple[Array, Array]:
    """Return the recall and the precision of each class; NaN where they are undefined."""
    labels, predicted = predictions.labels, predictions.predicted
    hits, of_label, of_prediction = (
        np.bincount(values, minlength=predictions.probabilities.shape[1])
        for values in (labels[predictions.correct], labels, predicted)
    )
    with np.errstate(invalid="ignore"):
        return hits / of_label, hits / of_prediction


def split_metrics(replicas: list[Predictions], bins: int) -> dict[str, Any]:
    """Return the metrics of a split: of the first replica, which is the model, and of all of them.

    The balanced accuracy is the mean of the recalls. The expected calibration error has `bins`
    bins: Guo et al. 2017, https://arxiv.org/abs/1706.04599. The ensemble predicts by the mean of
    the probabilities. The standard deviation (sd) of one replica is null.
    """
    model = replicas[0]
    n, correct = len(model.labels), model.correct
    low, high = wilson_interval(int(correct.sum()), n)
    gaps = [size * abs(mean - right) for size, mean, right in calibration(model, bins)]
    recalls, _ = recalls_and_precisions(model)
    accuracies = [replica.correct.mean().item() for replica in replicas]
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    # `sum` adds one replica after the other, which fixes the order.
    ensemble = np.argmax(sum(replica.probabilities for replica in replicas), axis=1)
    return {
        "n": n,
        "accuracy": {"value": round(correct.mean(), DECIMALS), "low": low, "high": high},
        "cross_entropy": round(math.fsum(model.losses) / n, DECIMALS),
        "calibration_error": round(math.fsum(gaps) / n, DECIMALS),
        "balanced_accuracy": round(statistics.fmean(recalls[~np.isnan(recalls)]), DECIMALS),
        "replicas": {
            "n": len(replicas),
            "mean": round(statistics.fmean(accuracies), DECIMALS),
            "sd": None if sd is None else round(sd, DECIMALS),
        },
        "ensemble": round((ensemble == model.labels).mean(), DECIMALS),
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927, doi:10.2307/2276774)."""
    z = 1.959963984540054  # the 97.5 % quantile of the normal distribution
    proportion = successes / n
    centre = proportion + z * z / (2 * n)
    half_width = z * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    low, high = (
        max(0.0, min(1.0, (centre + side) / (1 + z * z / n))) for side in (-half_width, half_width)
    )
    return round(low, DECIMALS), round(high, DECIMALS)


def most_confident_mistakes(
    images: Array,
    predictions: Predictions,
    classes: tuple[str, ...],
    count: int,
    files: Sequence[str] = (),
) -> tuple[Array, list[str]]:
    """Return up to `count` wrongly classified images (M, C, H, W), most confident first.

    images: uint8 (N, C, H, W). The captions name label, prediction and confidence, and the picture
    if files (N) has it and not a row of a table or an array.
    """
    labels, predicted, confidence = *predictions[:2], predictions.confidence
    wrong = np.flatnonzero(~predictions.correct)
    chosen = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    captions = [
        f"{classes[labels[i]]} as {classes[predicted[i]]}, {confidence[i]:.0%}" for i in chosen
    ]
    if files:
        names = [PurePosixPath(files[i]).name for i in chosen]
        captions = [
            caption if name.endswith("]") else f"{caption}\n{name}"
            for caption, name in zip(captions, names, strict=True)
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


def tables(
    rows: list[Row], replicas: list[Predictions], classes: tuple[str, ...], bins: int
) -> dict[str, tuple[list[str], list[Any]]]:
    """Return the header and the rows of each table of `metrics`, for one split.

    rows: what is known of its images. The scores name them by hashes of their pixels, which do not
    depend on their positions.
    """
    model, numbers = replicas[0], range(len(replicas))
    labels, predicted = ([classes[i] for i in values] for values in model[:2])
    scores = [of(replica).tolist() for of in METRICS.values() for replica in replicas]
    names = [f"{metric}.{r}" for metric in METRICS for r in numbers]
    of_class = ([rounded(value) for value in values] for values in recalls_and_precisions(model))
    known = {"example": names_of_examples(rows), "label": labels}
    if any(row.group for row in rows):
        known["group"] = [row.group for row in rows]
    return {
        "scores": (
            [*known, *names],
            list(zip(*known.values(), *scores, strict=True)),
        ),
        "predictions": (["label", "predicted"], list(zip(labels, predicted, strict=True))),
        "classes": (
            ["class", "recall", "precision"],
            list(zip(classes, *of_class, strict=True)),
        ),
        "calibration": (
            ["n", "confidence", "accuracy"],
            [(n, *map(rounded, values)) for n, *values in calibration(model, bins)],
        ),
    }


def rounded(value: float) -> float | str:
    """Return a number as the tables have it: NaN becomes an empty cell."""
    return "" if math.isnan(value) else round(value, DECIMALS)


def print_metrics(name: str, metrics: dict[str, Any]) -> None:
    accuracy, replicas = metrics["accuracy"], metrics["replicas"]
    print(
        f"{name}: accuracy {accuracy['value']:.4f} (95 % interval {accuracy['low']:.4f} to "
        f"{accuracy['high']:.4f}, n = {metrics['n']:,}), "
        f"cross-entropy {metrics['cross_entropy']:.4f}"
    )
    if replicas["n"] > 1:
        print(
            f"{name}: {replicas['n']} seeds {replicas['mean']:.4f} ± {replicas['sd']:.4f}, "
            f"ensemble {metrics['ensemble']:.4f}"
        )


def main() -> None:
    params = load_params(Evaluate, "evaluate")
    model, info = read_checkpoint(CHECKPOINT)
    models = [model, *read_replicas(REPLICAS)]
    metrics, all_logits, splits = {}, {}, {}
    for name, path in DATA.items():
        info_of_split, splits[name] = read_split(path)
        if info_of_split != info:
            raise InputError(
                f"{path}: of {info_of_split.title}, but the model was trained on {info.title}; "
                "`dvc repro` makes both again"
            )
    known = read_rows(FILES, {name: len(split["labels"]) for name, split in splits.items()})
    if any(row.group for of_split in known.values() for row in of_split):
        known = {  # what has no group is one of its own
            name: [row._replace(group=row.group or row.example) for row in of_split]
            for name, of_split in known.items()
        }
    rows_of_tables: dict[str, list[list[Any]]] = {}
    for name, split in splits.items():
        images = torch.from_numpy(split["images"])
        logits = np.stack([predict(m, images).numpy() for m in models])
        if not np.isfinite(logits).all():
            raise InputError(f"{CHECKPOINT}: gives logits that are not finite; lower train.lr")
        all_logits[name] = logits
        replicas = [score(of_replica, split["labels"]) for of_replica in logits]
        metrics[name] = split_metrics(replicas, params.calibration_bins)
        parts = tables(known[name], replicas, info.classes, params.calibration_bins)
        for table, (header, rows) in parts.items():
            rows_of_tables.setdefault(table, [["split", *header]]).extend([name, *r] for r in rows)
        if name == "val":  # alone: whoever looks at mistakes on test begins to choose by them
            files = [row.file for row in known[name]]
            mistakes, captions = most_confident_mistakes(
                split["images"], replicas[0], info.classes, params.mistakes, files
            )
    # What is refused leaves the last results: from here on nothing is.
    for name, logits in all_logits.items():
        write_tensors(Path(f"data/logits/{name}.safetensors"), {"logits": logits})
        print_metrics(name, metrics[name])
    write_json(Path("metrics/evaluate.json"), {"evaluate": metrics})
    for table, rows in rows_of_tables.items():
        write_csv(Path(f"metrics/{table}.csv"), rows)
    mistakes = for_display(mistakes, info.style)
    empty = "The model makes no mistake on the validation images."
    write_bytes(Path("metrics/mistakes.png"), png_grid(mistakes, captions, empty=empty))
    filters = first_layer_filters(model, info.shape[0])
    # Only those of the linear model belong to classes.
    is_linear = model.filters is model.weight
    captions = list(info.classes if is_linear else map(str, range(len(filters))))
    grid = png_grid(heatmap(filters), captions[: len(filters)], columns=5)
    write_bytes(Path("metrics/weights.png"), grid)
