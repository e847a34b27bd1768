"""Data sets in the format of MNIST: four compressed files, as a data card names them.

http://yann.lecun.com/exdb/mnist/ describes the format.
"""

import contextlib
import hashlib
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stages.datasets.cards import Card, File, is_local
from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular
from stages.storage.tensors import Array

MAX_ARCHIVE_BYTES = 1_000_000_000
IDX_DTYPES = {0x08: "u1", 0x0C: ">i4"}
REMEDY = "correct the data card"


class UnusableFileError(Exception):
    """A location lacks a file, or has another one: trying again does not help."""


def load_idx(card: Card) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, C, H, W), labels int64 (N,).

    Raises `InputError` if a file cannot be had, or if it is not as the card says.
    """
    files = card.files
    with contextlib.ExitStack() as stack:
        archive = None
        if files.archive:
            content = stack.enter_context(opened(files.archive, card, MAX_ARCHIVE_BYTES))
            archive = stack.enter_context(open_archive(files.archive, content))
        splits = {}
        for name, count, of_images, of_labels in (
            ("train", card.train, files.train_images, files.train_labels),
            ("test", card.test, files.test_images, files.test_labels),
        ):
            arrays = []
            for file, shape in ((of_images, (count, *card.shape)), (of_labels, (count,))):
                # QMNIST has 32 bytes for each label.
                max_bytes = 100 + (32 * count if shape == (count,) else math.prod(shape))
                if archive:
                    compressed = read_member(archive, file.name, max_bytes)
                else:
                    with opened(file, card, max_bytes) as content:
                        compressed = content.read()
                arrays.append(parse_idx(compressed, max_bytes, file.name))
            splits[name] = check_split(card, count, *arrays, of_images.name)
    return splits


@contextlib.contextmanager
def opened(file: File, card: Card, max_bytes: int) -> Iterator[BinaryIO]:
    """Yield a file of a card, open to read.

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
        from stages.datasets.download import downloaded

        with downloaded(file, [mirror] if mirror else addresses, max_bytes) as content:
            yield content
        return
    path = Path(folder, file.name)
    with contextlib.ExitStack() as stack:
        try:
            refuse_irregular(path, "name a folder that has the file itself")
            content = stack.enter_context(path.open("rb"))
            verify(content, file, max_bytes)
        except (OSError, UnusableFileError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: {reason}; {remedy}") from None
        content.seek(0)
        yield content


def verify(content: BinaryIO, file: File, max_bytes: int) -> None:
    """Raise `UnusableFileError` or `ValueError` if the content is not that of the card's file."""
    if (size := os.fstat(content.fileno()).st_size) > max_bytes:
        raise UnusableFileError(f"too long ({size:,} bytes)")
    content.seek(0)
    if file.decompressed_md5:
        expected, text = file.decompressed_md5, decompress(content.read(), max_bytes)
        digest = hashlib.md5(text, usedforsecurity=False)
    else:
        expected = file.md5
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != expected:
        raise UnusableFileError("another content than the official one (its MD5 differs)")


def decompress(content: bytes, max_bytes: int) -> bytes:
    """Return the content of a gzip file; raises `ValueError` if it is broken, or too long."""
    decompressor = zlib.decompressobj(wbits=31)  # 31: gzip
    try:
        decompressed = decompressor.decompress(content, max_bytes)
    except zlib.error as error:
        raise ValueError(f"not a gzip file ({error})") from None
    if not decompressor.eof:
        if decompressor.unconsumed_tail:
            raise ValueError("too long")
        raise ValueError(f"cut short after {len(content):,} bytes")
    return decompressed


@contextlib.contextmanager
def open_archive(file: File, content: BinaryIO) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file; raises `InputError` if it is broken."""
    try:
        with zipfile.ZipFile(content) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise InputError(f"{file.name}: not a zip file ({error}); {REMEDY}") from None


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Return a file of an archive; raises `InputError` if it is not there, or too long."""
    try:
        if archive.getinfo(name).file_size > max_bytes:
            raise InputError(f"{archive.filename}: {name} is too long; {REMEDY}")
        return archive.read(name)
    except KeyError:
        raise InputError(f"{archive.filename}: has no {name}; {REMEDY}") from None
    # It needs a password, it is compressed in another way, or it is damaged.
    except (RuntimeError, NotImplementedError, zlib.error) as error:
        raise InputError(f"{archive.filename}: {name}: {error}; {REMEDY}") from None


def parse_idx(compressed: bytes, max_bytes: int, name: str) -> Array:
    """Return the array of a compressed file in the IDX format.

    Raises `InputError` if it is in another format, or if it has more than `max_bytes`.
    """
    try:
        content = decompress(compressed, max_bytes)
    except ValueError as error:
        raise InputError(f"{name}: {error}; {REMEDY}") from None
    header = np.frombuffer(content[:4], np.uint8)
    dimensions = int(header[3]) if len(header) == 4 else 0
    dtype = np.dtype(IDX_DTYPES.get(int(header[2]), "V")) if dimensions else np.dtype("V")
    offset = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:offset], ">u4").tolist())
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    if dtype.kind == "V" or len(shape) < dimensions or len(content) != expected:
        raise InputError(f"{name}: not an IDX file of bytes or integers; {REMEDY}")
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)


def check_split(
    card: Card, count: int, images: Array, labels: Array, name: str
) -> dict[str, Array]:
    """Return a split in the card's shape; raises `InputError` if the files have another one."""
    if images.shape != (count, *card.shape[1:]) or len(labels) != count:
        raise InputError(
            f"{name}: has images {images.shape} and {len(labels)} labels, but the data card says "
            f"{count} of {card.shape[1:]}; correct the card"
        )
    if card.files.transposed:
        images = images.swapaxes(1, 2)
    if labels.ndim == 2:  # QMNIST has eight numbers for each image, the first of which is the label
        labels = labels[:, 0]
    labels = labels.astype(np.int64) - card.files.first_label
    if labels.min() < 0 or labels.max() >= len(card.classes):
        raise InputError(
            f"{name}: has labels from {labels.min()} to {labels.max()}, counted from first_label, "
            f"but the data card has {len(card.classes)} classes; correct the card"
        )
    return {"images": images[:, None], "labels": labels}
