"""Losses in exact arithmetic: float64, and the same bits on any CPU, with any number of threads.

They take label smoothing (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567) and a weight for
each example. The mean is the sum divided by the number of examples, also where they have weights.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from samebits.exact import as_numpy, exact_sum, exp, log


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        probabilities, losses = softmax_cross_entropy(logits, labels, smoothing)
        ctx.save_for_backward(probabilities, labels, weights)
        ctx.smoothing = smoothing
        if weights is not None:
            losses = losses * weights
        # fsum rounds once, whatever the order of the terms.
        means = [math.fsum(part) / len(part) for part in losses.view(-1, labels.shape[-1]).tolist()]
        return losses.new_tensor(means).view(labels.shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, labels, weights = ctx.saved_tensors
        if ctx.smoothing:
            errors = probabilities - smoothed_targets(
                labels, probabilities.shape[-1], ctx.smoothing
            )
        else:  # the same in less time
            columns = labels.unsqueeze(-1)
            errors = probabilities.scatter(-1, columns, probabilities.gather(-1, columns) - 1)
        if weights is not None:
            errors = errors * weights.unsqueeze(-1)
        gradient = gradients[0][..., None, None]
        return errors * (gradient / labels.shape[-1]), None, None, None


class _Mse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        errors = logits - smoothed_targets(labels, logits.shape[-1], smoothing)
        weighted = errors if weights is None else errors * weights.unsqueeze(-1)
        ctx.save_for_backward(weighted)
        squares = (weighted * errors).flatten(-2)
        return exact_sum(squares, -1, replicas=labels.ndim == 2) / squares.shape[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        [weighted] = ctx.saved_tensors
        gradient = gradients[0][..., None, None]
        n = weighted.shape[-2] * weighted.shape[-1]
        return weighted * (gradient * 2 / n), None, None, None


def smoothed_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return one-hot vectors float64 (N, K), of which all K classes share the `smoothing`.

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    return one_hot(labels, classes).double() * (1 - smoothing) + smoothing / classes


def softmax_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K) and the cross-entropy of each example (N,), float64.

    All may have another dimension before these, for replicas.
    """
    shifted = logits.double() - logits.amax(-1, keepdim=True)
    exponentials = exp(shifted)
    # Column by column, in that order.
    sums = torch.as_tensor(sum(as_numpy(exponentials.movedim(-1, 0))))
    target_logits = shifted.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    if smoothing:
        spread = exact_sum(shifted, -1, replicas=labels.ndim == 2)
        target_logits = target_logits * (1 - smoothing) + spread * (smoothing / logits.shape[-1])
    # Clamp, because the logarithm of a sum of 1 comes out as -1e-16.
    return exponentials / sums.unsqueeze(-1), (log(sums) - target_logits).clamp(min=0)


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return `torch.nn.functional.cross_entropy` of logits (N, K) and labels int64 (N,).

    weights: float64 (N,), by which the loss of each example is multiplied before the mean.
    With another dimension before these the result has the loss of each replica.
    """
    result: Tensor = _CrossEntropy.apply(logits, labels, smoothing, weights)
    return result


def mse(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return `torch.nn.functional.mse_loss` of logits (N, K) and labels as one-hot vectors.

    weights: as in `cross_entropy`.
    """
    result: Tensor = _Mse.apply(logits, labels, smoothing, weights)
    return result
