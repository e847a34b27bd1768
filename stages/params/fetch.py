"""The section `fetch` of `params.yaml`."""

from typing import Literal

from pydantic import Field, field_validator

from stages.params import Section
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo


class Fetch(Section):
    source: str
    size: int = Field(ge=MIN_SIZE, le=MAX_SIZE)
    mode: Literal["grey", "rgb"]
    test_share: float | None = Field(gt=0, lt=1)

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

    def check_card(self, info: DatasetInfo, has_split: bool) -> None:
        """Raise `ValueError` if the parameters are not those of a data card."""
        channels, size, _ = info.shape
        mode = "rgb" if channels == 3 else "grey"
        if (self.size, self.mode) != (size, mode):
            raise ValueError(
                f"{self.source} has images of {size} x {size} pixels in {mode}: set size to "
                f"{size} and mode to {mode}"
            )
        self.check_test_share(has_split)

    def check_test_share(self, has_split: bool) -> None:
        """Raise `ValueError` if a share is given where it has no effect, or none where it has."""
        if has_split and self.test_share is not None:
            raise ValueError(
                f"test_share: {self.source} has a test split of its own: set this to null"
            )
