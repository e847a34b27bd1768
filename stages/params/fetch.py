"""The section `fetch` of `params.yaml`."""

from typing import Literal

from pydantic import Field, field_validator

from stages.params import Section, short_repr
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo

DEFAULT_TEST_FRACTION = 0.2


class Fetch(Section):
    source: str
    size: int = Field(ge=MIN_SIZE, le=MAX_SIZE)
    mode: Literal["grey", "rgb"]
    test_fraction: float | Literal["auto"]

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if "://" in source:
            raise ValueError(
                "should be a path; `dvc import-url URL data/pictures` brings what has an address"
            )
        return source

    @field_validator("test_fraction", mode="plain")
    @classmethod
    def _check_test_fraction(cls, fraction: object) -> object:
        if fraction == "auto" or (type(fraction) is float and 0 < fraction < 1):
            return fraction
        raise ValueError(
            f"should be a fraction above 0 and below 1, or auto, not {short_repr(fraction)}"
        )

    @property
    def fraction_for_test(self) -> float:
        """The fraction of the images that is for test, where the source has no test split."""
        return DEFAULT_TEST_FRACTION if self.test_fraction == "auto" else self.test_fraction

    @property
    def shape(self) -> tuple[Literal[1, 3], int, int]:
        return (3 if self.mode == "rgb" else 1), self.size, self.size

    def check_card(self, info: DatasetInfo) -> None:
        """Raise `ValueError` if the parameters are not those of a data card."""
        channels, size, _ = info.shape
        mode = "rgb" if channels == 3 else "grey"
        if (self.size, self.mode) != (size, mode):
            raise ValueError(
                f"{self.source} has images of {size} x {size} pixels in {mode}: set size to "
                f"{size} and mode to {mode}"
            )
        self.check_test_fraction(has_split=True)

    def check_test_fraction(self, has_split: bool) -> None:
        """Raise `ValueError` if a fraction is given where it has no effect."""
        if has_split and self.test_fraction != "auto":
            raise ValueError(
                f"test_fraction: {self.source} has a test split of its own: set this to auto"
            )
