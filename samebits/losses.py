"""Losses, exponentials and logarithms: float64 inside, in an order that the source fixes.

They take label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) and a weight for
each example. The mean is the sum divided by the number of examples, also where they have weights.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import one_hot

from samebits.library import kernels


class _MeanLoss(torch.autograd.Function):
    """The gradient is computed with the loss, which has all that it needs."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        labels: Tensor,
        smoothing: float,
        weights: Tensor | None,
        is_cross_entropy: bool,
    ) -> Tensor:
        *replicas, n, classes = logits.shape
        labels = labels.contiguous()
        weights = None if weights is None else weights.double().contiguous()
        if is_cross_entropy:
            values, losses = softmax_cross_entropy(logits, labels, smoothing)
        else:
            _check(labels, classes)
            values, losses = logits.double().contiguous(), None
        means = torch.empty(replicas, dtype=torch.float64)
        gradient = torch.empty(logits.shape)
        kernels().mean_losses(
            means.numel(), n, classes, values, labels, smoothing, weights, losses, means, gradient
        )
        ctx.save_for_backward(gradient)
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        [gradient] = ctx.saved_tensors
        return gradient * gradients[0].float()[..., None, None], None, None, None, None


def softmax_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K) and the cross-entropy of each example (N,), float64.

    All may have another dimension before these, for replicas.
    """
    logits, labels = logits.float().contiguous(), labels.contiguous()
    _check(labels, logits.shape[-1])
    probabilities = torch.empty(logits.shape, dtype=torch.float64)
    losses = torch.empty(labels.shape, dtype=torch.float64)
    kernels().softmax_cross_entropies(
        labels.numel(), logits.shape[-1], logits, labels, smoothing, probabilities, losses
    )
    return probabilities, losses


def _check(labels: Tensor, classes: int) -> None:
    if not kernels().are_labels(labels.numel(), classes, labels):
        raise IndexError(f"samebits: a label is not one of {classes} classes, from 0 on")


def smoothed_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return one-hot vectors float64 (N, K), of which all K classes share the `smoothing`."""
    return one_hot(labels, classes).double() * (1 - smoothing) + smoothing / classes


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return `torch.nn.functional.cross_entropy` of logits (N, K) and labels int64 (N,), float64.

    weights: float64 (N,), by which the loss of each example is multiplied before the mean.
    With another dimension before these the result has the loss of each replica.
    """
    result: Tensor = _MeanLoss.apply(logits, labels, smoothing, weights, True)
    return result


def mse(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return `torch.nn.functional.mse_loss` of logits (N, K) and labels as one-hot vectors.

    weights: as in `cross_entropy`.
    """
    result: Tensor = _MeanLoss.apply(logits, labels, smoothing, weights, False)
    return result


def exp(x: Tensor) -> Tensor:
    """Return e^x, float64, for x <= 0; relative error below 1e-9, and e^-64 for all x below -64."""
    x = x.double().contiguous()
    result = torch.empty_like(x)
    kernels().exp_all(x.numel(), x, result)
    return result


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm, float64, of 1 <= x <= 1e12; absolute error below 1e-11."""
    x = x.double().contiguous()
    result = torch.empty_like(x)
    kernels().log_all(x.numel(), x, result)
    return result
