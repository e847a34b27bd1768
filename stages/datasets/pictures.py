"""Labelled pictures of your own: a folder, or a tar file, with a sub-folder for each class.

That is the convention of `torchvision.datasets.ImageFolder`. Sub-folders `train` and `test` that
hold the classes are the splits.
"""

import os
import stat
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
CHUNK = 64  # pictures that are sent to a process at once
DEFAULT_TEST_FRACTION = 0.2
OVERSAMPLING = 4  # a JPEG is decoded to at least this many times the size of an image


class Picture(NamedTuple):
    """A labelled picture."""

    name: str  # its path in the source
    split: str | None  # if the source has splits
    class_name: str
    place: tuple[int, int] | None = None  # in a tar file: where its bytes begin, and how many


def load_pictures(source: Path, params: Fetch) -> tuple[DatasetInfo, dict[str, dict[str, Array]]]:
    """Return a data set and its splits: images uint8 (N, C, H, W), labels (N,).

    Pictures are sorted by the hash of their bytes, so that the first ones are of all classes, and
    another name changes nothing. Raises `InputError` if something in the source is not a picture
    of a class.
    """
    pictures = list(list_tar(source) if source.is_file() else list_folder(source))
    classes = check_classes(source, pictures)
    if pictures[0].split is not None:
        try:
            params.check_has_split()
        except ValueError as error:
            raise InputError(f"params.yaml: fetch: {error}") from None
    fraction = DEFAULT_TEST_FRACTION if params.test_fraction == "auto" else params.test_fraction
    images = np.zeros((len(pictures), *params.shape), np.uint8)
    hashes: list[bytes] = []
    problems: list[str] = []
    decode = partial(load_picture, source, size=params.size, mode=params.mode)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for image, hash_, problem in pool.map(decode, pictures, chunksize=CHUNK):
            if image is None:
                problems.append(problem)
            else:
                images[len(hashes)] = image
            hashes.append(hash_)
    if problems:
        raise InputError(*problems)
    order = sorted(range(len(pictures)), key=hashes.__getitem__)
    report_copies(source, [pictures[i] for i in order], [hashes[i] for i in order])
    # DVC takes the hash of the folder when this stage has ended.
    if source.is_dir() and list(list_folder(source)) != pictures:
        raise InputError(f"{source}: pictures came or went while they were read; run it again")
    positions: dict[str, list[int]] = {"train": [], "test": []}
    for i in order:
        in_test = is_test(hashes[i], fraction)
        positions[pictures[i].split or ("test" if in_test else "train")].append(i)
    labels = np.array([classes.index(picture.class_name) for picture in pictures])
    info = DatasetInfo(title=source.name, shape=params.shape, classes=classes, style="natural")
    return info, {
        name: {"images": images[chosen], "labels": labels[chosen]}
        for name, chosen in positions.items()
    }


def load_picture(
    source: Path, picture: Picture, size: int, mode: str
) -> tuple[Array | None, bytes, str]:
    """Return an image or None, the SHA-256 of the picture's bytes, and what is wrong with it."""
    content = b""
    try:
        content = read_tar(source, picture) if picture.place else read_file(source, picture)
        decoded = decode_picture(content, f"{source}/{picture.name}", OVERSAMPLING * size)
        return fit_picture(decoded, size, mode), sha256(content).digest(), ""
    except InputError as error:
        return None, sha256(content).digest(), str(error)


def is_test(digest: bytes, fraction: float) -> bool:
    """Return whether a picture with this SHA-256 of its bytes belongs to the test split.

    More pictures move none of them to the other split, and copies are never in both.
    """
    return int.from_bytes(sha256(digest).digest()[:8], "big") < fraction * 2**64


def check_classes(source: Path, pictures: list[Picture]) -> tuple[str, ...]:
    """Return the sorted names of the classes.

    Raises `InputError` if a model cannot be trained on them.
    """
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
            yield Picture(str(folder / name), split, class_name)


def read_file(root: Path, picture: Picture) -> bytes:
    """Return the bytes of a picture in a folder."""
    path = root / picture.name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            if not path.resolve(strict=True).is_relative_to(root.resolve()):
                raise InputError(f"{path}: a link out of {root}; copy the picture instead")
            status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path}: a folder in the folder of a class; move its pictures up")
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end
            raise InputError(f"{path}: not a regular file; remove it")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); remove it") from None


def read_tar(path: Path, picture: Picture) -> bytes:
    """Return the bytes of a picture in a tar file."""
    assert picture.place
    start, size = picture.place
    with path.open("rb") as file:
        file.seek(start)
        return file.read(min(size, MAX_BYTES + 1))


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
            f"{path}: not a tar file ({error}); name a folder of pictures, or make one "
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
        place = member.offset_data, member.size
        yield Picture(member.name, parts[0] if is_split else None, parts[-2], place)
