"""How pictures become images. In a module of its own, which imports quickly."""

import re
from typing import NamedTuple

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ROLES = ("label", "picture", "split", "group")  # of the columns of a table


class Options(NamedTuple):
    """How pictures become images; README.md explains each option."""

    size: int  # pixels of a side
    mode: str = "grey"  # grey | rgb
    style: str = "auto"  # strokes | light_on_black | natural, which is auto
    range: str = "auto"  # what is black and white in values deeper than 8 bits: LOW..HIGH | dtype
    columns: str = "auto"  # of a table, as `label:diagnosis picture:file`
    test_fraction: float | None = None  # of pictures without a test split; None is 0.2
    skip_broken: int = 0  # files that may be left out
    prefix: str = ""  # of the names of options in messages, such as `fetch.`

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3 if self.mode == "rgb" else 1), self.size, self.size


def parse_range(text: str) -> tuple[float, float] | None:
    """Return the values that `range` says to be black and white; None for `auto` and `dtype`.

    Raises `ValueError` if it says neither.
    """
    ends = re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", text)
    if ends and float(ends[1]) < float(ends[2]):
        return float(ends[1]), float(ends[2])
    if text not in ("auto", "dtype"):
        raise ValueError(f"should be auto, dtype or LOW..HIGH, such as 0..4095, not {text!r}")
    return None


def parse_columns(text: str) -> dict[str, str]:
    """Return the columns that a text such as `label:diagnosis picture:image id` names, by role.

    Raises `ValueError` if it names none, and is not `auto`.
    """
    if text == "auto":
        return {}
    before, *parts = re.split(rf"\b({'|'.join(ROLES)}):", text)
    columns = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    if before.strip() or not columns or not all(columns.values()):
        roles = ", ".join(ROLES)
        raise ValueError(f"should be auto, or ROLE:COLUMN with a role of {roles}; not {text!r}")
    return columns
