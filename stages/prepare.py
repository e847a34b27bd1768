"""Take the training and validation images out of the training pool.

Reads `data/raw` and section `prepare` of `params.yaml`. Writes
`data/prepared/{train,val,test}.safetensors`: images uint8 (N, 1, 28, 28), labels uint8 (N,),
index int32 (N,), the image's place in its raw split; `metrics/prepare.json`, the sizes and
the images of each class; `metrics/samples.png`, the first training digits. The test split
is passed on as it is, whatever the parameters.

    python -m stages.prepare
"""

from pathlib import Path

import numpy as np

from stages.params import load_params
from stages.params.prepare import Prepare
from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes, write_json
from stages.storage.pictures import encode_png, image_grid
from stages.storage.tensors import RAW_LAYOUT, Array, read_split, write_tensors

RAW_DATA = Path("data/raw")


def split_pool(labels: Array, params: Prepare) -> tuple[Array, Array]:
    """Return where in the pool of `labels` (N,) the training and the validation images stand.

    The pool has to be large enough, as `Prepare.check_pool` says.

    `first` trains on the first images of the pool and validates on the next. The others
    validate on the first images of a shuffled pool and train on the next, so that the
    validation images stay the same, and results comparable, whatever the training size;
    `stratified` then orders that pool such that every stretch of it has the classes in
    their proportions, to within two images.
    """
    train, val = params.train_size, params.val_size
    if params.sampling == "first":
        order = np.arange(len(labels))
        return order[:train], order[train : train + val]
    # RandomState, because its stream is frozen: the same for every version of NumPy.
    order = np.random.RandomState(params.seed).permutation(len(labels))
    if params.sampling == "stratified":
        order = order[np.argsort(_class_progress(labels[order]), kind="stable")]
    return order[val : val + train], order[:val]


def _class_progress(labels: Array) -> Array:
    """Return for each image which share of its class has come by then, float64 (N,) in (0, 1)."""
    progress = np.empty(len(labels))
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        progress[places] = (np.arange(len(places)) + 0.5) / len(places)
    return progress


def main() -> None:
    params = load_params(Prepare, "prepare")
    pool = read_split(RAW_DATA / "train.safetensors", RAW_LAYOUT)
    test = read_split(RAW_DATA / "test.safetensors", RAW_LAYOUT)
    try:
        params.check_pool(len(pool["labels"]))
    except ValueError as error:
        raise InputError(f"params.yaml: prepare: {error}") from None
    train_index, val_index = split_pool(pool["labels"], params)
    splits = {
        "train": {name: tensor[train_index] for name, tensor in pool.items()},
        "val": {name: tensor[val_index] for name, tensor in pool.items()},
        "test": test,
    }
    index = {"train": train_index, "val": val_index, "test": np.arange(len(test["labels"]))}
    summary = {}
    for name, split in splits.items():
        split["index"] = index[name].astype(np.int32)
        write_tensors(Path(f"data/prepared/{name}.safetensors"), split)
        classes = np.bincount(split["labels"], minlength=10).tolist()
        summary[name] = {"n": len(split["labels"]), "classes": classes}
        print(f"{name}: {summary[name]['n']:,} images")
    write_json(Path("metrics/prepare.json"), summary)
    train = splits["train"]
    captions = [str(label) for label in train["labels"][:18]]
    write_bytes(
        Path("metrics/samples.png"), encode_png(image_grid(train["images"][:18, 0], captions))
    )


if __name__ == "__main__":
    run(main)
