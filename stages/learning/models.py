"""The models: from images (N, C, H, W) to logits (N, K) of K classes.

Images are uint8, or float32 scaled to [0, 1]. `ops` is the arithmetic of a model, a module of
`ARITHMETIC`. The property `filters` of a model is the weight of the layer that sees the pixels.
"""

import math
from types import ModuleType

import torch
from torch import Tensor, nn

import samebits
from samebits import plain_float32, uniform

Shape = tuple[int, int, int]  # of an image: channels, height, width

ARITHMETIC = {"cpu": samebits, "cuda": plain_float32}  # of each device


class MLP(nn.Module):
    """A hidden layer of `width` units with ReLU, then one layer to the classes.

    With width 0 it is `linear`, multinomial logistic regression: from the pixels to the classes.
    """

    def __init__(
        self, shape: Shape, classes: int, width: int, generator: torch.Generator, ops: ModuleType
    ) -> None:
        super().__init__()
        self.ops, self.width = ops, width
        features = math.prod(shape)
        if width:
            self.hidden_weight = uniform((width, features), features, generator)
            self.hidden_bias = uniform((width,), features, generator)
            features = width
        self.weight = uniform((classes, features), features, generator)
        self.bias = uniform((classes,), features, generator)

    @property
    def filters(self) -> Tensor:
        return self.hidden_weight if self.width else self.weight

    def forward(self, images: Tensor) -> Tensor:
        x = self.ops.pixels(images).flatten(images.dim() - 3)
        if self.width:
            x = self.ops.linear(x, self.hidden_weight, self.hidden_bias).relu()
        logits: Tensor = self.ops.linear(x, self.weight, self.bias)
        return logits


class CNN(nn.Module):
    """Convolutions of 3 x 3, then one layer to the classes.

    As long as an image is 8 pixels wide or more, there are two convolutions, and the second is
    pooled. At least 3 pixels then pass one more. The first two convolutions have `width` channels,
    the next two twice as many, and so on. There is no padding: an image of 28 pixels is 26, 24,
    pooled 12, 10, 8, pooled 4, and 2 pixels wide; one of 8 pixels is 6, 4, and pooled 2.
    """

    def __init__(
        self, shape: Shape, classes: int, width: int, generator: torch.Generator, ops: ModuleType
    ) -> None:
        super().__init__()
        self.ops = ops
        channels, size, _ = shape
        layers = []
        while size >= 8:
            layers += [(channels, width, False), (width, width, True)]
            channels, width, size = width, 2 * width, (size - 4) // 2
        if size >= 3:
            layers.append((channels, width, False))
            channels, size = width, size - 2
        self.convolutions = nn.ModuleList(Convolution(*layer, generator, ops) for layer in layers)
        features = channels * size * size
        self.weight = uniform((classes, features), features, generator)
        self.bias = uniform((classes,), features, generator)

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
    """A convolution of 3 x 3, max pooling of 2 x 2 if `pool`, batch normalization, ReLU."""

    mean: Tensor
    var: Tensor

    def __init__(
        self, inputs: int, outputs: int, pool: bool, generator: torch.Generator, ops: ModuleType
    ) -> None:
        super().__init__()
        self.ops, self.pool = ops, pool
        self.weight = uniform((outputs, inputs, 3, 3), 9 * inputs, generator)
        self.scale = nn.Parameter(torch.ones(outputs))
        self.shift = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("var", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        # Pooling comes first, so that normalization and ReLU have a quarter of the work.
        x = self.ops.conv2d(x, self.weight, pool=self.pool)
        result: Tensor = self.ops.batch_norm(
            x, self.mean, self.var, self.scale, self.shift, self.training, relu=True
        )
        return result


Model = MLP | CNN
MODELS: dict[str, type[Model]] = {"linear": MLP, "mlp": MLP, "cnn": CNN}
# Models whose weights may have another dimension before their own, for replicas; the images and
# the logits then have it, too.
STACKABLE = ("linear", "mlp")


def build_model(
    name: str,
    width: int,
    shape: Shape,
    classes: int,
    generator: torch.Generator,
    ops: ModuleType = samebits,
) -> Model:
    """Return a model with initial weights drawn from `generator`; `linear` has width 0."""
    return MODELS[name](shape, classes, width, generator, ops)


@torch.inference_mode()
def predict(model: Model, images: Tensor) -> Tensor:
    """Return the logits (N, K) of images (N, C, H, W); leaves the model in evaluation mode."""
    model.train(False)
    chunk = 32 if isinstance(model, CNN) else 128  # as many images as a CPU's cache holds
    logits = model(images[:chunk])
    # Allocate the result once: many small results between large tensors fragment the memory.
    result: Tensor = logits.new_empty(len(images), logits.shape[1])
    result[:chunk] = logits
    for start in range(chunk, len(images), chunk):
        result[start : start + chunk] = model(images[start : start + chunk])
    return result
