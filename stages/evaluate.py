"""Score the model on the validation and the test images.

Reads `data/prepared/{val,test}.safetensors`, `data/checkpoints/model.safetensors` and
section `evaluate` of `params.yaml`. Writes `data/logits/{val,test}.safetensors`: logits
float64 (N, 10); `metrics/evaluate.json`, the figures of each split; `metrics/predictions.csv`,
a row an image; `metrics/mistakes.png`, the mistakes on val that the model is surest of;
`metrics/weights.png`, what it looks for in each digit.

    python -m stages.evaluate
"""

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages import exact
from stages.errors import InputError, run
from stages.files import write, write_json
from stages.models import predict, read_checkpoint
from stages.params import load
from stages.params.evaluate import Evaluate
from stages.pictures import digits, heat, png
from stages.tensors import PREPARED, Array, read_split, write_tensors

PREPARED_DATA = Path("data/prepared")
CHECKPOINT = Path("data/checkpoints/model.safetensors")
PLACES = 6  # decimal places written: the last bits of a logarithm differ between machines


def figures(logits: Array, labels: Array, bins: int) -> dict[str, Any]:
    """Return the figures of a split from logits float64 (N, 10) and labels uint8 (N,).

    `recall` and `precision` have an entry for each digit; null where nothing can be said.
    Expected calibration error: Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    n = len(labels)
    probabilities, losses = softmax_cross_entropy(logits, labels)
    predicted, confidence = logits.argmax(1), probabilities.max(1)
    correct = predicted == labels
    low, high = wilson(int(correct.sum()), n)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [math.fsum((correct - confidence)[bin_of == number]) for number in range(bins)]
    hits = np.bincount(labels[correct], minlength=10)
    return {
        "n": n,
        "accuracy": {"value": round(correct.mean(), PLACES), "low": low, "high": high},
        "cross_entropy": round(math.fsum(losses) / n, PLACES),
        "calibration_error": round(math.fsum(map(abs, gaps)) / n, PLACES),
        "recall": ratios(hits, np.bincount(labels, minlength=10)),
        "precision": ratios(hits, np.bincount(predicted, minlength=10)),
    }


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Return probabilities (N, 10) and the cross-entropy of each image (N,), float64, exactly."""
    tensors = torch.from_numpy(logits), torch.from_numpy(labels).long()
    probabilities, losses = exact.softmax_cross_entropy(*tensors)
    return probabilities.numpy(), losses.numpy()


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927, doi:10.2307/2276774)."""
    z = 1.959963984540054  # the normal distribution's 97.5 % quantile
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (
        max(0.0, min(1.0, (centre + side) / (1 + z * z / n))) for side in (-spread, spread)
    )
    return round(low, PLACES), round(high, PLACES)


def ratios(parts: Array, wholes: Array) -> list[float | None]:
    return [
        round(part / whole, PLACES) if whole else None
        for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]


def mistakes(
    images: Array, labels: Array, predicted: Array, confidence: Array, most: int
) -> tuple[Array, list[str]]:
    """Return the images (M, 28, 28) that the model is surest of and wrong about, with captions."""
    wrong = np.flatnonzero(predicted != labels)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:most]
    captions = [f"{labels[i]} as {predicted[i]}, {confidence[i]:.0%}" for i in surest]
    return images[surest, 0], captions


def main() -> None:
    params = load(Evaluate, "evaluate")
    model = read_checkpoint(CHECKPOINT)
    summary = {}
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["split", "index", "label", "predicted", "confidence"])
    for name in ("val", "test"):
        split = read_split(PREPARED_DATA / f"{name}.safetensors", PREPARED)
        logits = predict(model, torch.from_numpy(split["images"])).numpy()
        if not np.isfinite(logits).all():
            raise InputError(f"{CHECKPOINT}: gives logits that are not finite; lower train.lr")
        write_tensors(Path(f"data/logits/{name}.safetensors"), {"logits": logits})
        labels, predicted = split["labels"], logits.argmax(1)
        confidence = softmax_cross_entropy(logits, labels)[0].max(1)
        summary[name] = figures(logits, labels, params.calibration_bins)
        columns = (split["index"], labels, predicted, confidence.round(PLACES))
        rows.writerows([name, *row] for row in zip(*(c.tolist() for c in columns), strict=True))
        if name == "val":  # whoever looks at the mistakes on test begins to choose by them
            drawn = mistakes(split["images"], labels, predicted, confidence, params.mistakes)
        accuracy = summary[name]["accuracy"]
        print(
            f"{name}: accuracy {accuracy['value']:.4f} "
            f"(95 % interval {accuracy['low']:.4f} to {accuracy['high']:.4f}, n = {len(labels):,})"
        )
    write_json(Path("metrics/evaluate.json"), summary)
    write(Path("metrics/predictions.csv"), table.getvalue().encode())
    write(Path("metrics/mistakes.png"), png(digits(*drawn)))
    weights = model.get_parameter("weight").detach().numpy().reshape(-1, 28, 28)
    write(Path("metrics/weights.png"), png(digits(heat(weights), [str(d) for d in range(10)], 5)))


if __name__ == "__main__":
    run(main)
