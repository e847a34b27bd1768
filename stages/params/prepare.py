"""The section `prepare` of `params.yaml`."""

from typing import Literal

from pydantic import Field

from stages.params import Section, Size


class Prepare(Section):
    sampling: Literal["first", "random", "stratified"]
    train_size: Size
    val_size: Size
    seed: int = Field(ge=0, lt=2**32)

    def check_pool(self, size: int) -> None:
        """Raise `ValueError` if a training pool of `size` images is too small."""
        if self.train_size + self.val_size > size:
            raise ValueError(
                f"train_size {self.train_size} + val_size {self.val_size} is more than the "
                f"{size} images of the training pool"
            )
