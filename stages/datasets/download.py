"""Download the official MNIST and three data sets of its form, or read them from a mirror.

torchvision knows the files, their addresses and the MD5 of each. They come from there, or from
the folder or URL that the environment variable MNIST_MIRROR names; a file with another content
is refused wherever it comes from.
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

# The MD5 of the decompressed files where it is known, so that a file that was compressed again
# is accepted. In torchvision's order: training images and labels, test images and labels.
DECOMPRESSED_MD5 = {
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
RETRY_DELAY = 1.0  # seconds before the second attempt, twice as many before the third
READ_TIMEOUT = 20.0  # seconds without a byte
MAX_BYTES = 50_000_000  # of a file, compressed or not; 60,000 images have 47 million


class Resource(NamedTuple):
    """A compressed file, its MD5, and whether that is the MD5 of the decompressed content."""

    name: str
    urls: tuple[str, ...]
    md5: str
    of_decompressed: bool


class UnusableLocationError(Exception):
    """A location lacks the file, or has another one: trying again does not help."""


def download_dataset(dataset: str) -> dict[str, dict[str, Array]]:
    """Return the training pool and the test split: images uint8 (N, 1, 28, 28), labels uint8 (N,).

    Raises `InputError` if a file cannot be had.
    """
    train_images, train_labels, test_images, test_labels = (
        download_file(dataset, resource) for resource in resources(dataset)
    )
    files = {"train": (train_images, train_labels), "test": (test_images, test_labels)}
    return {
        name: {"images": _parse_images(images), "labels": _parse_labels(labels, dataset)}
        for name, (images, labels) in files.items()
    }


def resources(dataset: str) -> list[Resource]:
    """Return the four files of a data set: training images and labels, test images and labels."""
    from torchvision import datasets  # here, because it takes as long to import as torch

    torchvision_class = getattr(datasets, TORCHVISION_CLASSES[dataset])
    if dataset == "qmnist":
        listed = [*torchvision_class.resources["train"], *torchvision_class.resources["test"]]
        return [Resource(url.rpartition("/")[2], (url,), md5, False) for url, md5 in listed]
    result = [
        Resource(name, tuple(mirror + name for mirror in torchvision_class.mirrors), md5, False)
        for name, md5 in torchvision_class.resources
    ]
    if known := DECOMPRESSED_MD5.get(dataset):
        result = [
            resource._replace(md5=md5, of_decompressed=True)
            for resource, md5 in zip(result, known, strict=True)
        ]
    return result


def download_file(dataset: str, resource: Resource) -> bytes:
    """Return the decompressed content of a file, from the first location that has it.

    Raises `InputError` if no location has it after `MAX_ATTEMPTS`.
    """
    mirror = os.environ.get("MNIST_MIRROR")
    locations = [f"{mirror.rstrip('/')}/{resource.name}"] if mirror else list(resource.urls)
    problems: dict[str, str] = {}
    for attempt in range(MAX_ATTEMPTS):
        if attempt and locations:
            print(f"{_summarize(problems)}; trying again", file=sys.stderr, flush=True)
            time.sleep(RETRY_DELAY * attempt)
        for location in tuple(locations):
            try:
                return _decompress(_read_location(location), resource)
            except UnusableLocationError as error:
                problems[location] = str(error)
                locations.remove(location)
            except (OSError, HTTPException, ValueError) as error:
                problems[location] = str(error) or type(error).__name__
    alternative = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        f"{dataset}: {_summarize(problems)}; {alternative}, or set MNIST_MIRROR to a folder or URL "
        f"that holds {resource.name} and the other three files"
    )


def _summarize(problems: dict[str, str]) -> str:
    return "; ".join(
        f"{location}: {' '.join(message.split())}" for location, message in problems.items()
    )


def _read_location(location: str) -> bytes:
    """Return the content of a URL or of a file, at most a little more than `MAX_BYTES`."""
    if "://" not in location:
        try:
            return Path(location).read_bytes()
        except OSError as error:
            raise UnusableLocationError(error.strerror) from None
    try:
        response = urlopen(location, timeout=READ_TIMEOUT)
    except HTTPError as error:
        if error.code < 500:
            message = f"the server answers {error.code} {error.reason}"
            raise UnusableLocationError(message) from None
        raise
    size = int(response.headers.get("Content-Length", 0)) or None
    name = location.rpartition("/")[2]
    content = bytearray()
    # disable=None shows the progress bar on a terminal only.
    with response, tqdm(total=size, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        read: Callable[[int], bytes] = response.read1  # what has arrived, without waiting for more
        while len(content) <= MAX_BYTES and (block := read(2**16)):
            content += block
            bar.update(len(block))
    return bytes(content)


def _decompress(content: bytes, resource: Resource) -> bytes:
    """Return the decompressed content.

    Raises `ValueError` if it is no whole gzip file, and `UnusableLocationError` if the MD5 differs.
    """
    decompressor = zlib.decompressobj(wbits=31)  # 31: gzip
    try:
        decompressed = decompressor.decompress(content, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a gzip file ({error})") from None
    if not decompressor.eof:
        too_long = decompressor.unconsumed_tail or len(content) > MAX_BYTES
        raise ValueError("too long" if too_long else f"cut short after {len(content):,} bytes")
    checked = decompressed if resource.of_decompressed else content
    if hashlib.md5(checked, usedforsecurity=False).hexdigest() != resource.md5:
        raise UnusableLocationError("another content than the official one (its MD5 differs)")
    return decompressed


def _parse_images(content: bytes) -> Array:
    """Return the images of an IDX file, uint8 (N, 1, 28, 28)."""
    return np.frombuffer(content, np.uint8, offset=16).reshape(-1, 1, 28, 28)


def _parse_labels(content: bytes, dataset: str) -> Array:
    """Return the labels of an IDX file, uint8 (N,)."""
    if dataset == "qmnist":  # eight integers for each image, the first of which is the digit
        return np.frombuffer(content, ">i4", offset=12).reshape(-1, 8)[:, 0].astype(np.uint8)
    return np.frombuffer(content, np.uint8, offset=8)
