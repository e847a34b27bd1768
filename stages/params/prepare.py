"""The section `prepare` of `params.yaml`."""

from typing import Literal

from pydantic import Field, field_validator

from stages.params import Section, check_count_or, short_repr


class Prepare(Section):
    sampling: Literal["first", "random", "stratified"]
    train_size: int | Literal["rest"]
    val_size: int | float
    seed: int = Field(ge=0, lt=2**32)

    @field_validator("train_size", mode="plain")
    @classmethod
    def _check_train_size(cls, size: object) -> object:
        return check_count_or("rest", size)

    @field_validator("val_size", mode="plain")
    @classmethod
    def _check_val_size(cls, size: object) -> object:
        if (type(size) is int and 0 < size < 2**31) or (type(size) is float and 0 < size < 1):
            return size
        raise ValueError(
            "should be a number of images above 0, or a fraction of the training pool between "
            f"0 and 1, not {short_repr(size)}"
        )

    def sizes(self, pool: int) -> tuple[int, int]:
        """Return the numbers of training and of validation images, out of a pool of `pool` images.

        Raises `ValueError` if the pool is too small.
        """
        val = self.val_size if isinstance(self.val_size, int) else max(1, int(self.val_size * pool))
        train = pool - val if self.train_size == "rest" else self.train_size
        if train < 1 or train + val > pool:
            raise ValueError(
                f"train_size {self.train_size} + val_size {self.val_size} is more than the "
                f"{pool} images of the training pool; lower them, as to rest and 0.2"
            )
        return train, val
