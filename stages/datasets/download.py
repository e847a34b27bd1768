"""The official MNIST and three data sets of its form, from their servers or from a mirror.

torchvision says which files there are, where they lie, and the MD5 of each. They come from
there, or from the folder or URL that the environment variable MNIST_MIRROR names; a file
with another content is refused wherever it comes from.
"""

import hashlib
import os
import sys
import time
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
from tqdm import tqdm

from stages.storage.errors import InputError
from stages.storage.tensors import Array

TORCHVISION_CLASSES = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "qmnist": "QMNIST",
}

# Of the decoded files, where they are known: a file that was compressed anew is the same data.
# In the order of torchvision: images and labels for training, images and labels for the test.
DECODED_MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion-mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}

MAX_ATTEMPTS = 3
RETRY_DELAY = 1.0  # seconds before the second try, twice as many before the third
READ_TIMEOUT = 20.0  # seconds without a byte
MAX_BYTES = 50_000_000  # bytes, compressed or not; 60,000 images are 47 million


class Resource(NamedTuple):
    """A compressed file, its MD5, and whether that is of the decoded content."""

    name: str
    urls: tuple[str, ...]
    md5: str
    decoded: bool


class UnusableLocationError(Exception):
    """A place that has not got the file, or has another one: trying again is no use."""


def download_dataset(dataset: str) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, 1, 28, 28), labels uint8 (N,).

    Raises `InputError` where a file cannot be had.
    """
    images, labels, *test = (download_file(dataset, resource) for resource in resources(dataset))
    files = {"train": (images, labels), "test": test}
    return {
        name: {"images": _parse_images(images), "labels": _parse_labels(labels, dataset)}
        for name, (images, labels) in files.items()
    }


def resources(dataset: str) -> list[Resource]:
    """Return the four files of a data set: images and labels for training, then for the test."""
    from torchvision import datasets  # here, because it takes as long to import as torch

    known = getattr(datasets, TORCHVISION_CLASSES[dataset])
    if dataset == "qmnist":
        listed = [*known.resources["train"], *known.resources["test"]]
        return [Resource(url.rpartition("/")[2], (url,), md5, False) for url, md5 in listed]
    found = [
        Resource(name, tuple(mirror + name for mirror in known.mirrors), md5, False)
        for name, md5 in known.resources
    ]
    if pinned := DECODED_MD5.get(dataset):
        found = [
            file._replace(md5=md5, decoded=True) for file, md5 in zip(found, pinned, strict=True)
        ]
    return found


def download_file(dataset: str, resource: Resource) -> bytes:
    """Return the decoded content of a file, from the first place that has it."""
    mirror = os.environ.get("MNIST_MIRROR")
    places = [f"{mirror.rstrip('/')}/{resource.name}"] if mirror else list(resource.urls)
    problems: dict[str, str] = {}
    for attempt in range(MAX_ATTEMPTS):
        if attempt and places:
            print(f"{_summarize(problems)}; trying again", file=sys.stderr, flush=True)
            time.sleep(RETRY_DELAY * attempt)
        for place in tuple(places):
            try:
                return _decompress(_read_location(place), resource)
            except UnusableLocationError as error:
                problems[place] = str(error)
                places.remove(place)
            except (OSError, HTTPException, ValueError) as error:
                problems[place] = str(error) or type(error).__name__
    other = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        f"{dataset}: {_summarize(problems)}; {other}, or set MNIST_MIRROR to a folder or URL that "
        f"holds {resource.name} and the other three files"
    )


def _summarize(problems: dict[str, str]) -> str:
    return "; ".join(f"{place}: {' '.join(said.split())}" for place, said in problems.items())


def _read_location(place: str) -> bytes:
    """Return the content of a URL or of a file."""
    if "://" not in place:
        try:
            return Path(place).read_bytes()
        except OSError as error:
            raise UnusableLocationError(error.strerror) from None
    try:
        response = urlopen(place, timeout=READ_TIMEOUT)
    except HTTPError as error:
        if error.code < 500:
            raise UnusableLocationError(f"the server says {error.code} {error.reason}") from None
        raise
    size = int(response.headers.get("Content-Length", 0)) or None
    content = bytearray()
    # disable=None: a progress bar on a terminal only
    name = place.rpartition("/")[2]
    with response, tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        read: Callable[[int], bytes] = response.read1  # what has come, without waiting for more
        while len(content) <= MAX_BYTES and (some := read(2**16)):
            content += some
            bar.update(len(some))
    return bytes(content)


def _decompress(content: bytes, resource: Resource) -> bytes:
    """Return what was compressed; raises `ValueError`, or `GoneError` for another content."""
    unzip = zlib.decompressobj(wbits=31)
    try:
        decoded = unzip.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a gzip file ({error})") from None
    if not unzip.eof:
        too_long = unzip.unconsumed_tail or len(content) > MAX_BYTES
        raise ValueError("too long" if too_long else f"cut short after {len(content):,} bytes")
    checked = decoded if resource.decoded else content
    if hashlib.md5(checked, usedforsecurity=False).hexdigest() != resource.md5:
        raise UnusableLocationError("another content than the official one (its MD5 differs)")
    return decoded


def _parse_images(content: bytes) -> Array:
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)


def _parse_labels(content: bytes, dataset: str) -> Array:
    if dataset == "qmnist":  # eight integers an image, the first of which is the digit
        return np.frombuffer(content, ">i4", offset=12).reshape(-1, 8)[:, 0].astype(np.uint8)
    return np.frombuffer(content, np.uint8, offset=8)
