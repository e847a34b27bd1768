"""The section `train` of `params.yaml`, and the seeds of the replicas."""

import hashlib
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.params import Section, Size, check_count_or
from stages.storage.errors import InputError

MAX_FLOAT32 = 1e38  # about: the weights are float32


def replica_seeds(seed: int, replicas: int) -> list[int]:
    """Return the seeds of the replicas: `seed` itself, then hashes of it and of their numbers.

    With seed + 1, seed + 2, ... the replicas of neighbouring seeds would be the same.
    """
    return [
        seed,
        *(
            int.from_bytes(hashlib.sha256(f"{seed} replica {number}".encode()).digest()[:4], "big")
            for number in range(1, replicas)
        ),
    ]


def refuse_missing_gpu() -> None:
    """Raise `InputError` if torch finds no GPU."""
    import torch  # here, because the import takes a second, and most runs ask for no GPU

    if not torch.cuda.is_available():
        raise InputError(
            "params.yaml: train.device: cuda needs a GPU of NVIDIA and its driver, and torch finds "
            "none; set it to cpu"
        )


class Train(Section):
    model: Literal["linear", "mlp", "cnn"]
    width: int = Field(ge=0, le=512)
    precision: Literal["exact", "float32"]
    device: Literal["cpu", "cuda"]
    augment: Literal["none", "affine", "affine_mirror"]
    loss: Literal["cross_entropy", "mse"]
    class_weights: Literal["none", "balanced"]
    label_smoothing: float = Field(ge=0, lt=1)
    optimizer: Literal["sgd", "adam", "adamw"]
    lr: float = Field(gt=0, le=MAX_FLOAT32)
    schedule: Literal["constant", "one_cycle"]
    momentum: float = Field(ge=0, lt=1)
    nesterov: bool
    weight_decay: float = Field(ge=0, le=MAX_FLOAT32)
    batch_size: int | Literal["full"]
    drop_last: bool
    epochs: Size
    seed: int = Field(ge=0, lt=2**32)
    replicas: int = Field(gt=0, le=100)
    log_every: Size
    score_every: int | Literal["epoch"]

    # No parameter is ignored: one that has no effect beside the others is refused. `info.data`
    # has the valid ones of the parameters above.

    @field_validator("width")
    @classmethod
    def _check_width(cls, width: int, info: ValidationInfo) -> int:
        model = info.data.get("model")
        if model == "linear" and width:
            raise ValueError(f"linear has no width; set it to 0, not {width}")
        if model not in ("linear", None) and not width:
            raise ValueError(f"{model} needs a width; set it to {16 if model == 'cnn' else 128}")
        return width

    @field_validator("batch_size", mode="plain")
    @classmethod
    def _check_batch_size(cls, size: object) -> object:
        return check_count_or("full", size)

    @field_validator("score_every", mode="plain")
    @classmethod
    def _check_score_every(cls, iterations: object) -> object:
        return check_count_or("epoch", iterations, "iterations")

    @field_validator("momentum")
    @classmethod
    def _check_momentum(cls, momentum: float, info: ValidationInfo) -> float:
        optimizer = info.data.get("optimizer", "sgd")
        if momentum and optimizer != "sgd":
            raise ValueError(f"{optimizer} has no momentum; set it to 0, not {momentum}")
        return momentum

    @field_validator("nesterov")
    @classmethod
    def _check_nesterov(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("needs a momentum above 0; without momentum set it to false")
        return nesterov

    @field_validator("drop_last")
    @classmethod
    def _check_drop_last(cls, drop_last: bool, info: ValidationInfo) -> bool:
        if drop_last and info.data.get("batch_size") == "full":
            raise ValueError("the full batch has no rest to leave out; set it to false")
        return drop_last
