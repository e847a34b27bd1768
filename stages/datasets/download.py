"""Download a data set in MNIST's format, or read it from a mirror.

The data card names the files, their addresses and their MD5. They come from there, or from the
folder or URL that the environment variable MNIST_MIRROR names; a file with another content is
refused wherever it comes from.
"""

import contextlib
import fcntl
import hashlib
import math
import os
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.client import HTTPException
from io import BufferedRandom
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
from tqdm import tqdm

from stages.datasets.cards import Card, File, IdxFiles
from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular
from stages.storage.tensors import Array

DOWNLOADS = Path(".dvc/tmp/downloads")  # files that are not complete, or not yet used
MAX_ATTEMPTS = 3
RETRY_DELAY = 1.0  # seconds before the second attempt, twice as many before the third
READ_TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 1_800.0  # seconds for a file
MAX_BYTES = 1_000_000_000  # of a file that is downloaded
IDX_DTYPES = {0x08: "u1", 0x0C: ">i4"}


class UnusableLocationError(Exception):
    """A location lacks the file, or has another one: trying again does not help."""


def download_dataset(card: Card, files: IdxFiles) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, C, H, W), labels uint8 (N,).

    Raises `InputError` if a file cannot be had, or if it is not as the card says.
    """
    with contextlib.ExitStack() as stack:
        archive = None
        if files.archive:
            content = stack.enter_context(downloaded(files.archive, files.addresses))
            archive = stack.enter_context(open_archive(files.archive, content))
        splits = {}
        # A card of such files has both counts.
        for name, count, of_images, of_labels in (
            ("train", card.train or 0, files.train_images, files.train_labels),
            ("test", card.test or 0, files.test_images, files.test_labels),
        ):
            arrays = []
            for file, shape in ((of_images, (count, *card.shape)), (of_labels, (count,))):
                # QMNIST has 32 bytes for each label.
                max_bytes = 100 + (32 * count if shape == (count,) else math.prod(shape))
                if archive:
                    compressed = read_member(archive, file.name, max_bytes)
                else:
                    with downloaded(file, files.addresses, max_bytes) as content:
                        compressed = content.read()
                arrays.append(parse_idx(compressed, max_bytes, file.name))
            images, labels = arrays
            splits[name] = check_split(card, files, count, images, labels, of_images.name)
    return splits


def check_split(
    card: Card, files: IdxFiles, count: int, images: Array, labels: Array, name: str
) -> dict[str, Array]:
    """Return a split in the card's shape; raises `InputError` if the files have another one."""
    if images.shape != (count, *card.shape[1:]) or len(labels) != count:
        raise InputError(
            f"{name}: has images {images.shape} and {len(labels)} labels, but the data card says "
            f"{count} of {card.shape[1:]}; correct the card"
        )
    if files.transposed:
        images = images.swapaxes(1, 2)
    if labels.ndim == 2:  # QMNIST has eight numbers for each image, the first of which is the label
        labels = labels[:, 0]
    labels = labels.astype(np.int64) - files.first_label
    if labels.min() < 0 or labels.max() >= len(card.classes):
        raise InputError(
            f"{name}: has labels from {labels.min()} to {labels.max()}, counted from first_label, "
            f"but the data card has {len(card.classes)} classes; correct the card"
        )
    return {"images": images[:, None], "labels": labels}


@contextlib.contextmanager
def downloaded(
    file: File, addresses: list[str], max_bytes: int = MAX_BYTES
) -> Iterator[BufferedRandom]:
    """Yield a file, open to read, from the first location that has it.

    What was downloaded before a failure is kept, so that the next attempt, or the next run, goes
    on from there. Raises `InputError` if no location has it after `MAX_ATTEMPTS`.
    """
    mirror = os.environ.get("MNIST_MIRROR")
    folders = [mirror] if mirror else addresses
    locations = [f"{folder.rstrip('/')}/{file.name}" for folder in folders]
    problems: dict[str, str] = {}
    with _exclusive_file(file) as target:
        for attempt in range(MAX_ATTEMPTS):
            if attempt and locations:
                print(f"{_summarize(problems)}; trying again", file=sys.stderr, flush=True)
                time.sleep(RETRY_DELAY * attempt)
            for location in tuple(locations):
                had_part = target.seek(0, os.SEEK_END) > 0
                try:
                    _copy(location, target, max_bytes)
                    _verify(target, file, max_bytes)
                except UnusableLocationError as error:
                    problems[location] = str(error)
                    if not had_part:  # or else it may be of another file, and is gone now
                        locations.remove(location)
                except (OSError, HTTPException, ValueError) as error:
                    problems[location] = str(error) or type(error).__name__
                else:
                    target.seek(0)
                    yield target
                    Path(target.name).unlink()
                    return
    alternative = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        f"{_summarize(problems)}; {alternative}, or set MNIST_MIRROR to a folder or URL that holds "
        f"{file.name}"
    )


@contextlib.contextmanager
def _exclusive_file(file: File) -> Iterator[BufferedRandom]:
    """Yield the file to which this process alone downloads; waits while another one does."""
    key = hashlib.sha256(file.model_dump_json().encode()).hexdigest()[:16]
    path = DOWNLOADS / f"{key}-{Path(file.name).name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("a+b")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}); give permission there") from None
    with target:
        fcntl.flock(target, fcntl.LOCK_EX)
        yield target


def _summarize(problems: dict[str, str]) -> str:
    return "; ".join(
        f"{location}: {' '.join(message.split())}" for location, message in problems.items()
    )


def _copy(location: str, target: BufferedRandom, max_bytes: int) -> None:
    """Append to `target` what it lacks of the content of a URL, or copy a file there."""
    if "://" in location:
        _download(location, target, max_bytes)
        return
    try:
        refuse_irregular(Path(location), "name a folder that has the file itself")
        with Path(location).open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if size > max_bytes:
                raise UnusableLocationError(f"{size:,} bytes are too many")
            content = source.read()
    except OSError as error:
        raise UnusableLocationError(error.strerror) from None
    target.truncate(0)
    target.write(content)


def _download(location: str, target: BufferedRandom, max_bytes: int) -> None:
    deadline = time.monotonic() + DEADLINE
    start = target.seek(0, os.SEEK_END)
    request = Request(location, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(request, timeout=READ_TIMEOUT)
    except HTTPError as error:
        with error:
            if start and error.code == 416:  # there is nothing from there on
                return
            if error.code < 500:
                message = f"the server answers {error.code} {error.reason}"
                raise UnusableLocationError(message) from None
            raise
    if start and response.status != 206:  # the server sends all of it
        start = 0
        target.truncate(0)
    size = start + int(response.headers.get("Content-Length", 0)) or None
    name = location.rpartition("/")[2]
    # disable=None shows the progress bar on a terminal only.
    bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=name, disable=None)
    with response, bar:
        # read1 returns what has arrived, without waiting for more.
        while target.tell() <= max_bytes and (block := response.read1(2**16)):
            target.write(block)
            bar.update(len(block))
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {DEADLINE:,.0f} seconds")
    if size and target.tell() < size:
        raise ValueError(f"cut short after {target.tell():,} bytes")


def _verify(target: BufferedRandom, file: File, max_bytes: int) -> None:
    """Raise `UnusableLocationError`, and empty the file, if it is not the one of the card."""
    target.flush()
    target.seek(0)
    try:
        if os.fstat(target.fileno()).st_size > max_bytes:
            raise UnusableLocationError("too long")
        if file.decompressed_md5:
            content, expected = decompress(target.read(), max_bytes), file.decompressed_md5
            digest = hashlib.md5(content, usedforsecurity=False)
        else:
            digest = hashlib.file_digest(target, lambda: hashlib.md5(usedforsecurity=False))
            expected = file.md5 or digest.hexdigest()
        if digest.hexdigest() != expected:
            raise UnusableLocationError("another content than the official one (its MD5 differs)")
    except (UnusableLocationError, ValueError):
        target.truncate(0)
        raise


def decompress(content: bytes, max_bytes: int) -> bytes:
    """Return the content of a gzip file; raises `ValueError` if it is none, or a long one."""
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
def open_archive(file: File, content: BufferedRandom) -> Iterator[zipfile.ZipFile]:
    """Yield a zip file; raises `InputError` if it is none."""
    try:
        with zipfile.ZipFile(content) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise InputError(f"{file.name}: not a zip file ({error}); correct the data card") from None


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Return a file of an archive; raises `InputError` if it is not there, or too long."""
    try:
        if archive.getinfo(name).file_size > max_bytes:
            raise InputError(f"{archive.filename}: {name} is too long; correct the data card")
        return archive.read(name)
    except KeyError:
        raise InputError(f"{archive.filename}: has no {name}; correct the data card") from None
    # It needs a password, it is compressed in another way, or it is damaged.
    except (RuntimeError, NotImplementedError, zlib.error) as error:
        raise InputError(f"{archive.filename}: {name}: {error}; correct the data card") from None


def parse_idx(compressed: bytes, max_bytes: int, name: str) -> Array:
    """Return the array of a compressed file in the IDX format.

    Raises `InputError` if it is none, or if it has more than `max_bytes`.
    """
    try:
        content = decompress(compressed, max_bytes)
    except ValueError as error:
        raise InputError(f"{name}: {error}; correct the data card") from None
    header = np.frombuffer(content[:4], np.uint8)
    dimensions = int(header[3]) if len(header) == 4 else 0
    dtype = np.dtype(IDX_DTYPES.get(int(header[2]), "V")) if dimensions else np.dtype("V")
    offset = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:offset], ">u4").tolist())
    expected = offset + dtype.itemsize * int(np.prod(shape, dtype=object))
    if dtype.kind == "V" or len(shape) < dimensions or len(content) != expected:
        raise InputError(f"{name}: not an IDX file of bytes or integers; correct the data card")
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)
