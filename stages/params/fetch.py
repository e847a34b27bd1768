"""The section `fetch` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from anypictures.options import Options, parse_columns, parse_range
from stages.params import Fraction, Section, should_be
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo, Style

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
        parse_range(text)
        return text

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, text: str) -> str:
        parse_columns(text)
        return text

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

    @property
    def options(self) -> Options:
        """How the library reads pictures."""
        fraction = None if self.test_fraction == "auto" else self.test_fraction
        values = self.model_dump(exclude={"source", "test_fraction"})
        return Options(**values, test_fraction=fraction, prefix="fetch.")

    def check_card(self, info: DatasetInfo) -> None:
        """Raise `ValueError` if the parameters are not those of a data card."""
        if self.shape != info.shape:
            channels, size, _ = info.shape
            mode = "rgb" if channels == 3 else "grey"
            raise ValueError(
                f"{self.source} has images of {size} x {size} pixels in {mode}: set size to "
                f"{size} and mode to {mode}"
            )
        if self.test_fraction != "auto":
            raise ValueError(
                f"test_fraction: {self.source} has a test split of its own: set this to auto"
            )
        for name, value in OF_PICTURES.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name}: has no effect on a data card: set this to {value}")
