"""The models: from images (N, 1, 28, 28) to logits (N, 10).

An image is bytes, or float32 scaled to [0, 1]. A model's arithmetic, one of `PRECISIONS`, is
an argument; its parameters are float32 in either.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from stages import exact, float32
from stages.errors import InputError
from stages.tensors import REMEDY, read_about, read_tensors, write_tensors

PRECISIONS = {"exact": exact, "float32": float32}


class Linear(nn.Module):
    """Multinomial logistic regression: one layer from 784 pixels to 10 classes."""

    def __init__(self, generator: torch.Generator, precision: str = "exact") -> None:
        super().__init__()
        self.ops = PRECISIONS[precision]
        self.weight = _uniform((10, 784), 784, generator)
        self.bias = _uniform((10,), 784, generator)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.ops.linear(self.ops.pixels(images).flatten(1), self.weight, self.bias)
        return logits


MODELS = {"linear": Linear}


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 512) -> Tensor:
    """Return the logits (N, 10) of images; 512 at a time, which a CPU's cache holds in float64."""
    return torch.cat([model(batch) for batch in images.split(batch_size)])


def write_checkpoint(path: Path, model: nn.Module, name: str) -> None:
    """Write the weights of a model, which `MODELS` calls `name`."""
    tensors = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    write_tensors(path, tensors, model=name)


def read_checkpoint(path: Path) -> nn.Module:
    """Return the model that was written; raises `InputError` if the file holds none of `MODELS`."""
    name = read_about(path).get("model")
    if name not in MODELS:
        raise InputError(f"{path}: holds no model of {', '.join(MODELS)} but {name!r}; {REMEDY}")
    model = MODELS[name](torch.Generator())
    layout = {key: ("F32", tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
    tensors = read_tensors(path, layout)
    model.load_state_dict({key: torch.from_numpy(array) for key, array in tensors.items()})
    return model


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Return float32 parameters from U(-b, b), b = 1 / sqrt(fan_in), as `nn.Linear` has them.

    Drawn by `torch.rand`: `uniform_` gives other numbers on other CPUs.
    """
    bound = 1 / math.sqrt(fan_in)  # not a power: IEEE 754 fixes / and sqrt alone
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
