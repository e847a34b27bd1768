"""Data sets in the format of MNIST: four compressed files, as a data card names them.

http://yann.lecun.com/exdb/mnist/ describes the format.
"""

import hashlib
import math
import os
from pathlib import Path

import numpy as np

from anypictures.errors import PicturesError
from anypictures.identities import Row
from anypictures.idx import Array, decompress, parse_idx
from stages.datasets.cards import Card, File, is_local
from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular


class UnusableFileError(Exception):
    """A location lacks a file, or has another one: trying again does not help."""


def rows_of(file: str, images: Array) -> list[Row]:
    """Return what is known of each image of a file: its place, and a hash of its pixels."""
    return [
        Row(f"{file}[{number}]", hashlib.sha256(image.tobytes()).hexdigest()[:16])
        for number, image in enumerate(images)
    ]


def load_idx(card: Card) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, C, H, W), labels int64 (N,).

    Raises `InputError` if a file cannot be had, or if it is not as the card says.
    """
    files = card.files

    def read(file: File, max_bytes: int) -> Array:
        try:
            return parse_idx(read_file(file, card, max_bytes), max_bytes, file.name)
        except PicturesError as error:
            raise InputError(*error.args) from None

    splits = {}
    for name, count, of_images, of_labels in (
        ("train", card.train, files.train_images, files.train_labels),
        ("test", card.test, files.test_images, files.test_labels),
    ):
        images = read(of_images, 100 + count * math.prod(card.shape))
        labels = read(of_labels, 100 + count * 32)  # so many bytes has a label of QMNIST
        splits[name] = check_split(card, count, images, labels, of_images.name)
    return splits


def read_file(file: File, card: Card, max_bytes: int) -> bytes:
    """Return a file of a card.

    It comes from the folder or URL that the environment variable MNIST_MIRROR names, or else from
    the addresses of the card; but the card's own folder, if it has one, is read in any case.
    """
    addresses, mirror = card.files.addresses, os.environ.get("MNIST_MIRROR")
    if is_local(addresses[0]):
        folder, remedy = addresses[0], "`git checkout` brings it back"
    elif mirror and is_local(mirror):
        folder = mirror
        remedy = f"unset MNIST_MIRROR to download, or set it to a folder that holds {file.name}"
    else:
        # Here, because HTTP takes as long to import as all else together.
        from stages.datasets.download import download

        return download(file, [mirror] if mirror else addresses, max_bytes)
    path = Path(folder, file.name)
    try:
        refuse_irregular(path, "name a folder that has the file itself")
        with path.open("rb") as opened:
            content = opened.read(max_bytes + 1)
        verify(content, file, max_bytes)
    except (OSError, UnusableFileError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', '') or error}; {remedy}") from None
    return content


def verify(content: bytes, file: File, max_bytes: int) -> None:
    """Raise `UnusableFileError` or `ValueError` if the content is not that of the card's file."""
    if len(content) > max_bytes:
        raise UnusableFileError(f"longer than {max_bytes:,} bytes")
    expected = file.md5
    if file.decompressed_md5:
        expected, content = file.decompressed_md5, decompress(content, max_bytes)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != expected:
        raise UnusableFileError("another content than the official one (its MD5 differs)")


def check_split(
    card: Card, count: int, images: Array, labels: Array, name: str
) -> dict[str, Array]:
    """Return a split in the card's shape; raises `InputError` if the files have another one."""
    if images.shape != (count, *card.shape[1:]) or len(labels) != count:
        raise InputError(
            f"{name}: has images {images.shape} and {len(labels)} labels, but the data card says "
            f"{count} of {card.shape[1:]}; correct the card"
        )
    if labels.ndim == 2:  # QMNIST has eight numbers for each image, the first of which is the label
        labels = labels[:, 0]
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= len(card.classes):
        raise InputError(
            f"{name}: has labels from {labels.min()} to {labels.max()}, but the data card has "
            f"{len(card.classes)} classes; correct the card"
        )
    return {"images": images[:, None], "labels": labels}
