"""Labelled examples, and the names by which people call splits."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from anypictures.errors import PicturesError
from anypictures.idx import Array

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "publictest"), "val"),
    **dict.fromkeys(("test", "testing", "privatetest"), "test"),
}
MAX_NAME = 100  # characters of a class
MAX_CLASSES = 1_000


class Example(NamedTuple):
    """A labelled picture."""

    file: str  # its path in the source, and of a table or an array its row: `train.csv[3]`
    label: str  # the name of its class
    split: str | None = None  # train | val | test, if the source has splits
    group: str = ""  # of pictures that belong together, if the source has groups
    row: int = 0  # where `read` of the source finds it, if that takes no path


class Source(NamedTuple):
    """Labelled pictures, and what they are read by."""

    examples: list[Example]
    read: Callable[[Example], bytes | Array]  # the content of a file, or pixels (H, W) or (H, W, 3)
    remarks: list[str]  # what a person should know
    classes: tuple[str, ...] = ()  # in order, if it is not the order of their names


def split_of(name: str) -> str | None:
    return SPLITS.get(name.lower().replace("_", "").replace("-", ""))


def check_classes(place: str, source: Source) -> tuple[str, ...]:
    """Return the names of the classes in order: as numbers if all of them are.

    Raises `PicturesError`, with all problems of a kind, if a model cannot be trained on them.
    """
    counts = Counter((example.split, example.label) for example in source.examples)
    names = {name for _, name in counts}
    if len(names) < 2:
        problem = f"has pictures of only the class {min(names)}" if names else "has no pictures"
        raise PicturesError(f"{place}: {problem}; give each of two or more classes a sub-folder")
    if len(names) > MAX_CLASSES:
        raise PicturesError(
            f"{place}: {len(names):,} classes are more than {MAX_CLASSES:,}; are the labels "
            "numbers to predict, or names of pictures?"
        )
    if problems := [problem for name in sorted(names) for problem in problems_of_name(name)]:
        raise PicturesError(*(f"{place}: {problem}" for problem in problems))
    splits = {split for split, _ in counts}
    if None in splits and len(splits) > 1:
        inside, outside = (
            next(one.file for one in source.examples if (one.split is None) == alone)
            for alone in (False, True)
        )
        raise PicturesError(
            f"{place}: some pictures are in a split, such as {inside}, and some are not, such as "
            f"{outside}"
        )
    unknown = [f"{split}/{name}" for split, name in counts if not counts["train", name]]
    if unknown and splits != {None}:
        raise PicturesError(
            *(
                f"{place}: {name}: train has no pictures of this class; add some there, or remove "
                "it"
                for name in sorted(unknown)
            )
        )
    if source.classes:
        return tuple(name for name in source.classes if name in names)
    return tuple(sorted(names, key=order_of_class(names)))


def order_of_class(names: Iterable[str]) -> Callable[[str], tuple[int, str]]:
    if all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names):
        return lambda name: (int(name), name)
    return lambda name: (0, name)


def class_name(text: str) -> str:
    """Return a name as Unicode's NFC, so that a Mac's spelling is no class of its own."""
    return unicodedata.normalize("NFC", text)


def problems_of_name(name: str) -> list[str]:
    """Return why a class cannot have a name."""
    if len(name) > MAX_NAME:
        return [f"the class {name[:20]}... has a name of {len(name)} characters; shorten it"]
    if odd := [char for char in name if not char.isprintable()]:
        codes = ", ".join(f"U+{ord(char):04X}" for char in dict.fromkeys(odd))
        return [f"the class {name!r} has characters that cannot be printed ({codes}); rename it"]
    return []


def same_to_the_eye(names: Iterable[str]) -> list[str]:
    """Return a remark for each pair of classes that differ in capitals or spaces alone."""
    first: dict[str, str] = {}
    remarks = []
    for name in names:
        other = first.setdefault(" ".join(name.casefold().split()), name)
        if other != name:
            remarks.append(f"the classes {other!r} and {name!r} differ in capitals or spaces alone")
    return remarks


def shortened(items: Iterable[str], count: int = 5) -> str:
    """Return the first few of many, and how many more there are."""
    listed = list(items)
    more = f" and {len(listed) - count:,} more" if len(listed) > count else ""
    return ", ".join(listed[:count]) + more
