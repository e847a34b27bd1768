"""Which file is which image: a table beside the splits, `files.csv`, with a row for each image.

`example` is a hash of the picture's pixels: of two files with the same pixels it is the same.
`group` is what the user's own table says, such as a patient.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from anypictures.identities import Row
from stages.storage.errors import InputError, printable
from stages.storage.files import refuse_irregular, write_csv
from stages.storage.tensors import REMEDY

HEADER = ["split", "index", "file", "example", "group"]


def write_rows(path: Path, splits: Mapping[str, Sequence[Row]]) -> None:
    """Write the table of some splits; `index` counts the images of their tensors."""
    rows = [
        ["val" if row.is_val else split, index, printable(row.file), row.example, row.group]
        for split, of_split in splits.items()
        for index, row in enumerate(of_split)
    ]
    write_csv(path, [HEADER, *rows])


def read_rows(path: Path, counts: Mapping[str, int]) -> dict[str, list[Row]]:
    """Return the rows of splits of so many images; without `val` it is a part of `train`.

    Raises `InputError` if the table has not a row for each image.
    """
    refuse_irregular(path, REMEDY)
    splits: dict[str, list[Row]] = {split: [] for split in counts}
    try:
        text = path.read_bytes().decode()
        for row in csv.DictReader(io.StringIO(text)):
            is_val = row["split"] == "val" and "val" not in counts
            of_split = splits.get("train" if is_val else row["split"])
            if of_split is None:
                continue
            of_split.append(Row(row["file"], row["example"], row["group"], is_val))
            if int(row["index"]) != len(of_split) - 1:
                raise ValueError("rows are missing")
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of the images ({error}); {REMEDY}") from None
    found = {split: len(rows) for split, rows in splits.items()}
    if found != dict(counts):
        raise InputError(f"{path}: has {found} images, but the splits have {counts}; {REMEDY}")
    return splits


def names_of_examples(rows: Iterable[Row]) -> list[str]:
    """Return a name for each image; the second of two copies is called NAME-2."""
    copies: Counter[str] = Counter()
    names = []
    for row in rows:
        copies[row.example] += 1
        count = copies[row.example]
        names.append(row.example if count == 1 else f"{row.example}-{count}")
    return names
