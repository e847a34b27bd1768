"""Layers in exact arithmetic: the same bits on any CPU, with any number of threads.

`samebits.exact` has the sums and products that they consist of, and the proof.
Tensors of weights are float32, activations and gradients float64.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from samebits.exact import (
    SIGNIFICAND_BITS,
    bits_of_terms,
    divide,
    matmul,
    round_operands,
    round_to_grid,
    sqrt,
)

CHUNK = 300_000  # numbers that a CPU's cache holds
EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalization: torch's own


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        replicas = weight.ndim == 3
        rows, columns, divisor = round_operands(weight, x.mT, x.shape[-1], replicas)
        ctx.is_uint8 = x.dtype == torch.uint8  # which the grid leaves as it is
        ctx.save_for_backward(columns.mT if ctx.is_uint8 else x, weight)
        # (weight @ x.T).T takes half the time of x @ weight.T.
        return divide(rows @ columns, divisor).mT + bias.unsqueeze(-2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        replicas, n = weight.ndim == 3, x.shape[-2]
        grad_x = matmul(gradient, weight) if ctx.needs_input_grad[0] else None
        if ctx.is_uint8:
            bits = SIGNIFICAND_BITS - 8 - n.bit_length()
            errors = round_to_grid(gradient.mT / 255, bits, replicas=replicas)
            return grad_x, errors @ x, errors.sum(-1) * 255
        errors, x, _ = round_operands(gradient.mT, x, n, replicas)
        return grad_x, errors @ x, errors.sum(-1)


class _Conv2d(torch.autograd.Function):
    """torch's convolution, which is a sum of products, of operands on grids: any order is exact."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        x, weight, divisor = round_operands(x, weight, weight[0].numel())
        (n, _, height, width), (d, _, k, _) = x.shape, weight.shape
        result = x.new_empty(n, d, height - k + 1, width - k + 1)
        for images, part in _chunks(weight, x, result):
            part.copy_(torch.conv2d(images, weight))
        return divide(result, divisor)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        grad_x = None
        if ctx.needs_input_grad[0]:
            errors, rounded, _ = round_operands(gradient, weight, weight[:, 0].numel())
            grad_x = torch.empty_like(x)
            for part, images in _chunks(weight, grad_x, errors):
                part.copy_(conv2d_input(part.shape, rounded, images))
        x, errors, divisor = round_operands(x, gradient, gradient[:, 0].numel())
        grad_weight = torch.zeros_like(weight, dtype=torch.float64)
        for images, part in _chunks(weight, x, errors):
            grad_weight += conv2d_weight(images, weight.shape, part)
        return grad_x, divide(grad_weight, divisor)


def _chunks(weight: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors (N, C, H, W) a few images at a time, as many as a CPU's cache holds.

    torch copies the k * k neighbours of each pixel, so that a convolution is a matrix product.
    """
    size = max(1, CHUNK // (weight[0].numel() * tensors[0][0, 0].numel()))
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


class _MaxPool2d(torch.autograd.Function):
    """torch's own takes ten times as long for float64, unless the channels are last in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        top, bottom = (torch.maximum(*pair) for pair in _quarters(x))
        return torch.maximum(top, bottom)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        [gradient] = gradients
        [x] = ctx.saved_tensors
        rows = _quarters(x)
        top, bottom = (torch.maximum(*pair) for pair in rows)
        grad_top = gradient * (top >= bottom)  # of equal ones the first has the gradient
        grad_x = torch.zeros_like(x)
        for pair, grad_pair, grad_row in zip(
            rows, _quarters(grad_x), (grad_top, gradient - grad_top), strict=True
        ):
            torch.mul(grad_row, pair[0] >= pair[1], out=grad_pair[0])
            torch.sub(grad_row, grad_pair[0], out=grad_pair[1])
        return grad_x


def _quarters(x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return views of the four pixels of each square of 2 x 2: of the upper row, of the lower."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    whole = x[:, :, :height, :width]
    top, bottom = whole[:, :, ::2], whole[:, :, 1::2]
    return (top[..., ::2], top[..., 1::2]), (bottom[..., ::2], bottom[..., 1::2])


class _BatchNorm(torch.autograd.Function):
    """Use `buffer` again and again: a new tensor costs more than an operation on it."""

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
        buffer = torch.empty_like(x)
        if training:
            n = x.numel() // x.shape[1]
            batch_mean = _channel_sums(x, buffer) / n
            centred = x - _per_channel(batch_mean)
            batch_var = _channel_sums(torch.mul(centred, centred, out=buffer), buffer) / n
            mean.mul_(1 - MOMENTUM).add_(batch_mean * MOMENTUM)
            var.mul_(1 - MOMENTUM).add_(batch_var * (MOMENTUM * n / max(n - 1, 1)))
            root = sqrt(batch_var + EPSILON)
        else:
            centred = x - _per_channel(mean)
            root = sqrt(var.double() + EPSILON)
        normal = centred.div_(_per_channel(root))
        ctx.save_for_backward(normal, root, scale)
        ctx.training = training
        return torch.mul(normal, _per_channel(scale), out=buffer).add_(_per_channel(shift))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = gradients
        normal, root, scale = ctx.saved_tensors
        buffer = torch.empty_like(gradient)
        grad_shift = _channel_sums(gradient, buffer)
        grad_scale = _channel_sums(torch.mul(gradient, normal, out=buffer), buffer)
        factor = _per_channel(scale / root)
        if ctx.training:  # mean and variance depend on x too
            n = normal.numel() // normal.shape[1]
            torch.mul(normal, _per_channel(grad_scale / n), out=buffer)
            grad_x = (gradient - _per_channel(grad_shift / n)).sub_(buffer).mul_(factor)
        else:
            grad_x = gradient * factor
        return grad_x, None, None, grad_scale, grad_shift, None


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _channel_sums(x: Tensor, buffer: Tensor) -> Tensor:
    """Return the sum of x (N, C, H, W) over all dimensions but the channels, float64 (C,)."""
    bits = bits_of_terms(x.numel() // x.shape[1])
    return round_to_grid(x, bits, out=buffer).flatten(2).sum(2).sum(0)


def pixels(images: Tensor) -> Tensor:
    """Return images as they are: the layers take uint8 for value / 255."""
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.linear` of x (N, K), weight (M, K), bias (M,): float64 (N, M).

    x is float64, or uint8, which stands for value / 255. With another dimension before these the
    result is that of each replica, with the bits that it has alone.
    """
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """Return `torch.nn.functional.conv2d` of x (N, C, H, W), weight (D, C, k, k), as float64.

    x is float64, or uint8, which stands for value / 255.
    """
    result: Tensor = _Conv2d.apply(x, weight)
    return result


def max_pool2d(x: Tensor) -> Tensor:
    """Return `torch.nn.functional.max_pool2d` of x (N, C, H, W), float64, in squares of 2 x 2."""
    result: Tensor = _MaxPool2d.apply(x)
    return result


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, training: bool
) -> Tensor:
    """Return `torch.nn.functional.batch_norm` of x (N, C, H, W), the rest (C,), as float64.

    In training it uses the batch's own mean and variance, and updates the running ones in place.
    """
    result: Tensor = _BatchNorm.apply(x, mean, var, scale, shift, training)
    return result
