"""The section `fetch` of `params.yaml`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.params import Fraction, Section, should_be
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo


class Fetch(Section):
    source: str
    size: int = Field(ge=MIN_SIZE, le=MAX_SIZE)
    mode: Literal["grey", "rgb"]
    test_fraction: Annotated[
        Fraction | Literal["auto"], should_be("a fraction above 0 and below 1, or auto")
    ]

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

    def check_has_split(self) -> None:
        """Raise `ValueError` if a fraction is given beside a test split, where it has no effect."""
        if self.test_fraction != "auto":
            raise ValueError(
                f"test_fraction: {self.source} has a test split of its own: set this to auto"
            )
