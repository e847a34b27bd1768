"""Sources of pictures, made for a test, and what `fetch` makes of them."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anypictures.dataset import Dataset, read_dataset
from anypictures.errors import PicturesError
from anypictures.idx import Array
from anypictures.options import Options

RANDOM = np.random.default_rng(0)


def load(path: Path, **settings: Any) -> Dataset:
    """Return what is read of a source, in grey and at 8 pixels if nothing else is said."""
    return read_dataset(path, Options(**{"size": 8} | settings))


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(PicturesError) as caught:
        load(path, **settings)
    return str(caught.value)


def images_by_file(dataset: Dataset) -> dict[str, Array]:
    """Return each image, uint8 (C, H, W), by the name that the table of files gives it."""
    return {
        row.file: image
        for split, rows in dataset.rows.items()
        for row, image in zip(rows, dataset.splits[split]["images"], strict=True)
    }


def labels_by_file(dataset: Dataset) -> dict[str, str]:
    return {
        row.file: dataset.classes[label]
        for split, rows in dataset.rows.items()
        for row, label in zip(rows, dataset.splits[split]["labels"], strict=True)
    }


def split_by_file(dataset: Dataset) -> dict[str, str]:
    return {
        row.file: "val" if row.is_val else split
        for split, rows in dataset.rows.items()
        for row in rows
    }


def noise(*shape: int) -> Array:
    return RANDOM.integers(0, 256, shape or (8, 8), np.uint8)


def save(path: Path, pixels: Array | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(path, **options)
    return path


def two_classes(folder: Path, count: int = 10) -> dict[str, Array]:
    """Write `count` pictures of each of two classes; return them by their paths in the folder."""
    pixels = {f"{name}/{i}.png": noise() for name in ("a", "b") for i in range(count)}
    for name, values in pixels.items():
        save(folder / name, values)
    return pixels


def png16(pixels: Array) -> bytes:
    """Return 16-bit values (H, W), or (H, W, C) with C from 1 to 4, as PNG (RFC 2083)."""
    rows = pixels.reshape(*pixels.shape[:2], -1)
    height, width, channels = rows.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    data = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0),
        b"IDAT": zlib.compress(data),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    )


def tiff(pixels: Array, order: str = "<", photometric: int | None = None) -> bytes:
    """Return values (H, W) or (H, W, 3) as TIFF 6.0, uncompressed, in their own dtype.

    order: `<` for little endian, `>` for big endian.
    """
    height, width, *more = pixels.shape
    channels = more[0] if more else 1
    photometric = (2 if channels == 3 else 1) if photometric is None else photometric
    bits, form = 8 * pixels.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    entries = [
        *((256, 1, width), (257, 1, height), (258, channels, bits), (259, 1, 1)),
        *((262, 1, photometric), (273, 1, None), (277, 1, channels), (278, 1, height)),
        *((279, 1, len(data)), (339, channels, form)),
    ]
    after = 8 + 2 + 12 * len(entries) + 4
    longer = b""
    table = struct.pack(f"{order}H", len(entries))
    size = 6 * 2 if channels == 3 else 0
    for tag, count, value in entries:
        if tag == 273:
            value = after + size
        if tag in (273, 279):
            table += struct.pack(f"{order}HHII", tag, 4, count, value)
        elif count == 3:
            table += struct.pack(f"{order}HHII", tag, 3, count, after + len(longer))
            longer += struct.pack(f"{order}HHH", *[value] * 3)
        else:
            table += struct.pack(f"{order}HHIHH", tag, 3, count, value, 0)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", 8) + table + b"\0\0\0\0" + longer + data


def idx(values: Array) -> bytes:
    """Return bytes or integers of 4 bytes in the format of MNIST's files."""
    kind = {1: 8, 4: 12}[values.dtype.itemsize]
    sizes = b"".join(struct.pack(">I", size) for size in values.shape)
    return bytes([0, 0, kind, values.ndim]) + sizes + values.astype(f">i{kind - 8 or 1}").tobytes()
