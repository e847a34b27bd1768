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
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from anypictures.grids import for_display, png_grid
from stages.storage.errors import InputError, printable
from stages.storage.files import write_bytes
from stages.storage.split_files import parse_info, read_split
from stages.storage.tensors import Array, read_metadata
from tools.preprocessing import label_of, list_pictures, to_image

TRAIN = Path("data/prepared/train.safetensors")


def classify(paths: list[Path], checkpoint: Path, show: Path | None = None) -> dict[str, Any]:
    """Return the prediction for each picture, and the accuracy on those with a label.

    Labels and predictions are names of classes. The accuracy has a 95 % Wilson interval; it is
    None if no picture has a label. `problems` says why others cannot be read; raises `InputError`
    if all cannot.

    show: a picture to write, with the images as the model sees them.
    """
    info = parse_info(checkpoint, read_metadata(checkpoint))
    readable: list[tuple[Path, Array]] = []
    problems: list[str] = []
    for path in paths:
        try:
            readable.append((path, to_image(path, info)))
        except InputError as error:
            problems += error.args
    if not readable:
        raise InputError(*problems)
    images = np.stack([image for _, image in readable])

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
        for (path, _), row in zip(readable, logits.double().softmax(1), strict=True)
    ]
    right = [one["predicted"] == one["label"] for one in pictures if one["label"] is not None]
    accuracy = None
    if n := len(right):
        low, high = wilson_interval(sum(right), n)
        accuracy = {"value": sum(right) / n, "low": low, "high": high, "n": n}
    if show:
        captions = [f"{one['predicted']} {one['confidence']:.0%}" for one in pictures]
        write_bytes(show, png_grid(for_display(images, info.style), captions))
    known = count_trained_on(images) if n else 0
    return {"pictures": pictures, "accuracy": accuracy, "problems": problems, "trained_on": known}


def count_trained_on(images: Array) -> int:
    """Return how many images are among those that the last training in this folder had."""
    if not TRAIN.exists():
        return 0
    _, train = read_split(TRAIN, mmap=True)
    known = {sha256(image.tobytes()).digest() for image in train["images"]}
    return sum(sha256(image.tobytes()).digest() in known for image in images)


def main(args: argparse.Namespace) -> None:
    paths = list_pictures(args.files)
    result = classify(paths, args.checkpoint, args.show)
    pictures, accuracy, problems = (result[key] for key in ("pictures", "accuracy", "problems"))
    if args.json:
        print(json.dumps(result, indent=2))
    elif args.csv:
        names = [f"probability {name}" for name in pictures[0]["probabilities"]]
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["file", "label", "predicted", "confidence", *names])
        for one in pictures:
            known = [one["label"], one["predicted"], one["confidence"]]
            writer.writerow([printable(one["file"]), *known, *one["probabilities"].values()])
    elif paths == args.files and len(paths) == 1:
        print("{predicted}, with a confidence of {confidence:.1%}".format(**pictures[0]))
    else:
        print_table(pictures, accuracy)
    if result["trained_on"]:
        print(
            f"{result['trained_on']} of these {len(pictures)} pictures were in the training: the "
            "accuracy says little about others",
            file=sys.stderr,
        )
    if problems:  # the others have their answers
        raise InputError(*problems)


def print_table(pictures: list[dict[str, Any]], accuracy: dict[str, float] | None) -> None:
    import pandas as pd

    from fairtrial.tables import print_tables

    rows = [
        [one["file"], one["label"] or "", one["predicted"], f"{one['confidence']:.1%}"]
        for one in pictures
    ]
    table = pd.DataFrame(rows, columns=["file", "label", "predicted", "confidence"], dtype=object)
    line = "accuracy {value:.1%} (95 % interval {low:.1%} to {high:.1%}, n = {n:,} with a label)"
    print_tables([table], [line.format(**accuracy)] if accuracy else [])
