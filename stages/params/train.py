"""The section `train` of `params.yaml`, and the seeds of the replicas."""

import hashlib
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from stages.params import Section, Seed, Size, should_be
from stages.storage.errors import InputError

MAX_FLOAT32 = 1e38  # about: the weights are float32


def replica_seeds(seed: int, replicas: int) -> list[int]:
    """Return the seeds of the replicas: `seed` itself, then hashes of it and of their numbers.

    With seed + 1, seed + 2, ... the replicas of neighbouring seeds would be the same.
    """
    keys = [f"{seed} replica {number}" for number in range(1, replicas)]
    hashes = [hashlib.sha256(key.encode()).digest() for key in keys]
    return [seed, *(int.from_bytes(digest[:4], "big") for digest in hashes)]


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
    batch_size: Annotated[Size | Literal["full"], should_be("a number of images above 0, or full")]
    drop_last: bool
    epochs: Size
    seed: Seed
    replicas: int = Field(gt=0, le=100)
    log_every: Size
    score_every: Annotated[
        Size | Literal["epoch"], should_be("a number of iterations above 0, or epoch")
    ]

    @field_validator("width", "momentum", "nesterov", "weight_decay", "drop_last")
    @classmethod
    def _refuse_what_has_no_effect(cls, value: Any, info: ValidationInfo) -> Any:
        others = info.data  # the valid ones of the parameters above
        model, optimizer = others.get("model"), others.get("optimizer")
        match info.field_name:
            case "width" if value and model == "linear":
                raise ValueError(f"linear has no width; set it to 0, not {value}")
            case "width" if not value and model in ("mlp", "cnn"):
                raise ValueError(
                    f"{model} needs a width; set it to {16 if model == 'cnn' else 128}"
                )
            case "momentum" if value and optimizer in ("adam", "adamw"):
                raise ValueError(f"{optimizer} has no momentum; set it to 0, not {value}")
            case "nesterov" if value and others.get("momentum") == 0:
                raise ValueError("needs a momentum above 0; without momentum set it to false")
            case "weight_decay" if not value and optimizer == "adamw":
                raise ValueError("adamw without it is adam; set it to 0.01, or optimizer to adam")
            case "drop_last" if value and others.get("batch_size") == "full":
                raise ValueError("the full batch has no rest to leave out; set it to false")
        return value
