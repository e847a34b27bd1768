"""Take the training and the validation images out of the training pool.

Reads `data/raw` and section `prepare` of `params.yaml`. Writes
`data/prepared/{train,val,test}.safetensors`: images uint8 (N, C, H, W), labels (N,);
`metrics/prepare.json`, the size of each split and of each of its classes;
`metrics/samples.png`, the first training images. The test split is passed on unchanged.

    python -m stages prepare
"""

from pathlib import Path

import numpy as np

from stages.params import load_params
from stages.params.prepare import Prepare
from stages.pictures.grids import for_display, write_grid
from stages.storage.errors import InputError
from stages.storage.files import write_json
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import Array

RAW_DATA = Path("data/raw")
SAMPLES = 18  # images in metrics/samples.png


def split_pool(labels: Array, params: Prepare) -> tuple[Array, Array]:
    """Return the positions of the training and of the validation images in the pool.

    labels: (N,), of a pool that is large enough, as `Prepare.sizes` says.

    `first` trains on the first images of the pool and validates on the next. The others
    validate on the first images of a shuffled pool and train on the next, so that the
    validation images stay the same, and results comparable, whatever the training size.
    `stratified` reorders the shuffled pool so that every contiguous part of it has the classes in
    their proportions, to within two images.
    """
    train, val = params.sizes(len(labels))
    if params.sampling == "first":
        order = np.arange(len(labels))
        return order[:train], order[train : train + val]
    # RandomState, because NumPy guarantees its stream: it is the same in every version.
    order = np.random.RandomState(params.seed).permutation(len(labels))
    if params.sampling == "stratified":
        progress = np.empty(len(labels))  # for each image the fraction of its class up to it
        for label in np.unique(labels):
            positions = np.flatnonzero(labels[order] == label)
            progress[positions] = (np.arange(len(positions)) + 0.5) / len(positions)
        order = order[np.argsort(progress, kind="stable")]
    return order[val : val + train], order[:val]


def main() -> None:
    params = load_params(Prepare, "prepare")
    info, pool = read_split(RAW_DATA / "train.safetensors")
    _, test = read_split(RAW_DATA / "test.safetensors")
    try:
        params.sizes(len(pool["labels"]))
    except ValueError as error:
        raise InputError(f"params.yaml: prepare: {error}") from None
    counts = np.bincount(pool["labels"], minlength=len(info.classes))
    if params.sampling == "stratified" and counts.min() < 2:
        raise InputError(
            f"params.yaml: prepare.sampling: stratified needs two images of each class, and the "
            f"training pool has {counts.min()} of {info.classes[counts.argmin()]}; add some, or "
            "set it to random"
        )
    train, val = (
        {key: tensor[chosen] for key, tensor in pool.items()}
        for chosen in split_pool(pool["labels"], params)
    )
    del pool  # its memory is needed for the files
    metrics = {}
    for name, split in {"train": train, "val": val, "test": test}.items():
        write_split(Path(f"data/prepared/{name}.safetensors"), info, split)
        counts = np.bincount(split["labels"], minlength=len(info.classes))
        classes = dict(zip(info.classes, counts.tolist(), strict=True))
        metrics[name] = {"n": len(split["labels"]), "classes": classes}
        print(f"{name}: {metrics[name]['n']:,} images")
    write_json(Path("metrics/prepare.json"), {"prepare": metrics})
    images = for_display(train["images"][:SAMPLES], info.style)
    captions = [info.classes[label] for label in train["labels"][:SAMPLES]]
    write_grid(Path("metrics/samples.png"), images, captions)
