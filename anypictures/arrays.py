"""Pictures as arrays: .npz of NumPy, pairs of IDX files, and CIFAR's binary files."""

import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np

from anypictures.containers import Container
from anypictures.errors import PicturesError
from anypictures.examples import Example, Source, class_name, split_of
from anypictures.idx import IDX_START, Array, parse_idx

MAX_ARRAY_BYTES = 20_000_000_000
MAX_ARRAY_FILES = 50  # of a folder; one with more has pictures
IMAGES, LABELS = re.compile("(image|img|data|^x|_x)"), re.compile("(label|target|^y|_y)")
CIFAR_FILE = re.compile(r"(data_batch(_\d+)?|test_batch|train|test)\.bin", re.IGNORECASE)
CIFAR_PIXELS = 3 * 32 * 32
CLASS_FILES = ("classes.txt", "batches.meta.txt", "fine_label_names.txt")  # a name a line


def read_npz(place: str, content: zipfile.ZipFile) -> Source:
    """Return the pictures of a .npz file of Keras or MedMNIST, or of one of like names."""
    arrays = {}
    for name in content.namelist():
        try:
            # Never objects: they can run any code.
            with content.open(name) as file:
                arrays[name.removesuffix(".npy")] = np.lib.format.read_array(
                    file, allow_pickle=False
                )
        except (ValueError, OSError, EOFError, RuntimeError, MemoryError, zlib.error) as error:
            raise PicturesError(
                f"{place}: {name}: no plain array ({str(error).partition('.')[0]}); save numbers "
                "by numpy.savez"
            ) from None
    return from_arrays(place, arrays)


def from_arrays(place: str, arrays: Mapping[str, Array], names: Sequence[str] = ()) -> Source:
    """Return the pictures of arrays whose names say split and kind, such as `train_images`."""
    pairs: dict[str | None, dict[str, str]] = {}
    for name in arrays:
        lower = name.lower().replace("t10k", "test")
        split = next((s for word in re.split(r"[_\W]+", lower) if (s := split_of(word))), None)
        kind = "labels" if LABELS.search(lower) else "images" if IMAGES.search(lower) else ""
        if kind:
            if kind in pairs.setdefault(split, {}):
                raise PicturesError(f"{place}: {name} and {pairs[split][kind]}: which is meant?")
            pairs[split][kind] = name
    if not pairs:
        raise PicturesError(
            f"{place}: has {', '.join(arrays) or 'nothing'}; name the arrays train_images, "
            "train_labels, test_images and test_labels"
        )
    examples: list[Example] = []
    pixels: list[Array] = []
    for split, pair in pairs.items():
        if len(pair) < 2:
            raise PicturesError(f"{place}: {', '.join(pair.values())} has no partner; add it")
        images = check_images(f"{place}: {pair['images']}", arrays[pair["images"]])
        labels = check_labels(f"{place}: {pair['labels']}", arrays[pair["labels"]], names)
        if len(images) != len(labels):
            raise PicturesError(
                f"{place}: {pair['images']} has {len(images):,} and {pair['labels']} "
                f"{len(labels):,}; they have to be as many"
            )
        pixels.append(images)
        start = len(examples)
        examples += [
            Example(f"{pair['images']}[{i}]", label, split, row=start + i)
            for i, label in enumerate(labels)
        ]
    starts = np.cumsum([0, *map(len, pixels)])

    def read(example: Example) -> Array:
        part = int(np.searchsorted(starts, example.row, side="right")) - 1
        image: Array = pixels[part][example.row - starts[part]]
        return image

    return Source(examples, read, [], tuple(names))


def check_images(place: str, images: Array) -> Array:
    """Return pixels as (N, H, W) or (N, H, W, 3)."""
    if images.dtype.kind not in "uif" or images.dtype.itemsize > 8:
        raise PicturesError(f"{place}: has {images.dtype}; pixels are numbers")
    side = round(images.shape[1] ** 0.5) if images.ndim == 2 else 0
    if images.ndim == 2 and side * side == images.shape[1] > 0:
        images = images.reshape(-1, side, side)
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or images.shape[3:] not in ((), (3,)) or 0 in images.shape:
        raise PicturesError(
            f"{place}: has the shape {images.shape}; pictures are (N, H, W) or (N, H, W, 3)"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise PicturesError(f"{place}: has values that are no numbers; leave these pictures out")
    return images


def check_labels(place: str, labels: Array, names: Sequence[str] = ()) -> list[str]:
    """Return labels (N,) as names of classes."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise PicturesError(
            f"{place}: has the shape {labels.shape}; a picture has one label here, not several"
        )
    if labels.dtype.kind == "f" and (labels % 1 == 0).all():  # NaN is not equal
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "uiUS":
        raise PicturesError(f"{place}: has {labels.dtype}; labels are whole numbers or names")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if not names:
        return [class_name(str(label)) for label in labels.tolist()]
    if labels.dtype.kind == "U" or labels.min() < 0 or labels.max() >= len(names):
        raise PicturesError(f"{place}: has labels beyond the {len(names)} names of classes")
    return [names[label] for label in labels.tolist()]


def read_array_files(place: str, container: Container, names: Sequence[str]) -> Source | None:
    """Return the pictures of the IDX files or of CIFAR's files in a container; None without."""
    classes = read_classes(container, names)
    binary = [name for name in names if CIFAR_FILE.fullmatch(PurePosixPath(name).name)]
    if binary:
        return read_cifar(place, container, sorted(binary), classes)
    arrays = {}
    for name in names if len(names) <= MAX_ARRAY_FILES else ():
        stem = PurePosixPath(name).name
        if not (re.search("idx|ubyte", stem) or PurePosixPath(stem).suffix in ("", ".gz")):
            continue
        start = container.read(name, 10)
        if start.startswith(b"\x1f\x8b"):
            start = gzip_start(start, container, name)
        if start[:3] in IDX_START:
            content = container.read(name, MAX_ARRAY_BYTES)
            arrays[stem] = parse_idx(content, MAX_ARRAY_BYTES, f"{place}/{name}")
    return from_arrays(place, arrays, classes) if arrays else None


def gzip_start(start: bytes, container: Container, name: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(container.read(name, 10_000))) as file:
            return file.read(4)
    except (OSError, EOFError, zlib.error):
        return start


def read_classes(container: Container, names: Sequence[str]) -> list[str]:
    """Return the names of the classes 0, 1, 2, ... if a text file has them."""
    for name in names:
        if PurePosixPath(name).name in CLASS_FILES:
            text = container.read(name, 1_000_000).decode("utf-8-sig", "replace")
            return [class_name(line.strip()) for line in text.splitlines() if line.strip()]
    return []


def read_cifar(place: str, container: Container, files: list[str], classes: list[str]) -> Source:
    """Return the pictures of CIFAR-10 or CIFAR-100, https://www.cs.toronto.edu/~kriz/cifar.html."""
    hundred = not any("batch" in name for name in files)
    before = 2 if hundred else 1  # labels, of which the last is the finest
    arrays: dict[str, list[Array]] = {}
    for name in files:
        content = np.frombuffer(container.read(name, MAX_ARRAY_BYTES), np.uint8)
        if len(content) == 0 or len(content) % (before + CIFAR_PIXELS):
            raise PicturesError(f"{place}/{name}: not in CIFAR's binary form; copy it again")
        split = "test" if PurePosixPath(name).name.startswith("test") else "train"
        arrays.setdefault(split, []).append(content.reshape(-1, before + CIFAR_PIXELS))
    named = {}
    for split, parts in arrays.items():
        rows = np.concatenate(parts)
        named[f"{split}_labels"] = rows[:, before - 1]
        named[f"{split}_images"] = rows[:, before:].reshape(-1, 3, 32, 32)
    return from_arrays(place, named, classes)
