"""The layers and losses in exact arithmetic: the same bits on any CPU, with any number of threads.

`stages.arithmetic.exact_math` has the sums and products that they consist of, and the proof.
Tensors of weights are float32, activations and gradients float64.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from stages.arithmetic.exact_math import (
    SIGNIFICAND_BITS,
    as_numpy,
    exact_sum,
    exp,
    log,
    matmul,
    round_operands,
    round_to_grid,
    sqrt,
)

CHUNK = 4  # images that are convolved at once: as many as a CPU's cache holds
EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalization: torch's own


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, columns, divisor = round_operands(weight, x.T, x.shape[1])
        ctx.is_uint8 = x.dtype == torch.uint8  # which the grid leaves as it is
        ctx.save_for_backward(columns.T if ctx.is_uint8 else x, weight)
        # (weight @ x.T).T takes half the time of x @ weight.T.
        return (rows @ columns).div_(divisor).T + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        grad_x = matmul(gradient, weight) if ctx.needs_input_grad[0] else None
        if ctx.is_uint8:
            bits = SIGNIFICAND_BITS - 8 - len(x).bit_length()
            errors = round_to_grid(gradient.T / 255, bits)
            return grad_x, errors @ x, errors.sum(1) * 255
        errors, x, _ = round_operands(gradient.T, x, len(x))
        return grad_x, errors @ x, errors.sum(1)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d_valid(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            border = weight.shape[2] - 1
            padded = pad(gradient, (border, border, border, border))
            grad_x = conv2d_valid(padded, weight.flip(2, 3).transpose(0, 1))
        return grad_x, conv2d_weight_grad(x, gradient, weight.shape[2])


def conv2d_valid(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of x (N, C, H, W) with weight (D, C, k, k), without padding.

    The pixels become the rows of a matrix, one after the other. The k neighbours to the right of
    a pixel are then the next rows, and those below it are W rows further, so that the convolution
    is a sum of k matrix products. The results that reach across a border are cut off.
    """
    d, c, k, _ = weight.shape
    x, weight, divisor = round_operands(x, weight, c * k * k)
    parts = weight.permute(2, 3, 1, 0).reshape(k, k * c, d)
    results = []
    for images in x.split(CHUNK):
        n, _, height, width = images.shape
        windows, count = im2col(images, k)
        result = windows.new_empty(n * height * width, d)
        torch.mm(windows[:count], parts[0], out=result[:count])
        for row in range(1, k):
            result[:count].addmm_(windows[row * width : row * width + count], parts[row])
        result = result.view(n, height, width, d)
        results.append(result[:, : height - k + 1, : width - k + 1])
    return torch.cat(results).div_(divisor).permute(0, 3, 1, 2)


def conv2d_weight_grad(x: Tensor, gradient: Tensor, k: int) -> Tensor:
    """Return the gradient (D, C, k, k) of the weight of `conv2d_valid`."""
    c, d = x.shape[1], gradient.shape[1]
    x, gradient, divisor = round_operands(x, gradient, gradient.numel() // d)
    result = x.new_zeros(k, k * c, d)
    for images, errors in zip(x.split(CHUNK), gradient.split(CHUNK), strict=True):
        windows, count = im2col(images, k)
        # Pad with zeros where `conv2d_valid` cuts off.
        rows = pad(errors, (0, k - 1, 0, k - 1)).permute(0, 2, 3, 1).reshape(-1, d)[:count]
        for row, part in enumerate(result):
            start = row * images.shape[3]
            part.addmm_(windows[start : start + count].T, rows)
    return result.div_(divisor).view(k, k, c, d).permute(3, 2, 0, 1)


def im2col(x: Tensor, k: int) -> tuple[Tensor, int]:
    """Return rows (k * C) of the k pixels from each pixel on, and how many have k such rows below.

    x: (N, C, H, W).
    """
    n, c, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).contiguous()
    windows = pixels.as_strided((n * height * width - k + 1, k * c), (c, 1)).contiguous()
    return windows, n * height * width - (k - 1) * (width + 1)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        scale: Tensor,
        shift: Tensor,
        training: bool,
    ) -> Any:
        root = sqrt(var.double() + EPSILON)
        normal = (x - _per_channel(mean)) / _per_channel(root)
        ctx.save_for_backward(normal, root, scale)
        ctx.training = training
        return normal * _per_channel(scale) + _per_channel(shift)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = gradients
        normal, root, scale = ctx.saved_tensors
        grad_shift = _channel_sums(gradient)
        grad_scale = _channel_sums(gradient * normal)
        if ctx.training:  # mean and variance depend on x too
            n = normal.numel() // normal.shape[1]
            gradient = gradient - _per_channel(grad_shift / n)
            gradient = gradient - normal * _per_channel(grad_scale / n)
        return gradient * _per_channel(scale / root), None, None, grad_scale, grad_shift, None


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _channel_sums(x: Tensor) -> Tensor:
    """Return the sum of x (N, C, H, W) over all dimensions but the channels, float64 (C,)."""
    return exact_sum(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), 0)


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
        return losses.new_tensor(math.fsum(losses.tolist()) / len(labels))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, labels, weights = ctx.saved_tensors
        if ctx.smoothing:
            errors = probabilities - smoothed_targets(labels, probabilities.shape[1], ctx.smoothing)
        else:  # the same in less time
            columns = labels.unsqueeze(1)
            errors = probabilities.scatter(1, columns, probabilities.gather(1, columns) - 1)
        if weights is not None:
            errors = errors * weights.unsqueeze(1)
        return errors * (gradients[0] / len(labels)), None, None, None


class _Mse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None
    ) -> Tensor:
        errors = logits - smoothed_targets(labels, logits.shape[1], smoothing)
        weighted = errors if weights is None else errors * weights.unsqueeze(1)
        ctx.save_for_backward(weighted)
        return exact_sum((weighted * errors).flatten(), 0) / errors.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        [weighted] = ctx.saved_tensors
        return weighted * (gradients[0] * 2 / weighted.numel()), None, None, None


def smoothed_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return one-hot vectors float64 (N, K), of which all K classes share the `smoothing`.

    Label smoothing: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567
    """
    return one_hot(labels, classes).double() * (1 - smoothing) + smoothing / classes


def softmax_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, K) and the cross-entropy of each example (N,), float64."""
    shifted = logits.double() - logits.amax(1, keepdim=True)
    exponentials = exp(shifted)
    sums = torch.as_tensor(sum(as_numpy(exponentials).T))  # column by column, in that order
    target_logits = shifted.gather(1, labels.unsqueeze(1)).squeeze(1)
    if smoothing:
        target_logits = target_logits * (1 - smoothing) + exact_sum(shifted, 1) * (
            smoothing / logits.shape[1]
        )
    # Clamp, because the logarithm of a sum of 1 comes out as -1e-16.
    return exponentials / sums.unsqueeze(1), (log(sums) - target_logits).clamp(min=0)


def pixels(images: Tensor) -> Tensor:
    """Return images as they are: the layers take uint8 for value / 255."""
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.linear` of x (N, K), weight (M, K), bias (M,): float64 (N, M).

    x is float64, or uint8, which stands for value / 255.
    """
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` of x (N, C, H, W), weight (D, C, k, k), as float64.

    x is float64, or uint8, which stands for value / 255.
    """
    result: Tensor = _Conv2d.apply(x, weight)
    return result


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, training: bool
) -> Tensor:
    """Return `torch.nn.functional.batch_norm` of x (N, C, H, W), the rest (C,), as float64.

    In training it uses the batch's own mean and variance, and updates the running ones in place.
    """
    if training:
        n = x.numel() // x.shape[1]
        with torch.no_grad():
            batch_mean = _channel_sums(x) / n
            centred = x - _per_channel(batch_mean)
            batch_var = _channel_sums(centred * centred) / n
            mean.mul_(1 - MOMENTUM).add_(batch_mean * MOMENTUM)
            var.mul_(1 - MOMENTUM).add_(batch_var * (MOMENTUM * n / max(n - 1, 1)))
        mean, var = batch_mean, batch_var
    result: Tensor = _BatchNorm.apply(x, mean, var, scale, shift, training)
    return result


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None
) -> Tensor:
    """Return `torch.nn.functional.cross_entropy` of logits (N, K) and labels int64 (N,).

    weights: float64 (N,), by which the loss of each example is multiplied before the mean.
    """
    result: Tensor = _CrossEntropy.apply(logits, labels, smoothing, weights)
    return result


def mse(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
    """Return `torch.nn.functional.mse_loss` of logits (N, K) and labels as one-hot vectors.

    weights: as in `cross_entropy`.
    """
    result: Tensor = _Mse.apply(logits, labels, smoothing, weights)
    return result
