"""Labelled pictures of your own: a folder, or a tar file, with a sub-folder for each class.

That is the convention of `torchvision.datasets.ImageFolder`. With sub-folders `train` and `test`
that hold the classes, these are the splits.
"""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.params.fetch import Fetch
from stages.pictures.decoding import MAX_BYTES, decode_picture, fit_picture
from stages.storage.dataset_info import MAX_CLASSES, DatasetInfo
from stages.storage.errors import InputError
from stages.storage.tensors import Array

SPLITS = ("test", "train")
CHUNK = 64  # pictures that a process decodes before it sends them
OVERSAMPLING = 4  # a JPEG is decoded to at least so many times the size of an image


class Picture(NamedTuple):
    """A labelled picture."""

    name: str  # its path in the source
    split: str | None  # where the source says it
    class_name: str
    read: Callable[[], bytes]


def load_pictures(source: Path, params: Fetch) -> tuple[DatasetInfo, dict[str, dict[str, Array]]]:
    """Return a data set and its splits: images uint8 (N, C, H, W), labels (N,).

    Pictures are sorted by the hash of their bytes, so that the first ones are of all classes, and
    that another name changes nothing. Raises `InputError` if something in the source is no
    picture of a class.
    """
    pictures = list(list_tar(source) if source.is_file() else list_folder(source))
    classes = check_classes(source, pictures)
    has_split = pictures[0].split is not None
    try:
        params.check_test_fraction(has_split)
    except ValueError as error:
        raise InputError(f"params.yaml: fetch: {error}") from None
    images = np.empty((len(pictures), *params.shape), np.uint8)
    hashes: list[bytes] = []
    problems: list[str] = []
    tasks = partial(decode_chunk, source=str(source), size=params.size, mode=params.mode)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for chunk in pool.map(tasks, batched(pictures, CHUNK)):
            images[len(hashes) : len(hashes) + len(chunk.images)] = chunk.images
            hashes += chunk.hashes
            problems += chunk.problems
    if problems:
        raise InputError(*problems)
    order = sorted(range(len(pictures)), key=hashes.__getitem__)
    splits = [
        pictures[i].split or ("test" if is_test(hashes[i], params.fraction_for_test) else "train")
        for i in order
    ]
    report_copies(source, [pictures[i] for i in order], [hashes[i] for i in order])
    # DVC takes the hash of the folder when this stage has ended.
    if source.is_dir() and [picture.name for picture in list_folder(source)] != [
        picture.name for picture in pictures
    ]:
        raise InputError(f"{source}: pictures came or went while they were read; run it again")
    label_of = {name: label for label, name in enumerate(classes)}
    labels = np.array([label_of[picture.class_name] for picture in pictures])
    info = DatasetInfo(title=source.name, shape=params.shape, classes=classes, style="natural")
    return info, {
        name: {"images": images[chosen], "labels": labels[chosen]}
        for name in ("train", "test")
        for chosen in [[i for i, split in zip(order, splits, strict=True) if split == name]]
    }


class DecodedChunk(NamedTuple):
    images: Array  # uint8 (N, C, size, size); zeros where there is a problem
    hashes: list[bytes]  # SHA-256 of the pictures' bytes
    problems: list[str]  # of pictures that cannot be read


def decode_chunk(pictures: list[Picture], source: str, size: int, mode: str) -> DecodedChunk:
    """Return pictures as images, of which one array is sent faster than many."""
    images = np.zeros((len(pictures), 1 if mode == "grey" else 3, size, size), np.uint8)
    hashes, problems = [], []
    for image, picture in zip(images, pictures, strict=True):
        content = b""
        try:
            content = picture.read()
            decoded = decode_picture(content, f"{source}/{picture.name}", OVERSAMPLING * size)
            image[:] = fit_picture(decoded, size, mode)
        except InputError as error:
            problems.append(str(error))
        hashes.append(sha256(content).digest())
    return DecodedChunk(images, hashes, problems)


def batched(pictures: list[Picture], size: int) -> Iterator[list[Picture]]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


def is_test(digest: bytes, fraction: float) -> bool:
    """Return whether a picture with this SHA-256 of its bytes belongs to the test split.

    More pictures move none of them to the other split, and copies are never in both.
    """
    return int.from_bytes(sha256(digest).digest()[:8], "big") < fraction * 2**64


def check_classes(source: Path, pictures: list[Picture]) -> tuple[str, ...]:
    """Return the names of the classes, sorted; raises `InputError` if they are of no use."""
    counts = Counter((picture.split, picture.class_name) for picture in pictures)
    classes = sorted({name for _, name in counts})
    if len(classes) < 2:
        problem = f"has pictures of only the class {classes[0]}" if classes else "has no pictures"
        raise InputError(f"{source}: {problem}; give each of two or more classes a sub-folder")
    if len(classes) > MAX_CLASSES:
        raise InputError(f"{source}: {len(classes):,} classes are more than {MAX_CLASSES:,}")
    if len({picture.split is None for picture in pictures}) > 1:
        raise InputError(f"{source}: some pictures are in train or test, and some are not")
    if pictures[0].split is not None:
        for name in classes:
            if not counts["train", name]:
                raise InputError(
                    f"{source}/test/{name}: no class of this name has pictures in {source}/train; "
                    "add some there, or remove the class"
                )
    return tuple(classes)


def report_copies(source: Path, pictures: list[Picture], hashes: list[bytes]) -> None:
    """Print which pictures, sorted by their hashes, are the same.

    Raises `InputError` where copies have different classes or are on both sides of the split.
    """
    copies = []
    for number in range(1, len(pictures)):
        first, second = pictures[number - 1], pictures[number]
        if hashes[number] != hashes[number - 1]:
            continue
        if first.class_name != second.class_name or first.split != second.split:
            raise InputError(
                f"{source}: {first.name} and {second.name} are the same picture; remove the one "
                "that is in the wrong place"
            )
        copies.append(f"{first.name} = {second.name}")
    if copies:
        more = f" and {len(copies) - 5:,} more" if len(copies) > 5 else ""
        print(f"{source}: copies of the same picture: {', '.join(copies[:5])}{more}")


def list_folder(folder: Path) -> Iterator[Picture]:
    """Yield the pictures of a folder, and refuse what is neither a class nor a picture."""
    names = sorted(_entries(folder))
    if set(names) == set(SPLITS):
        for split in names:
            yield from _list_classes(folder, Path(split), split)
    elif with_folders := [name for name in SPLITS if _has_folders(folder / name)]:
        raise InputError(
            f"{folder}: {with_folders[0]} has folders, as a split has; give it exactly two "
            "sub-folders, test and train, with the classes in both, or a sub-folder for each class"
        )
    else:
        yield from _list_classes(folder, Path(), None)


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_dir() for name in _entries(folder))


def _list_classes(root: Path, parent: Path, split: str | None) -> Iterator[Picture]:
    for class_name in sorted(_entries(root / parent)):
        folder = parent / class_name
        if not (root / folder).is_dir():
            raise InputError(f"{root / folder}: not in the folder of a class; move or remove it")
        names = sorted(_entries(root / folder))
        if not names:
            raise InputError(f"{root / folder}: the class has no pictures; add some or remove it")
        for name in names:
            read = _FileReader(root, root / folder / name)
            yield Picture(str(folder / name), split, class_name, read)


@dataclass(frozen=True)
class _FileReader:
    """Reads a picture below `root`."""

    root: Path
    path: Path

    def __call__(self) -> bytes:
        try:
            status = self.path.lstat()
            if stat.S_ISLNK(status.st_mode):
                if not self.path.resolve(strict=True).is_relative_to(self.root.resolve()):
                    raise InputError(
                        f"{self.path}: a link out of {self.root}; copy the picture instead"
                    )
                status = self.path.stat()
            if stat.S_ISDIR(status.st_mode):
                raise InputError(
                    f"{self.path}: a folder in the folder of a class; move its pictures up"
                )
            if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end
                raise InputError(f"{self.path}: not a regular file; remove it")
            with self.path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{self.path}: cannot be read ({reason}); remove it") from None


def _entries(folder: Path) -> list[str]:
    """Return the names in a folder, without hidden ones such as .DS_Store."""
    try:
        return [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be read ({error.strerror}); check its name and permissions"
        ) from None


def list_tar(path: Path) -> Iterator[Picture]:
    """Yield the pictures of a tar file, which is not compressed: CLASS/NAME or SPLIT/CLASS/NAME."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if not member.isdir()]
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"{path}: not a tar file ({error}); name a folder of pictures, or make a tar file of it "
            "by `tar --create --file pictures.tar --directory FOLDER .`"
        ) from None
    for member in members:
        parts = Path(member.name).parts
        if parts[-1].startswith("."):
            continue
        is_split = len(parts) == 3 and parts[0] in SPLITS
        if not member.isfile() or not (is_split or len(parts) == 2):
            raise InputError(
                f"{path}: {member.name} is not a file in the folder of a class; remove it"
            )
        read = _TarReader(path, member.offset_data, member.size)
        yield Picture(member.name, parts[0] if is_split else None, parts[-2], read)


@dataclass(frozen=True)
class _TarReader:
    """Reads a picture of a tar file, at its place in it."""

    path: Path
    start: int
    size: int

    def __call__(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read(min(self.size, MAX_BYTES + 1))
