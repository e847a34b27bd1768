"""Tables of pictures, CSV or Parquet: a label, and a path, the pixels or the bytes of a picture."""

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anypictures.arrays import check_images, read_classes
from anypictures.containers import Container
from anypictures.decoding import MAX_BYTES
from anypictures.errors import PicturesError
from anypictures.examples import Example, Source, class_name, split_of
from anypictures.idx import Array
from anypictures.layouts import is_document
from anypictures.options import Options, parse_columns

USUAL = {
    "label": ("label", "labels", "class", "target", "category", "class_name"),
    "picture": ("file", "file_name", "filename", "path", "image", "img", "pixels"),
    "split": ("split", "usage"),
    "group": ("group",),
}
# Of a picture, if they name files: other tables have such columns, too.
NAMES = ("id", "image_id", "image_name", "name")
EMPTY = ("", "nan", "null", "<na>")
MAX_TABLE_BYTES = 8_000_000_000
CHUNK = 5_000  # rows of pixels that are in memory as whole numbers of 8 bytes
MIN_PIXELS = 16


class Table(NamedTuple):
    """The columns of a table by their roles, each with N values."""

    labels: Sequence[Any]
    pictures: Sequence[Any] | Array  # paths, bytes, or pixels (N, H, W)
    splits: Sequence[Any] | None = None
    groups: Sequence[Any] | None = None
    classes: Sequence[str] = ()  # names of labels that are numbers


def read_tables(
    place: str,
    container: Container,
    names: Sequence[str],
    tables: Sequence[str],
    options: Options,
    is_required: bool = False,
) -> Source | None:
    """Return the pictures of the tables in a container; None if none is a table of pictures.

    is_required: raise `PicturesError` instead of returning None. A table that is called
    `train`, `val` or `test`, or is in a folder of this name, has the pictures of this split.
    """
    wanted = parse_columns(options.columns)
    files = [name for name in names if not is_document(name) and name not in tables]
    found = PathFinder(files)
    classes: Sequence[str] = read_classes(container, names)
    examples: list[Example] = []
    contents: list[bytes | Array | None] = []
    unused = []
    for name in tables:
        content = container.read(name, MAX_TABLE_BYTES)
        must = is_required or (len(tables) == 1 and (not files or bool(wanted)))
        table = read_table(f"{place}/{name}", content, options, must, found)
        if table is None:
            unused.append(name)
            continue
        folder = PurePosixPath(name).parent
        stem = re.split(r"[-.]", PurePosixPath(name).name)[0]
        split = split_of(stem) or split_of(folder.name)
        classes = classes or table.classes
        add(f"{place}/{name}", name, table, split, classes, found, examples, contents)
    if not examples:
        return None
    paths = Counter(example.file for example in examples)
    if twice := [path for path, count in paths.items() if count > 1]:
        raise PicturesError(
            *(f"{place}: {path} stands in several rows; keep one" for path in twice)
        )
    remarks = [f"{name} has no labels of pictures, and is left out" for name in unused]
    if files and (left := len(set(files) - set(paths))):
        remarks.append(f"{left:,} pictures that no table names left out")

    def read(example: Example) -> bytes | Array:
        content = contents[example.row]
        return container.read(example.file, MAX_BYTES) if content is None else content

    return Source(examples, read, remarks, tuple(classes))


def add(
    place: str,
    name: str,
    table: Table,
    split: str | None,
    classes: Sequence[str],
    found: "PathFinder",
    examples: list[Example],
    contents: list[bytes | Array | None],
) -> None:
    """Add the rows of a table; raises `PicturesError` with all rows that are wrong."""
    problems = []
    folder = str(PurePosixPath(name).parent)
    labels = [as_text(label) for label in table.labels]
    if all(re.fullmatch(r"-?\d+\.0*", label) for label in labels):
        labels = [label.partition(".")[0] for label in labels]
    for row, (label, picture) in enumerate(zip(labels, table.pictures, strict=True)):
        file, content = f"{name}[{row}]", picture
        try:
            if label.lower() in EMPTY:
                raise ValueError("has no label; fill it in, or remove the row")
            if isinstance(table.labels[row], list | dict | np.ndarray):
                raise ValueError("has several labels; a picture has one label here")
            if classes:
                if not (label.isdecimal() and int(label) < len(classes)):
                    raise ValueError(f"the label {label} is none of {len(classes)} classes")
                label = classes[int(label)]
            if table.splits is not None:
                text = as_text(table.splits[row])
                split = split_of(text)
                if split is None:
                    raise ValueError(f"the split {text!r} is none of train, val and test")
            if isinstance(picture, dict):  # as the library `datasets` writes them
                picture = content = picture.get("bytes") or picture.get("path")
            if isinstance(picture, str):
                file, content = found.find(folder, picture), None
            elif not isinstance(picture, bytes) and getattr(picture, "ndim", 0) < 2:
                raise ValueError("has no picture; write its path, its bytes or its pixels there")
        except ValueError as error:
            problems.append(f"{place}[{row}]: {error}")
            continue
        group = "" if table.groups is None else as_text(table.groups[row])
        examples.append(Example(file, class_name(label), split, group, len(contents)))
        contents.append(content)
    if problems:
        raise PicturesError(*problems)


def as_text(value: object) -> str:
    return "" if value is None else str(value).strip()


class PathFinder:
    """Finds the file that a table means: by its path, its name, or its name without an ending."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = set(files)
        self.by_name: dict[str, list[str]] = {}
        for file in files:
            path = PurePosixPath(file)
            for name in {path.name, path.stem}:
                self.by_name.setdefault(name, []).append(file)

    def knows(self, text: str) -> bool:
        return PurePosixPath(text.replace("\\", "/")).name in self.by_name

    def find(self, folder: str, text: str) -> str:
        """Return the path of a file; raises `ValueError` if there is none, or several."""
        path = PurePosixPath(text.strip().replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{text} leads out; write paths from the folder of the table")
        for name in (str(PurePosixPath(folder, path)), str(path)):
            if name in self.files:
                return name
        found = self.by_name.get(path.name, [])
        if len(found) > 1:
            raise ValueError(f"{text} may be {found[0]} or {found[1]}; write the whole path")
        if not found:
            raise ValueError(
                f"{text} is not there; name the folder that holds the table and the pictures"
            )
        return found[0]


def read_table(
    place: str, content: bytes, options: Options, is_required: bool, found: "PathFinder"
) -> Table | None:
    """Return the columns of a table by their roles.

    None, or `PicturesError` if `is_required`, if it has no labels or no pictures.
    """
    if content.startswith(b"PAR1"):
        frame, pixels, classes = open_parquet(place, content, options)
    else:
        frame, pixels = open_csv(place, content, options)
        classes = []
    columns = find_columns(place, list(frame.columns), options)
    if "picture" not in columns and pixels is None:
        for name in frame.columns if len(frame) else ():
            if str(name).strip().lower() in NAMES and found.knows(as_text(frame[name].iloc[0])):
                columns["picture"] = name
    if "label" not in columns or ("picture" not in columns and pixels is None):
        if not is_required:
            return None
        missing = "picture" if "label" in columns else "label"
        raise PicturesError(
            f"{place}: has no column {' or '.join(USUAL[missing][:4])}, but "
            f"{', '.join(map(str, frame.columns[:10]))}; name it, as by "
            f"`{options.prefix}columns=label:NAME picture:NAME`"
        )
    if not len(frame):
        raise PicturesError(f"{place}: has no rows; add some")
    values = {role: frame[column].tolist() for role, column in columns.items()}
    if "picture" in columns and re.match(r"[\d.]+( [\d.]+){15}", as_text(values["picture"][0])):
        pixels = pixels_of_texts(place, values["picture"])
    pictures = values.get("picture") if pixels is None else check_images(place, pixels)
    assert pictures is not None
    return Table(values["label"], pictures, values.get("split"), values.get("group"), classes)


def find_columns(place: str, names: list[str], options: Options) -> dict[str, str]:
    """Return the name of the column of each role that a table has."""
    wanted = parse_columns(options.columns)
    columns = {}
    for role, usual in USUAL.items():
        if role in wanted:
            if wanted[role] not in names:
                raise PicturesError(
                    f"{options.prefix}columns: {place} has no column {wanted[role]}, but "
                    f"{', '.join(map(str, names[:10]))}"
                )
            columns[role] = wanted[role]
        elif found := [name for u in usual for name in names if str(name).strip().lower() == u]:
            columns[role] = found[0]
    return columns


def open_csv(place: str, content: bytes, options: Options) -> tuple[pd.DataFrame, Array | None]:
    """Return the columns of a CSV file as text, and those of pixels as an array (N, P)."""
    line = content[:1_000_000].partition(b"\n")[0]
    reading: dict[str, Any] = {
        "sep": max((",", ";", "\t"), key=lambda sep: line.count(sep.encode())),
        "encoding": "utf-8-sig",
        "na_filter": False,
    }
    try:
        names = [str(name) for name in pd.read_csv(io.BytesIO(content), nrows=0, **reading)]
        if all(re.fullmatch(r"[\d.]+", name) for name in names):  # there is no header
            names = ["label", *(f"pixel{i}" for i in range(len(names) - 1))]
            reading |= {"header": None, "names": names}
        pixels = pixel_columns(names, find_columns(place, names, options))
        kinds = {name: "str" for name in names if name not in set(pixels)}
        if not pixels:
            return pd.read_csv(io.BytesIO(content), dtype=kinds, **reading), None
        texts, arrays = [], []
        for part in pd.read_csv(io.BytesIO(content), dtype=kinds, chunksize=CHUNK, **reading):
            if part.empty:
                raise ValueError("it has no rows")
            arrays.append(as_pixels(place, part[pixels].to_numpy(), part.index[0]))
            texts.append(part[list(kinds)])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError) as error:
        raise PicturesError(
            f"{place}: not a table ({' '.join(str(error).split())}); mend it"
        ) from None
    return pd.concat(texts), np.concatenate(arrays)


def pixel_columns(names: list[str], columns: Mapping[str, str]) -> list[str]:
    """Return the columns that have a pixel each: their number is a square.

    columns: the others, by their roles; with one of pictures there are none of pixels.
    """
    if "picture" in columns:
        return []
    others = set(columns.values())
    rest = [name for name in names if re.search(r"\d", name) and name not in others]
    return rest if len(rest) >= MIN_PIXELS and round(len(rest) ** 0.5) ** 2 == len(rest) else []


def pixels_of_texts(place: str, texts: Sequence[str]) -> Array:
    """Return pixels that a column has as text, `70 80 82 ...`, as an array (N, P)."""
    rows: list[Array] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # by which NumPy reports other text
        for number, text in enumerate(texts):
            try:
                values = np.fromstring(text, sep=" ")
            except (DeprecationWarning, ValueError):
                raise PicturesError(f"{place}[{number}]: pixels that are no numbers") from None
            if rows and len(values) != len(rows[0]):
                raise PicturesError(
                    f"{place}[{number}]: {len(values):,} pixels, and {len(rows[0]):,} before it"
                )
            rows.append(as_pixels(place, values, number))
    return np.stack(rows)


def as_pixels(place: str, values: Array, row: int) -> Array:
    """Return numbers as pixels: uint8, or float32 if they are all from 0 to 1."""
    if values.dtype.kind not in "uif":
        raise PicturesError(f"{place}: from row {row}: pixels that are no whole numbers; mend them")
    if (
        values.dtype.kind == "f"
        and (values % 1 != 0).any()
        and 0 <= values.min() <= values.max() <= 1
    ):
        return values.astype(np.float32)
    if not ((values >= 0) & (values <= 255) & (values % 1 == 0)).all():
        raise PicturesError(
            f"{place}: from row {row}: pixels from {values.min()} to {values.max()}; they are "
            "whole numbers from 0 to 255, or fractions from 0 to 1"
        )
    return values.astype(np.uint8)


def open_parquet(
    place: str, content: bytes, options: Options
) -> tuple[pd.DataFrame, Array | None, list[str]]:
    """Return a Parquet file, and its columns of pixels as an array (N, P).

    And the names of its labels, if these are numbers that have names.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise PicturesError(
            f"{place}: a Parquet file, which pyarrow reads; type `pip install pyarrow`, or save it "
            "as CSV with the pictures beside it"
        ) from None
    try:
        table = parquet.read_table(io.BytesIO(content))
        frame = table.to_pandas()
        about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about.get("info", {}).get("features", {})
        names = [one["names"] for one in features.values() if "names" in one]
    except (ArrowException, OSError, ValueError, AttributeError, TypeError) as error:
        raise PicturesError(f"{place}: a broken Parquet file ({error}); copy it again") from None
    of_file = [str(name) for name in frame.columns]
    of_pixels = pixel_columns(of_file, find_columns(place, of_file, options))
    pixels = as_pixels(place, frame[of_pixels].to_numpy(), 0) if of_pixels else None
    return frame, pixels, names[0] if len(names) == 1 else []
