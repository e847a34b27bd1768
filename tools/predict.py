"""Classify pictures. They are prepared as the data were that the model was trained on.

For drawn digits or letters, that means one of them in a picture, on an even background. A folder
stands for the pictures in it. A picture has a label if its folder is named after a class, or if
its own name begins with one, such as 7.png and 7-second.jpg.

    python -m tools predict docs/seven.png
    python -m tools predict photos --json
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from stages.storage.errors import InputError
from stages.storage.split_files import parse_info
from stages.storage.tensors import REMEDY, read_metadata
from tools.digit_photos import label_of, list_pictures, load_images


def classify(paths: list[Path], checkpoint: Path) -> dict[str, Any]:
    """Return the prediction for each picture, and the accuracy on those with a label.

    Labels and predictions are names of classes. The accuracy has a 95 % Wilson interval; it is
    None if no picture has a label.
    """
    metadata = read_metadata(checkpoint)
    if "model" not in metadata:
        raise InputError(f"{checkpoint}: holds no model; {REMEDY}")
    images = load_images(paths, parse_info(checkpoint, metadata))

    import torch  # here, so that a bad picture is refused before the second that this takes

    from stages.evaluate import probabilities, wilson_interval
    from stages.learning.checkpoints import read_checkpoint
    from stages.learning.models import predict

    model, info = read_checkpoint(checkpoint)
    with np.errstate(all="ignore"):  # in the place of warnings, the logits are checked
        logits = predict(model, torch.from_numpy(images)).numpy()
    if not np.isfinite(logits).all():
        raise InputError(f"{checkpoint}: gives logits that are not finite; lower train.lr")
    pictures: list[dict[str, Any]] = [
        {
            "file": str(path),
            "label": label_of(path, info.classes),
            "predicted": info.classes[row.argmax()],
            "confidence": round(row.max().item(), 6),
            "probabilities": dict(zip(info.classes, row.round(6).tolist(), strict=True)),
        }
        for path, row in zip(paths, probabilities(logits), strict=True)
    ]
    correct = [
        picture["predicted"] == picture["label"]
        for picture in pictures
        if picture["label"] is not None
    ]
    accuracy = None
    if correct:
        n = len(correct)
        low, high = wilson_interval(sum(correct), n)
        accuracy = {"value": sum(correct) / n, "low": low, "high": high, "n": n}
    return {"pictures": pictures, "accuracy": accuracy}


def print_predictions(pictures: list[dict[str, Any]], accuracy: dict[str, Any] | None) -> None:
    import pandas as pd

    from fairtrial.tables import print_tables

    columns = ["file", "label", "predicted", "confidence"]
    table = pd.DataFrame(pictures, columns=columns, dtype=object)
    table["label"] = table["label"].map(lambda label: "" if label is None else label)
    table["confidence"] = table["confidence"].map("{:.1%}".format)
    lines = []
    if accuracy:
        lines.append(
            f"accuracy {accuracy['value']:.1%} (95 % interval {accuracy['low']:.1%} to "
            f"{accuracy['high']:.1%}, n = {accuracy['n']:,} with a label)"
        )
    print_tables([table], lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools predict", description="Classify pictures."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="picture or folder")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("data/checkpoints/model.safetensors"),
        help="of the model (default: that of the workspace)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    paths = list_pictures(args.files)
    result = classify(paths, args.checkpoint)
    if args.json:
        print(json.dumps(result, indent=2))
    elif paths == args.files and len(paths) == 1:
        print("{predicted}, with a confidence of {confidence:.1%}".format(**result["pictures"][0]))
    else:
        print_predictions(**result)
