"""The same layers, losses and optimizers by torch in float32.

They run on a GPU too, and give other bits on other devices.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

import samebits
from samebits.layers import EPSILON, MOMENTUM
from samebits.losses import smoothed_targets
from samebits.optimizers import BETA1, BETA2, integer_power
from samebits.optimizers import EPSILON as ADAM_EPSILON

__all__ = ["SGD", "Adam", "batch_norm", "conv2d", "cross_entropy", "linear", "mse", "pixels"]


def pixels(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1]; float32 images are returned as they are."""
    if images.dtype == torch.uint8:
        # Convolutions are faster where the channels of a pixel are adjacent in memory.
        images = images.to(torch.float32, memory_format=torch.channels_last).mul_(1 / 255)
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.linear`, for few outputs in half of torch's time."""
    return (weight @ x.T).T + bias


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    pool: bool = False,
) -> Tensor:
    result = functional.conv2d(x, weight, bias, stride, padding)
    return functional.max_pool2d(result, 2) if pool else result


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor,
    shift: Tensor,
    training: bool,
    relu: bool = False,
) -> Tensor:
    result = functional.batch_norm(x, mean, var, scale, shift, training, MOMENTUM, EPSILON)
    return result.relu_() if relu else result


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    if weights is None:
        return functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (losses * weights.to(torch.float32)).mean()


def mse(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    targets = smoothed_targets(labels, logits.shape[1], smoothing).to(torch.float32)
    if weights is None:
        return functional.mse_loss(logits, targets)
    return ((logits - targets) ** 2 * weights.to(torch.float32).unsqueeze(1)).mean()


class SGD(samebits.SGD):
    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        self.steps += 1
        for weight, gradient, moments in zip(self.weights, gradients, self.moments, strict=True):
            if self.weight_decay:
                gradient = gradient + weight * self.weight_decay
            for velocity in moments:
                velocity.mul_(self.momentum).add_(gradient)
                gradient = gradient + velocity * self.momentum if self.nesterov else velocity
            weight.sub_(gradient * lr)


class Adam(samebits.Adam):
    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        self.steps += 1
        unbias1, unbias2 = (1 - integer_power(beta, self.steps) for beta in (BETA1, BETA2))
        for weight, gradient, moments in zip(self.weights, gradients, self.moments, strict=True):
            if self.weight_decay and self.decoupled:
                weight.mul_(1 - lr * self.weight_decay)
            elif self.weight_decay:
                gradient = gradient + weight * self.weight_decay
            first, second = moments
            first.mul_(BETA1).add_(gradient * (1 - BETA1))
            second.mul_(BETA2).add_(gradient * gradient * (1 - BETA2))
            root = second.sqrt() / math.sqrt(unbias2) + ADAM_EPSILON
            weight.sub_(first / root * (lr / unbias1))
