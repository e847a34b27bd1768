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
    pictures = list_pictures(source)
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
    if source.is_dir() and list_pictures(source) != pictures:
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


def list_pictures(source: Path) -> list[Picture]:
    """Return the pictures of a source: CLASS/NAME, or SPLIT/CLASS/NAME.

    Raises `InputError` if something in it is neither a class nor in the folder of one.
    """
    pictures = []
    for name, place in list_tar(source) if source.is_file() else list_folder(source):
        match Path(name).parts:
            case [class_name, _] if class_name not in SPLITS:
                pictures.append(Picture(name, None, class_name, place))
            case [split, class_name, _] if split in SPLITS:
                pictures.append(Picture(name, split, class_name, place))
            case _:
                raise InputError(
                    f"{source}/{name}: not in the folder of a class; move it to CLASS/, or to "
                    "train/CLASS/ or test/CLASS/, or remove it"
                )
    return pictures


def list_folder(folder: Path) -> Iterator[tuple[str, None]]:
    """Yield the paths of the files in a folder, without hidden ones such as .DS_Store."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}); check its name and permissions"
        )

    for path, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in names if not name.startswith("."))
        if not folders and not names:
            raise InputError(f"{path}: has no pictures; add some or remove it")
        for name in names:
            yield str(Path(path, name).relative_to(folder)), None


def list_tar(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield path and place of each file in a tar file, which is not compressed."""
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if not member.isdir()]
    except (OSError, tarfile.TarError) as error:
        raise InputError(
            f"{path}: not a tar file ({error}); name a folder of pictures, or make one "
            "by `tar --create --file pictures.tar --directory FOLDER .`"
        ) from None
    for member in members:
        if not member.isfile():
            raise InputError(f"{path}: {member.name} is not a file; remove it")
        if not Path(member.name).name.startswith("."):
            yield member.name, (member.offset_data, member.size)


def read_file(root: Path, picture: Picture) -> bytes:
    """Return the bytes of a picture in a folder."""
    path = root / picture.name
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            if not path.resolve(strict=True).is_relative_to(root.resolve()):
                raise InputError(f"{path}: a link out of {root}; copy the picture instead")
            status = path.stat()
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
