"""Show what `fetch` reads of pictures, before a training: numbers, remarks, a few of each class.

Reads section `fetch` of `params.yaml`. Writes a picture with the images as the model sees them, and
nothing else.

    python -m tools look data/pictures
"""

import argparse
from collections import defaultdict

import numpy as np

from anypictures.grids import for_display, png_grid
from stages.fetch import load_source
from stages.params import load_params
from stages.params.fetch import Fetch
from stages.storage.errors import printable, shorten
from stages.storage.files import write_bytes
from stages.storage.tensors import Array

OF_CLASS, IMAGES = 6, 120  # that are shown
CELLS, LEVELS = 4, 16  # of a thumbnail, by which pictures are alike


def thumbnails(images: Array) -> list[bytes]:
    """Return small copies of images uint8 (N, C, H, W): those of near copies are mostly equal."""
    side = images.shape[2] // CELLS * CELLS
    cells = images[:, :, :side, :side].mean(1).reshape(len(images), CELLS, side // CELLS, CELLS, -1)
    small = np.rint(cells.mean((2, 4)) / 256 * LEVELS).astype(np.uint8)
    return [one.tobytes() for one in small]


def near_copies(splits: dict[str, Array]) -> int:
    """Return how many images of test look like one of the training pool."""
    known = set(thumbnails(splits["train"]))
    return sum(one in known for one in thumbnails(splits["test"]))


def main(args: argparse.Namespace) -> None:
    params = load_params(Fetch, "fetch")
    if args.source:
        params = params.model_copy(update={"source": args.source})
    info, splits, rows, metrics, remarks = load_source(params)
    for name, split in splits.items():
        counts = np.bincount(split["labels"], minlength=len(info.classes))
        of_class = ", ".join(f"{n} {c}" for n, c in zip(info.classes, counts, strict=True))
        given = sum(row.is_val for row in rows[name])
        of_val = f", {given:,} of them for validation" if given else ""
        print(shorten(printable(f"{name}: {len(split['labels']):,} images{of_val}: {of_class}")))
    for key, value in metrics.items():
        print(shorten(printable(f"{key}: {value}")))
    alike = near_copies({name: split["images"] for name, split in splits.items()})
    if alike:
        remarks.append(f"{alike:,} images of test look like one for training; are they copies?")
    for remark in remarks:
        print(shorten(printable(remark)))
    chosen: dict[int, list[int]] = defaultdict(list)
    for position, label in enumerate(splits["train"]["labels"].tolist()):
        if len(chosen[label]) < OF_CLASS:
            chosen[label].append(position)
    shown = [position for label in sorted(chosen) for position in chosen[label]][:IMAGES]
    captions = [info.classes[splits["train"]["labels"][position]] for position in shown]
    images = for_display(splits["train"]["images"][shown], info.style)
    write_bytes(args.output, png_grid(images, captions, columns=OF_CLASS))
    print(f"{args.output}: some of them, as the model sees them")
