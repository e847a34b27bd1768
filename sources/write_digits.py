"""Write the two data sets that stand in this folder: the files of mnist-5k and of digits-8x8.

Both are in MNIST's own format, compressed. mnist-5k has the first 500 training digits of each
class, in turns, so that the first images are of all classes; 250 of each are the training pool, and
250 are for test. digits-8x8 has the 1,797 digits of https://doi.org/10.24432/C50P49 in the order of
their authors, scaled from 0..16 to 0..255; the hash of its pixels decides whether an image is for
test.

    python sources/write_digits.py /path/to/mnist [optdigits.tes]

/path/to/mnist has the official files train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz;
optdigits.tes is a table of 64 pixels and a label in each row, which may be compressed.
"""

import gzip
import hashlib
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
Array = np.ndarray[Any, Any]
OF_CLASS, FOR_TRAINING = 500, 250  # digits of each class in mnist-5k
TEST_FRACTION = 0.2  # of digits-8x8


def main() -> None:
    mnist, *tables = map(Path, sys.argv[1:])
    write("mnist-5k", mnist_5k(mnist))
    for table in tables:
        write("digits-8x8", digits_8x8(table))


def mnist_5k(folder: Path) -> dict[str, tuple[Array, Array]]:
    """Return images uint8 (N, 28, 28) and labels uint8 (N,) for train and test."""
    images = read_idx(folder / "train-images-idx3-ubyte.gz").reshape(-1, 28, 28)
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    first = np.array([np.flatnonzero(labels == digit)[:OF_CLASS] for digit in range(10)])
    # By turns: the first of each class, then the second, and so on.
    order = {"train": first[:, :FOR_TRAINING].T.ravel(), "test": first[:, FOR_TRAINING:].T.ravel()}
    return {name: (images[positions], labels[positions]) for name, positions in order.items()}


def digits_8x8(table: Path) -> dict[str, tuple[Array, Array]]:
    """Return images uint8 (N, 8, 8) and labels uint8 (N,) for train and test."""
    values = np.loadtxt(table, delimiter=",", dtype=np.float64).astype(np.int64)
    # Rounded as whole numbers, which are the same everywhere.
    images = ((values[:, :64] * 510 + 16) // 32).astype(np.uint8).reshape(-1, 8, 8)
    labels = values[:, 64].astype(np.uint8)
    hashes = [hashlib.sha256(image.tobytes()).digest()[:8] for image in images]
    for_test = np.array([int.from_bytes(one, "big") < TEST_FRACTION * 2**64 for one in hashes])
    return {
        "train": (images[~for_test], labels[~for_test]),
        "test": (images[for_test], labels[for_test]),
    }


def read_idx(path: Path) -> Array:
    """Return the bytes of a compressed file in MNIST's format, without its header."""
    content = gzip.decompress(path.read_bytes())
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3])


def write(name: str, splits: dict[str, tuple[Array, Array]]) -> None:
    """Write the four files of a data set, and print the MD5s that its card needs."""
    (HERE / name).mkdir(exist_ok=True)
    for split, arrays in splits.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = header + array.tobytes()
            path = HERE / name / f"{split}-{kind}.gz"
            path.write_bytes(gzip.compress(content, mtime=0))
            print(path, hashlib.md5(content, usedforsecurity=False).hexdigest())


if __name__ == "__main__":
    main()
