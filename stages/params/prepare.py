"""The section `prepare` of `params.yaml`."""

from typing import Annotated, Literal

from stages.params import Fraction, Section, Seed, Size, should_be


class Prepare(Section):
    sampling: Literal["first", "random", "stratified"]
    train_size: Annotated[Size | Literal["rest"], should_be("a number of images above 0, or rest")]
    val_size: Annotated[
        Size | Fraction | Literal["given"],
        should_be("a number of images above 0, a fraction of the training pool below 1, or given"),
    ]
    seed: Seed

    def sizes(self, pool: int, given: int = 0) -> tuple[int, int]:
        """Return the numbers of training and of validation images, out of a pool of `pool` images.

        given: how many of them are a validation split of the data's own. Raises `ValueError` if
        the pool is too small, or if `val_size` contradicts it.
        """
        if (self.val_size == "given") != (given > 0):
            raise ValueError(
                f"val_size: the data have a validation split of their own, {given} images: set "
                "this to given"
                if given
                else "val_size: given, but the data have no validation split; set it to 0.2"
            )
        if self.val_size == "given":
            val = given
        elif isinstance(self.val_size, int):
            val = self.val_size
        else:
            val = max(1, int(self.val_size * pool))
        train = pool - val if self.train_size == "rest" else self.train_size
        if train < 1 or train + val > pool:
            raise ValueError(
                f"train_size {self.train_size} + val_size {self.val_size} is more than the "
                f"{pool} images of the training pool; lower them, as to rest and 0.2"
            )
        return train, val
