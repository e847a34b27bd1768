"""Fetch a data set, split into a training pool and a test split.

Reads section `fetch` of `params.yaml`, and what it names: a data card, or labelled pictures in a
folder, an archive, a table or arrays. What has to be downloaded comes from the addresses of the
card, or from the folder or URL that the environment variable MNIST_MIRROR names. Writes

- `data/raw/{train,test}.safetensors`: images uint8 (N, C, H, W), labels uint8 or uint16 (N,);
- `data/raw/files.csv`: which file is which image;
- `metrics/fetch.json`: what was read, in numbers.

    python -m stages fetch
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anypictures.errors import PicturesError
from anypictures.identities import Row
from anypictures.idx import Array
from stages.datasets.card_files import load_idx, rows_of
from stages.datasets.cards import find_card
from stages.params import load_params
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError, printable, shorten
from stages.storage.files import write_json
from stages.storage.image_files import write_rows
from stages.storage.split_files import write_split


class Fetched(NamedTuple):
    """A data set, and what the stage writes beside it."""

    info: DatasetInfo
    splits: dict[str, dict[str, Array]]  # train, test: images uint8 (N, C, H, W), labels (N,)
    rows: dict[str, list[Row]]  # of each split
    metrics: dict[str, Any]
    remarks: list[str]  # what a person should know


def load_source(params: Fetch) -> Fetched:
    """Return the data set that `fetch.source` names.

    Raises `InputError` if there is none, or if it is not as the parameters say.
    """
    try:
        card = find_card(params)
    except ValueError as error:
        raise InputError(f"params.yaml: fetch: {error}") from None
    if card:
        splits = load_idx(card)
        files = {"train": card.files.train_images.name, "test": card.files.test_images.name}
        rows = {name: rows_of(files[name], split["images"]) for name, split in splits.items()}
        return Fetched(card.info, splits, rows, {}, [])
    # Here, because Pillow takes a while to import.
    from anypictures.dataset import read_dataset

    path = Path(params.source)
    try:
        found = read_dataset(path, params.options)
    except PicturesError as error:
        raise InputError(*error.args) from None
    info = DatasetInfo(
        title=path.name, shape=params.shape, classes=found.classes, **found.appearance
    )
    return Fetched(info, found.splits, found.rows, found.found, found.remarks)


def main() -> None:
    params = load_params(Fetch, "fetch")
    info, splits, rows, found, remarks = load_source(params)
    for name, split in splits.items():
        if not len(split["labels"]):
            raise InputError(
                f"params.yaml: fetch.source: {params.source} has no pictures for {name}; add more"
            )
    for remark in remarks:
        print(shorten(printable(f"{params.source}: {remark}")), file=sys.stderr)
    for name, split in splits.items():
        write_split(Path(f"data/raw/{name}.safetensors"), info, split)
        counts = np.bincount(split["labels"], minlength=len(info.classes)).tolist()
        classes = dict(zip(info.classes, counts, strict=True))
        found |= {name: {"n": len(split["labels"]), "classes": classes}}
        print(f"{name}: {len(split['labels']):,} images of {len(info.classes)} classes")
    write_rows(Path("data/raw/files.csv"), rows)
    write_json(Path("metrics/fetch.json"), {"fetch": found})
