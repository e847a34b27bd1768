"""The section `prepare` of `params.yaml`."""

from typing import Literal

from pydantic import Field

from stages.params import Section


class Prepare(Section):
    sampling: Literal["first", "random", "stratified"]
    train_size: int = Field(gt=0)
    val_size: int = Field(gt=0)
    seed: int = Field(ge=0, lt=2**32)
