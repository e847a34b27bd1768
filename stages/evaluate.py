"""Score the model and its replicas on the validation and the test images.

Reads `data/prepared/{val,test}.safetensors`, `data/checkpoints/{model,replicas}.safetensors`
and section `evaluate` of `params.yaml`. Writes `data/logits/{val,test}.safetensors`: logits
float64 (R, N, 10) of R models, the first being the model; `metrics/evaluate.json`, the figures
of each split; `metrics/predictions.csv`, a row an image, with the model's prediction and those
of the others; `metrics/mistakes.png`, the mistakes on val that the model is surest of;
`metrics/weights.png`, what its first layer looks for.

    python -m stages.evaluate
"""

import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from stages.arithmetic import exact
from stages.learning.models import (
    CHECKPOINT,
    REPLICAS,
    Model,
    predict,
    read_checkpoint,
    read_replicas,
)
from stages.params import load_params
from stages.params.evaluate import Evaluate
from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes, write_csv, write_json
from stages.storage.pictures import encode_png, heatmap, image_grid
from stages.storage.tensors import PREPARED_LAYOUT, Array, read_split, write_tensors

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("val", "test")}
DECIMALS = 6  # decimal places of what is written


class Predictions(NamedTuple):
    """What a model says of N images, and what they are."""

    labels: Array  # uint8 (N,)
    predicted: Array  # int64 (N,), the largest logit
    confidence: Array  # float64 (N,), the probability of that
    losses: Array  # float64 (N,), cross-entropy


def probabilities(logits: Array) -> Array:
    """Return the softmax of logits float64 (N, 10)."""
    anything = torch.zeros(len(logits), dtype=torch.int64)  # labels, of whose losses none is used
    return exact.softmax_cross_entropy(torch.from_numpy(logits), anything)[0].numpy()


def score(logits: Array, labels: Array) -> Predictions:
    """Return what logits float64 (N, 10) say of images with labels uint8 (N,)."""
    tensors = torch.from_numpy(logits), torch.from_numpy(labels).long()
    probabilities, losses = exact.softmax_cross_entropy(*tensors)
    return Predictions(labels, logits.argmax(1), probabilities.numpy().max(1), losses.numpy())


def split_metrics(scored: Predictions, bins: int) -> dict[str, Any]:
    """Return the figures of a split.

    `recall` and `precision` have an entry for each digit; null where nothing can be said.
    Expected calibration error: Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    labels, predicted, confidence = scored.labels, scored.predicted, scored.confidence
    n = len(labels)
    correct = predicted == labels
    low, high = wilson_interval(int(correct.sum()), n)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [math.fsum((correct - confidence)[bin_of == number]) for number in range(bins)]
    hits = np.bincount(labels[correct], minlength=10)
    return {
        "n": n,
        "accuracy": {"value": round(correct.mean(), DECIMALS), "low": low, "high": high},
        "cross_entropy": round(math.fsum(scored.losses) / n, DECIMALS),
        "calibration_error": round(math.fsum(map(abs, gaps)) / n, DECIMALS),
        "recall": safe_ratios(hits, np.bincount(labels, minlength=10)),
        "precision": safe_ratios(hits, np.bincount(predicted, minlength=10)),
    }


def replica_metrics(logits: Array, labels: Array) -> dict[str, Any]:
    """Return how the accuracy of R models varies, and that of all together, on N images.

    logits: float64 (R, N, 10). `ensemble` is the accuracy of the mean of their probabilities;
    `sd` the standard deviation, null for one model.
    """
    accuracies = [(of_one.argmax(1) == labels).mean().item() for of_one in logits]
    together = np.zeros(logits.shape[1:])
    for of_one in logits:  # one after the other, so that the order of the additions is fixed
        together += probabilities(of_one)
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return {
        "replicas": {
            "n": len(accuracies),
            "mean": round(statistics.fmean(accuracies), DECIMALS),
            "sd": None if sd is None else round(sd, DECIMALS),
        },
        "ensemble": round((together.argmax(1) == labels).mean(), DECIMALS),
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927, doi:10.2307/2276774)."""
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (
        max(0.0, min(1.0, (centre + side) / (1 + z * z / n))) for side in (-spread, spread)
    )
    return round(low, DECIMALS), round(high, DECIMALS)


def safe_ratios(parts: Array, wholes: Array) -> list[float | None]:
    return [
        round(part / whole, DECIMALS) if whole else None
        for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]


def most_confident_mistakes(
    images: Array, scored: Predictions, most: int
) -> tuple[Array, list[str]]:
    """Return the images (M, 28, 28) that the model is surest of and wrong about, with captions."""
    wrong = np.flatnonzero(scored.predicted != scored.labels)
    surest = wrong[np.argsort(-scored.confidence[wrong], kind="stable")][:most]
    captions = [
        f"{scored.labels[i]} as {scored.predicted[i]}, {scored.confidence[i]:.0%}" for i in surest
    ]
    return images[surest, 0], captions


def first_layer_filters(model: Model) -> Array:
    """Return up to 20 of the model's filters (M, k, k): of the whole image, k = 28, or a window."""
    weight = model.filters.detach()[:20]
    side = math.isqrt(weight[0].numel())
    return weight.reshape(-1, side, side).numpy()


def prediction_rows(
    name: str, index: Array, scored: Predictions, others: Array
) -> Iterator[list[Any]]:
    """Yield the rows of `metrics/predictions.csv` of the split `name`.

    others: int64 (R - 1, N), what the other replicas predict.
    """
    columns = (index, scored.labels, scored.predicted, scored.confidence.round(DECIMALS), *others)
    for row in zip(*(column.tolist() for column in columns), strict=True):
        yield [name, *row]


def main() -> None:
    params = load_params(Evaluate, "evaluate")
    model = read_checkpoint(CHECKPOINT)
    models = [model, *read_replicas(REPLICAS)]
    splits = {name: read_split(path, PREPARED_LAYOUT) for name, path in DATA.items()}
    logits = {
        name: np.stack([predict(m, torch.from_numpy(split["images"])).numpy() for m in models])
        for name, split in splits.items()
    }
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise InputError(f"{CHECKPOINT}: gives logits that are not finite; lower train.lr")
    scored = {name: score(logits[name][0], split["labels"]) for name, split in splits.items()}
    summary = {
        name: split_metrics(found, params.calibration_bins)
        | replica_metrics(logits[name], found.labels)
        for name, found in scored.items()
    }
    header = ["split", "index", "label", "predicted", "confidence"]
    header += [f"replica_{number}" for number in range(1, len(models))]
    rows = [
        row
        for name, split in splits.items()
        for row in prediction_rows(name, split["index"], scored[name], logits[name][1:].argmax(2))
    ]
    # Of val alone: whoever looks at the mistakes on test begins to choose by them.
    drawn = most_confident_mistakes(splits["val"]["images"], scored["val"], params.mistakes)
    looked_for = first_layer_filters(model)
    for name, values in logits.items():
        write_tensors(Path(f"data/logits/{name}.safetensors"), {"logits": values})
    write_json(Path("metrics/evaluate.json"), summary)
    write_csv(Path("metrics/predictions.csv"), header, rows)
    write_bytes(Path("metrics/mistakes.png"), encode_png(image_grid(*drawn)))
    captions = [str(number) for number in range(len(looked_for))]
    write_bytes(
        Path("metrics/weights.png"), encode_png(image_grid(heatmap(looked_for), captions, 5))
    )
    for name, found in summary.items():
        accuracy, replicas = found["accuracy"], found["replicas"]
        print(
            f"{name}: accuracy {accuracy['value']:.4f} "
            f"(95 % interval {accuracy['low']:.4f} to {accuracy['high']:.4f}, n = {found['n']:,}), "
            f"cross-entropy {found['cross_entropy']:.4f}"
        )
        if replicas["n"] > 1:
            print(
                f"{name}: {replicas['n']} seeds {replicas['mean']:.4f} ± {replicas['sd']:.4f}, "
                f"together {found['ensemble']:.4f}"
            )


if __name__ == "__main__":
    run(main)
