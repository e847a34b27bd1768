"""Take the training and the validation images out of the training pool.

Reads `data/raw` and section `prepare` of `params.yaml`. Writes
`data/prepared/{train,val,test}.safetensors`: images uint8 (N, C, H, W), labels (N,);
`data/prepared/files.csv`, which file is which image; `metrics/prepare.json`, the size of each
split and of each of its classes; `metrics/samples.png`, the first training images. The test split
is passed on unchanged.

    python -m stages prepare
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anypictures.grids import for_display, png_grid
from anypictures.identities import Row, units_of
from stages.params import load_params
from stages.params.prepare import Prepare
from stages.storage.errors import InputError
from stages.storage.files import write_bytes, write_json
from stages.storage.image_files import read_rows, write_rows
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import Array

RAW_DATA = Path("data/raw")
SAMPLES = 18  # images in metrics/samples.png


def split_pool(
    labels: Array, params: Prepare, rows: Sequence[Row] | None = None
) -> tuple[Array, Array]:
    """Return the positions of the training and of the validation images in the pool.

    labels: (N,), of a pool that is large enough, as `Prepare.sizes` says. rows: of these images;
    copies, and images of one group, are not divided, so that there may be more validation images.

    `first` trains on the first images of the pool and validates on the next. The others
    validate on the first images of a shuffled pool and train on the next, so that the
    validation images stay the same, and results comparable, whatever the training size.
    `stratified` reorders the shuffled pool so that every contiguous part of it has the classes in
    their proportions, to within two images.
    """
    is_given = np.array([row.is_val for row in rows or []], dtype=bool)
    train, val = params.sizes(len(labels), is_given.sum())
    units = np.unique(units_of(rows), return_inverse=True)[1] if rows else np.arange(len(labels))
    if params.sampling == "first":
        order = np.arange(len(labels))
        if params.val_size == "given":
            return order[~is_given][:train], order[is_given]
        order = together(order, units)
        train = end_of_unit(units[order], train)
        return order[:train], order[train : end_of_unit(units[order], train + val)]
    # RandomState, because NumPy guarantees its stream: it is the same in every version.
    order = np.random.RandomState(params.seed).permutation(len(labels))
    if params.sampling == "stratified":
        progress = np.empty(len(labels))  # for each image the fraction of its class up to it
        for label in np.unique(labels):
            positions = np.flatnonzero(labels[order] == label)
            progress[positions] = (np.arange(len(positions)) + 0.5) / len(positions)
        order = order[np.argsort(progress, kind="stable")]
    if params.val_size == "given":
        return order[~is_given[order]][:train], order[is_given[order]]
    order = together(order, units)
    val = end_of_unit(units[order], val)
    return order[val : val + train], order[:val]


def together(order: Array, units: Array) -> Array:
    """Return an order in which the images of a unit follow its first one; units: whole numbers."""
    first = np.full(units.max() + 1, len(order))
    np.minimum.at(first, units[order], np.arange(len(order)))
    return order[np.argsort(first[units[order]], kind="stable")]


def end_of_unit(units: Array, position: int) -> int:
    """Return the nearest position not before `position` at which a unit ends."""
    while 0 < position < len(units) and units[position] == units[position - 1]:
        position += 1
    return position


def main() -> None:
    params = load_params(Prepare, "prepare")
    info, pool = read_split(RAW_DATA / "train.safetensors")
    _, test = read_split(RAW_DATA / "test.safetensors")
    counts = {"train": len(pool["labels"]), "test": len(test["labels"])}
    rows = read_rows(RAW_DATA / "files.csv", counts)
    try:
        params.sizes(counts["train"], sum(row.is_val for row in rows["train"]))
    except ValueError as error:
        raise InputError(f"params.yaml: prepare: {error}") from None
    of_class = np.bincount(pool["labels"], minlength=len(info.classes))
    if params.sampling == "stratified" and of_class.min() < 2:
        raise InputError(
            f"params.yaml: prepare.sampling: stratified needs two images of each class, and the "
            f"training pool has {of_class.min()} of {info.classes[of_class.argmin()]}; add some, "
            "or set it to random"
        )
    chosen = dict(
        zip(("train", "val"), split_pool(pool["labels"], params, rows["train"]), strict=True)
    )
    for name, positions in chosen.items():
        if not len(positions):
            raise InputError(
                f"params.yaml: prepare: copies and groups leave no images for {name}; set another "
                "val_size, or name more groups"
            )
    train, val = (
        {key: tensor[positions] for key, tensor in pool.items()} for positions in chosen.values()
    )
    del pool  # its memory is needed for the files
    of_split = {
        name: [rows["train"][i]._replace(is_val=False) for i in positions]
        for name, positions in chosen.items()
    }
    write_rows(Path("data/prepared/files.csv"), of_split | {"test": rows["test"]})
    metrics = {}
    for name, split in {"train": train, "val": val, "test": test}.items():
        write_split(Path(f"data/prepared/{name}.safetensors"), info, split)
        of_class = np.bincount(split["labels"], minlength=len(info.classes))
        classes = dict(zip(info.classes, of_class.tolist(), strict=True))
        metrics[name] = {"n": len(split["labels"]), "classes": classes}
        print(f"{name}: {metrics[name]['n']:,} images")
    write_json(Path("metrics/prepare.json"), {"prepare": metrics})
    images = for_display(train["images"][:SAMPLES], info.style)
    captions = [info.classes[label] for label in train["labels"][:SAMPLES]]
    write_bytes(Path("metrics/samples.png"), png_grid(images, captions))
