"""The section `fetch` of `params.yaml`."""

from typing import Literal

from pydantic import Field, field_validator

from stages.params import Section, short_repr
from stages.storage.dataset_info import MAX_SIZE, MIN_SIZE, DatasetInfo

DEFAULT_TEST_SHARE = 0.2


class Fetch(Section):
    source: str
    size: int = Field(ge=MIN_SIZE, le=MAX_SIZE)
    mode: Literal["grey", "rgb"]
    test_share: float | Literal["auto"]

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if "://" in source:
            raise ValueError(
                "should be a path; `dvc import-url URL data/pictures` brings what has an address"
            )
        return source

    @field_validator("test_share", mode="plain")
    @classmethod
    def _check_test_share(cls, share: object) -> object:
        if share == "auto" or (type(share) is float and 0 < share < 1):
            return share
        raise ValueError(f"should be a share above 0 to below 1, or auto, not {short_repr(share)}")

    @property
    def share_for_test(self) -> float:
        """The share of the images that are for test, where the source has no test split."""
        return DEFAULT_TEST_SHARE if self.test_share == "auto" else self.test_share

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
        """Raise `ValueError` if a share is given where it has no effect."""
        if has_split and self.test_share != "auto":
            raise ValueError(
                f"test_share: {self.source} has a test split of its own: set this to auto"
            )
