"""Classify pictures, preprocessed as the images were that the model was trained on.

A folder stands for the pictures in it. A picture has a label if its folder is named after a class,
or if its own name begins with one, such as 7-second.jpg.

    python -m tools predict docs/seven.png
    python -m tools predict photos --csv
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stages.storage.errors import InputError, printable
from stages.storage.split_files import parse_info
from stages.storage.tensors import read_metadata
from tools.preprocessing import label_of, list_pictures, load_images


def classify(paths: list[Path], checkpoint: Path) -> dict[str, Any]:
    """Return the prediction for each picture, and the accuracy on those with a label.

    Labels and predictions are names of classes. The accuracy has a 95 % Wilson interval; it is
    None if no picture has a label.
    """
    images = load_images(paths, parse_info(checkpoint, read_metadata(checkpoint)))

    import torch  # here, so that a bad picture is refused before the second that this takes

    from fairtrial.statistics.significance import wilson_interval
    from stages.learning.checkpoints import read_checkpoint
    from stages.learning.models import predict

    model, info = read_checkpoint(checkpoint)
    with np.errstate(all="ignore"):  # in the place of warnings, the logits are checked
        logits = predict(model, torch.from_numpy(images))
    if not logits.isfinite().all():
        raise InputError(f"{checkpoint}: gives logits that are not finite; lower train.lr")
    pictures: list[dict[str, Any]] = [
        {
            "file": str(path),
            "label": label_of(path, info.classes),
            "predicted": info.classes[row.argmax()],
            "confidence": round(row.max().item(), 6),
            "probabilities": dict(zip(info.classes, row.round(decimals=6).tolist(), strict=True)),
        }
        for path, row in zip(paths, logits.double().softmax(1), strict=True)
    ]
    right = [one["predicted"] == one["label"] for one in pictures if one["label"] is not None]
    accuracy = None
    if n := len(right):
        low, high = wilson_interval(sum(right), n)
        accuracy = {"value": sum(right) / n, "low": low, "high": high, "n": n}
    return {"pictures": pictures, "accuracy": accuracy}


def main(args: argparse.Namespace) -> None:
    paths = list_pictures(args.files)
    result = classify(paths, args.checkpoint)
    pictures, accuracy = result["pictures"], result["accuracy"]
    if args.json:
        print(json.dumps(result, indent=2))
        return
    if args.csv:
        names = [f"probability {name}" for name in pictures[0]["probabilities"]]
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["file", "label", "predicted", "confidence", *names])
        for one in pictures:
            known = [one["label"], one["predicted"], one["confidence"]]
            writer.writerow([printable(one["file"]), *known, *one["probabilities"].values()])
        return
    if paths == args.files and len(paths) == 1:
        print("{predicted}, with a confidence of {confidence:.1%}".format(**pictures[0]))
        return

    import pandas as pd

    from fairtrial.tables import print_tables

    rows = [
        [one["file"], one["label"] or "", one["predicted"], f"{one['confidence']:.1%}"]
        for one in pictures
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "predicted", "confidence"], dtype=object)
    line = "accuracy {value:.1%} (95 % interval {low:.1%} to {high:.1%}, n = {n:,} with a label)"
    print_tables([table], [line.format(**accuracy)] if accuracy else [])
