"""The section `fetch` of `params.yaml`."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.params import Fraction, Section, should_be
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo, Style

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
ROLES = ("label", "picture", "split", "group")  # of the columns of a table
# What is no property of a data card, and its value there.
OF_PICTURES = {"style": "auto", "range": "auto", "columns": "auto", "skip_broken": 0}


class Fetch(Section):
    source: str
    size: int = Field(ge=MIN_SIZE, le=MAX_SIZE)
    mode: Literal["grey", "rgb"]
    test_fraction: Annotated[
        Fraction | Literal["auto"], should_be("a fraction above 0 and below 1, or auto")
    ]
    style: Style | Literal["auto"]
    range: str
    columns: str
    skip_broken: int = Field(ge=0)

    @field_validator("range")
    @classmethod
    def _check_range(cls, text: str) -> str:
        ends = re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", text)
        if text not in ("auto", "dtype") and not (ends and float(ends[1]) < float(ends[2])):
            raise ValueError(f"should be auto, dtype or LOW..HIGH, such as 0..4095, not {text!r}")
        return text

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, text: str) -> str:
        if text != "auto" and not parse_columns(text):
            roles = ", ".join(ROLES)
            raise ValueError(f"should be auto, or ROLE:COLUMN with a role of {roles}; not {text!r}")
        return text

    @property
    def values(self) -> tuple[float, float] | None:
        """What `range` says to be black and white; None if it names no numbers."""
        low, dots, high = self.range.partition("..")
        return (float(low), float(high)) if dots else None

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if "://" in source:
            raise ValueError(
                "should be a path; `dvc import-url URL data/pictures` brings what has an address"
            )
        return source

    @property
    def shape(self) -> tuple[Literal[1, 3], int, int]:
        return (3 if self.mode == "rgb" else 1), self.size, self.size

    def check_card(self, info: DatasetInfo) -> None:
        """Raise `ValueError` if the parameters are not those of a data card."""
        if self.shape != info.shape:
            channels, size, _ = info.shape
            mode = "rgb" if channels == 3 else "grey"
            raise ValueError(
                f"{self.source} has images of {size} x {size} pixels in {mode}: set size to "
                f"{size} and mode to {mode}"
            )
        self.check_has_split()
        for name, value in OF_PICTURES.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}: has no effect on a data card: set this to {value}")

    def check_has_split(self) -> None:
        """Raise `ValueError` if a fraction is given beside a test split, where it has no effect."""
        if self.test_fraction != "auto":
            raise ValueError(
                f"test_fraction: {self.source} has a test split of its own: set this to auto"
            )


def parse_columns(text: str) -> dict[str, str]:
    """Return the columns that a text such as `label:diagnosis picture:image id` names."""
    before, *parts = re.split(rf"\b({'|'.join(ROLES)}):", text)
    columns = dict(zip(parts[::2], map(str.strip, parts[1::2]), strict=True))
    return {} if before.strip() or not all(columns.values()) else columns
