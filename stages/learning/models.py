"""The models: from images (N, 1, 28, 28) to logits (N, 10).

An image is bytes, or float32 scaled to [0, 1]. A model's arithmetic, one of `PRECISIONS`, is
an argument; its parameters are float32 in either. Its `filters` are the weights of the layer
that sees the pixels.
"""

import itertools
import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from stages.arithmetic import exact, float32
from stages.storage.errors import InputError
from stages.storage.tensors import REMEDY, Array, read_metadata, read_tensors, write_tensors

CHECKPOINT = Path("data/checkpoints/model.safetensors")
REPLICAS = Path("data/checkpoints/replicas.safetensors")

PRECISIONS = {"exact": exact, "float32": float32}


class Linear(nn.Module):
    """Multinomial logistic regression: one layer from 784 pixels to 10 classes."""

    def __init__(self, generator: torch.Generator, precision: str) -> None:
        super().__init__()
        self.ops = PRECISIONS[precision]
        self.weight = _uniform((10, 784), 784, generator)
        self.bias = _uniform((10,), 784, generator)

    @property
    def filters(self) -> Tensor:
        return self.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.ops.pixels(images).flatten(1)
        logits: Tensor = self.ops.linear(x, self.weight, self.bias)
        return logits


class MLP(nn.Module):
    """A hidden layer of `width` units with ReLU, then one to 10 classes."""

    def __init__(self, width: int, generator: torch.Generator, precision: str) -> None:
        super().__init__()
        self.ops = PRECISIONS[precision]
        self.hidden_weight = _uniform((width, 784), 784, generator)
        self.hidden_bias = _uniform((width,), 784, generator)
        self.weight = _uniform((10, width), width, generator)
        self.bias = _uniform((10,), width, generator)

    @property
    def filters(self) -> Tensor:
        return self.hidden_weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.ops.pixels(images).flatten(1)
        x = self.ops.linear(x, self.hidden_weight, self.hidden_bias).relu()
        logits: Tensor = self.ops.linear(x, self.weight, self.bias)
        return logits


class CNN(nn.Module):
    """Five convolutions of 3 x 3, then one layer to 10 classes.

    With `width` channels in the first two, twice as many in the next two, four times in the
    last; without padding, so that an image is 28, 26, 24, pooled 12, 10, 8, pooled 4, and 2
    pixels wide.
    """

    def __init__(self, width: int, generator: torch.Generator, precision: str) -> None:
        super().__init__()
        self.ops = PRECISIONS[precision]
        channels = [1, width, width, 2 * width, 2 * width, 4 * width]
        self.convolutions = nn.ModuleList(
            Convolution(before, after, generator, precision, pool=number in (1, 3))
            for number, (before, after) in enumerate(itertools.pairwise(channels))
        )
        self.weight = _uniform((10, 16 * width), 16 * width, generator)
        self.bias = _uniform((10,), 16 * width, generator)

    @property
    def filters(self) -> Tensor:
        return self.convolutions[0].get_parameter("weight")

    def forward(self, images: Tensor) -> Tensor:
        x = self.ops.pixels(images)
        for convolution in self.convolutions:
            x = convolution(x)
        logits: Tensor = self.ops.linear(x.flatten(1), self.weight, self.bias)
        return logits


class Convolution(nn.Module):
    """3 x 3 pixels, the largest of each 2 x 2 if `pool`, batch normalisation, ReLU."""

    mean: Tensor
    var: Tensor

    def __init__(
        self, before: int, after: int, generator: torch.Generator, precision: str, pool: bool
    ) -> None:
        super().__init__()
        self.ops = PRECISIONS[precision]
        self.pool = pool
        self.weight = _uniform((after, before, 3, 3), 9 * before, generator)
        self.scale = nn.Parameter(torch.ones(after))
        self.shift = nn.Parameter(torch.zeros(after))
        self.register_buffer("mean", torch.zeros(after))
        self.register_buffer("var", torch.ones(after))

    def forward(self, x: Tensor) -> Tensor:
        x = self.ops.conv2d(x, self.weight)
        if self.pool:  # before the rest, which then has a quarter of the work
            x = max_pool2d(x, 2)
        x = self.ops.batch_norm(x, self.mean, self.var, self.scale, self.shift, self.training)
        return x.relu()


Model = Linear | MLP | CNN
MODELS_WITH_WIDTH: dict[str, type[MLP | CNN]] = {"mlp": MLP, "cnn": CNN}
MODEL_NAMES = ("linear", *MODELS_WITH_WIDTH)
MAX_WIDTH = 512  # as in `stages.params.train`: a false checkpoint is not to claim much memory


def build_model(
    name: str, width: int, generator: torch.Generator, precision: str = "exact"
) -> Model:
    """Return one of the models with new weights, drawn from `generator`; linear has width 0."""
    if name == "linear":
        return Linear(generator, precision)
    return MODELS_WITH_WIDTH[name](width, generator, precision)


@torch.inference_mode()
def predict(model: Model, images: Tensor) -> Tensor:
    """Return the logits (N, 10) of images; leaves the model in evaluation mode."""
    model.train(False)
    at_once = 32 if isinstance(model, CNN) else 128  # as many as a CPU's cache holds
    logits = model(images[:at_once])
    # Room for all at once: many small results between large tensors would break up the memory.
    result: Tensor = logits.new_empty(len(images), 10)
    result[:at_once] = logits
    for start in range(at_once, len(images), at_once):
        result[start : start + at_once] = model(images[start : start + at_once])
    return result


def write_checkpoint(path: Path, model: Model, name: str, width: int) -> None:
    """Write the weights of a model, and what to `build` it from."""
    tensors = {key: tensor.cpu().numpy() for key, tensor in model.state_dict().items()}
    write_tensors(path, tensors, model=name, width=str(width))


def write_replicas(path: Path, models: list[Model], name: str, width: int) -> None:
    """Write the weights of all models but the first, each tensor with one more dimension."""
    weights = [model.state_dict() for model in models]
    tensors = {
        key: torch.stack([of[key] for of in weights])[1:].cpu().numpy() for key in weights[0]
    }
    write_tensors(path, tensors, model=name, width=str(width))


def read_checkpoint(path: Path) -> Model:
    """Return the model that was written; raises `InputError` if the file holds none."""
    model, name, width = empty_model(path)
    layout = {key: ("F32", tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
    return load_weights(name, width, read_tensors(path, layout))


def read_replicas(path: Path) -> list[Model]:
    """Return the models that `write_replicas` wrote; raises `InputError` as `read_checkpoint`."""
    model, name, width = empty_model(path)
    layout = {key: ("F32", (None, *tensor.shape)) for key, tensor in model.state_dict().items()}
    tensors = read_tensors(path, layout)
    [count, *others] = {len(array) for array in tensors.values()}
    if others:
        raise InputError(f"{path}: not as many of each tensor; {REMEDY}")
    return [
        load_weights(name, width, {key: array[number] for key, array in tensors.items()})
        for number in range(count)
    ]


def empty_model(path: Path) -> tuple[Model, str, int]:
    """Return a model of the kind that a file says it holds, its name and its width."""
    about = read_metadata(path)
    name, width = about.get("model"), about.get("width", "")
    if name not in MODEL_NAMES:
        raise InputError(
            f"{path}: holds no model of {', '.join(MODEL_NAMES)} but {name!r}; {REMEDY}"
        )
    if width not in map(str, range(1, MAX_WIDTH + 1) if name in MODELS_WITH_WIDTH else [0]):
        raise InputError(f"{path}: {width[:9]!r} is no width of {name}; {REMEDY}")
    return build_model(name, int(width), torch.Generator()), name, int(width)


def load_weights(name: str, width: int, weights: dict[str, Array]) -> Model:
    model = build_model(name, width, torch.Generator())
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
    return model


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Return float32 parameters from U(-b, b), b = 1 / sqrt(fan_in), as `nn.Linear` has them.

    Drawn by `torch.rand`: `uniform_` gives other numbers on other CPUs.
    """
    bound = 1 / math.sqrt(fan_in)  # not a power: IEEE 754 fixes / and sqrt alone
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
