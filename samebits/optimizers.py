"""Optimizers and a schedule as torch defines them, in operations that IEEE 754 fixes.

torch's own fuse multiplications with additions, and approximate roots, on some CPUs and not on
others; and creating one of them imports `torch._dynamo`, which takes longer than a short training.

The weights may have another dimension before their own, for replicas: each gets the bits that it
gets alone.
"""

import ctypes
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from samebits.library import kernels

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class _AdamStep(ctypes.Structure):
    """AdamStep of kernels/functions.c."""

    _fields_ = [
        (name, ctypes.c_float)
        for name in "beta1 rest1 beta2 rest2 epsilon weight_decay kept root lr".split()
    ]


class SGD:
    """Gradient descent with momentum (Sutskever et al. 2013), as `torch.optim.SGD`.

    weights: float32 tensors, which `step` changes in place.
    moments: for each weight a list with its velocity, float32; empty without momentum.
    steps: how many were taken, which decides nothing here.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.weights = list(weights)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.moments = [[torch.zeros_like(w)] if momentum else [] for w in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Take a step against the gradients, one for each weight."""
        self.steps += 1
        for weight, gradient, moments in zip(self.weights, gradients, self.moments, strict=True):
            gradient = gradient.contiguous()
            kernels().sgd(
                weight.numel(),
                weight,
                gradient,
                moments[0] if moments else None,
                lr,
                self.momentum,
                self.nesterov,
                self.weight_decay,
            )


class Adam:
    """Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980), as `torch.optim.Adam`.

    With `decoupled` it is AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101), as
    `torch.optim.AdamW`.

    weights: float32 tensors, which `step` changes in place.
    moments: for each weight a list with the running means of its gradient and of its square.
    steps: how many were taken; set it, and the moments, to go on from a saved state.
    """

    def __init__(
        self, weights: Sequence[Tensor], weight_decay: float = 0.0, decoupled: bool = False
    ) -> None:
        self.weights = list(weights)
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.moments = [[torch.zeros_like(w), torch.zeros_like(w)] for w in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], lr: float) -> None:
        """Take a step against the gradients, one for each weight."""
        self.steps += 1
        unbias1, unbias2 = (1 - integer_power(beta, self.steps) for beta in (BETA1, BETA2))
        added, kept = self.weight_decay, 1.0
        if self.decoupled:
            added, kept = 0.0, 1 - lr * self.weight_decay
        constants = _AdamStep(
            BETA1,
            1 - BETA1,
            BETA2,
            1 - BETA2,
            EPSILON,
            added,
            kept,
            math.sqrt(unbias2),
            lr / unbias1,
        )
        for weight, gradient, moments in zip(self.weights, gradients, self.moments, strict=True):
            gradient = gradient.contiguous()
            kernels().adam(weight.numel(), weight, gradient, *moments, constants)


def one_cycle(step: int, total_steps: int, lr: float) -> float:
    """Return the learning rate of a step, from 1 to `total_steps`.

    It rises from lr / 25 to lr over the first 30 % of the steps, and falls to lr / 250,000 (Smith
    and Topin 2018, https://arxiv.org/abs/1708.07120), both in straight lines: that is
    `torch.optim.lr_scheduler.OneCycleLR` with `anneal_strategy="linear", cycle_momentum=False`.
    """
    first, last = lr / 25, lr / 250_000
    position, peak = step - 1, 0.3 * total_steps - 1
    if position <= peak:
        return first + (lr - first) * (position / peak if peak else 1)
    return lr + (last - lr) * ((position - peak) / (total_steps - 1 - peak))


def integer_power(base: float, exponent: int) -> float:
    """Return base^exponent by multiplications: C libraries round `pow` in different ways."""
    result = 1.0
    while exponent:
        if exponent % 2:
            result *= base
        base *= base
        exponent //= 2
    return result
