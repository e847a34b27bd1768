"""The section `prepare` of `params.yaml`."""

from typing import Annotated, Literal

from stages.params import Fraction, Section, Seed, Size, should_be


class Prepare(Section):
    sampling: Literal["first", "random", "stratified"]
    train_size: Annotated[Size | Literal["rest"], should_be("a number of images above 0, or rest")]
    val_size: Annotated[
        Size | Fraction,
        should_be("a number of images above 0, or a fraction of the training pool below 1"),
    ]
    seed: Seed

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
