"""The section `train` of `params.yaml`."""

from typing import Literal

from pydantic import Field

from stages.params import Section, Size

FLOAT32 = 1e38  # about the largest float32: a step is computed in it


class Train(Section):
    model: Literal["linear"]
    precision: Literal["exact", "float32"]
    lr: float = Field(gt=0, le=FLOAT32)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0, le=FLOAT32)
    batch_size: Size
    drop_last: bool
    epochs: Size
    seed: int = Field(ge=0, lt=2**32)
    log_every: Size
