"""The models: from images (N, 1, 28, 28), scaled to [0, 1], to logits (N, 10)."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.errors import InputError
from stages.tensors import REMEDY, read_about, read_tensors, write_tensors


class Linear(nn.Module):
    """Multinomial logistic regression: one layer from 784 pixels to 10 classes."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _uniform((10, 784), 784, generator)
        self.bias = _uniform((10,), 784, generator)

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.flatten(1), self.weight, self.bias)


MODELS = {"linear": Linear}


def scaled(images: Tensor) -> Tensor:
    """Return pixels uint8 0…255 as float32 0…1."""
    return images.to(torch.float32) / 255


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 4_096) -> Tensor:
    """Return the logits float32 (N, 10) of images uint8 (N, 1, 28, 28)."""
    return torch.cat([model(scaled(batch)) for batch in images.split(batch_size)])


def write_checkpoint(path: Path, model: nn.Module, name: str) -> None:
    """Write the weights of the model that `MODELS` calls `name`."""
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
    bound = fan_in**-0.5
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
