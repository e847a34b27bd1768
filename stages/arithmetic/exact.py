"""Arithmetic whose results are the same bits on any CPU, with any number of threads.

A sum of floating-point numbers depends on the order of its terms, which differs between
CPUs, libraries and numbers of threads, unless no addition in it has to round. So before a
matrix product or a sum, its float64 operands are rounded to a grid, the multiples of a
power of two, chosen such that everything that follows is exact:

    Let |a| <= 2^e for every entry of an operand and let its grid be the multiples of
    2^(e - p); then a = i 2^(e - p) with an integer |i| <= 2^p. Likewise b, with f and q.
    A product is i j 2^(e - p + f - q), |i j| <= 2^(p + q). Any partial sum of K products is
    an integer of at most K 2^(p + q) < 2^(bitlength(K) + p + q), times that power of two. If
    p + q + bitlength(K) <= 53, that is a float64: no operation rounds, whether the compiler
    fuses it or not and in whatever order it comes.

For a sum alone, the same holds with q = 0. What is left, + - * /, square roots and comparisons
entry by entry, has one correct result by IEEE 754; exp and log are made of these alone, and a
convolution of matrix products. The models compute with 18 bits and more below the largest
entry of an operand, where float32 has 24 below each; the accuracy is the same.

Images of bytes stand for their values / 255. As integers of 8 bits they lie on a grid as
they are, and leave the other operand all the bits but those.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

SIGNIFICAND = 53  # bits of a float64
LN10 = 2.302585092994046
CHUNK = 4  # images of a convolution, which a CPU's cache holds
EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalisation: torch's own


def round_to_grid(x: Tensor, bits: int) -> Tensor:
    """Return x as float64, rounded to multiples of 2^(e - bits), 2^e being above all |x|.

    At most 50 bits, so that the constant below can hold them. Magnitudes below 2^-400 count
    as 2^-400, so that no product is too small for a float64.
    """
    assert 0 < bits <= 50
    low, high = torch.aminmax(x)
    exponent = max(math.frexp(max(-float(low), float(high)))[1], -400)
    # Adding 1.5 * 2^52 steps leaves no room for fractions of a step: the sum is rounded to one.
    constant = math.ldexp(1.5, 52 + exponent - bits)
    return x.double().add(constant).sub_(constant)


def round_operands(a: Tensor, b: Tensor, terms: int) -> tuple[Tensor, Tensor, int]:
    """Return a and b such that sums of `terms` products are exact, and what to divide them by.

    Either may be bytes, which count as value / 255.
    """
    spare = SIGNIFICAND - terms.bit_length()
    if a.dtype == torch.uint8:
        return a.double(), round_to_grid(b, spare - 8), 255
    if b.dtype == torch.uint8:
        return round_to_grid(a, spare - 8), b.double(), 255
    return round_to_grid(a, spare // 2), round_to_grid(b, spare // 2), 1


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return a (N, K) @ b (K, M), float64; either may be bytes, which count as value / 255."""
    a, b, divisor = round_operands(a, b, a.shape[1])
    return a @ b if divisor == 1 else (a @ b).div_(divisor)


def exact_sum(x: Tensor, dim: int) -> Tensor:
    """Return the sum over a dimension, float64."""
    return round_to_grid(x, min(50, SIGNIFICAND - x.shape[dim].bit_length())).sum(dim)


def exp(x: Tensor) -> Tensor:
    """Return e^x, float64, for x <= 0; relative error below 1e-9, and e^-64 for all below -64.

    e^x = (e^(x / 1024))^1024: Taylor's polynomial of degree 6, then ten squarings.
    """
    r = _as_numpy(x.double().clamp(min=-64)) / 1024
    result = r * (1 / 720) + 1 / 120
    for factorial in (24, 6, 2, 1, 1):
        result *= r
        result += 1 / factorial
    for _ in range(10):
        result *= result
    return torch.as_tensor(result)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm, float64, of 1 <= x <= 10; absolute error below 1e-11.

    With r = x^(1/4) and c = 10^(1/8): log x = 4 log r = log(10) / 2 + 8 artanh z, where
    z = (r - c) / (r + c), so that |z| < 0.143.
    """
    r = _as_numpy(sqrt(sqrt(x.double())))
    c = 1.333521432163324
    z = (r - c) / (r + c)
    square = z * z
    series = square * (1 / 11) + 1 / 9
    for n in range(7, 0, -2):
        series *= square
        series += 1 / n
    return torch.as_tensor(8 * (z * series) + LN10 / 2)


def _as_numpy(x: Tensor) -> Any:
    """Return a tensor as NumPy's array, of which a small operation takes a third of the time."""
    return x.numpy() if x.device.type == "cpu" else x


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows, columns, divisor = round_operands(weight, x.T, x.shape[1])
        ctx.bytes = x.dtype == torch.uint8  # which on their grid are what they were
        ctx.save_for_backward(columns.T if ctx.bytes else x, weight)
        # In half the time of x @ weight.T.
        return (rows @ columns).div_(divisor).T + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        of_x = matmul(gradient, weight) if ctx.needs_input_grad[0] else None
        if ctx.bytes:
            errors = round_to_grid(gradient.T / 255, SIGNIFICAND - 8 - len(x).bit_length())
            return of_x, errors @ x, errors.sum(1) * 255
        errors, x, _ = round_operands(gradient.T, x, len(x))
        return of_x, errors @ x, errors.sum(1)


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return conv2d_valid(x, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            border = weight.shape[2] - 1
            wide = pad(gradient, (border, border, border, border))
            of_x = conv2d_valid(wide, weight.flip(2, 3).transpose(0, 1))
        return of_x, conv2d_weight_grad(x, gradient, weight.shape[2])


def conv2d_valid(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution of x (N, C, H, W) with weight (D, C, k, k), without padding.

    Pixels as rows of a matrix, one after the other: the k neighbours to the right of a pixel
    are then the next rows, and those below it are W rows on, so that the convolution is a sum
    of k matrix products. What it computes across the borders is cut off.
    """
    d, c, k, _ = weight.shape
    x, weight, divisor = round_operands(x, weight, c * k * k)
    parts = weight.permute(2, 3, 1, 0).reshape(k, k * c, d)
    results = []
    for images in x.split(CHUNK):
        n, _, height, width = images.shape
        windows, last = im2col(images, k)
        result = windows.new_empty(n * height * width, d)
        torch.mm(windows[:last], parts[0], out=result[:last])
        for row in range(1, k):
            result[:last].addmm_(windows[row * width : row * width + last], parts[row])
        result = result.view(n, height, width, d)
        results.append(result[:, : height - k + 1, : width - k + 1])
    return torch.cat(results).div_(divisor).permute(0, 3, 1, 2)


def conv2d_weight_grad(x: Tensor, gradient: Tensor, k: int) -> Tensor:
    """Return the gradient (D, C, k, k) that `_slide` gives the weight."""
    c, d = x.shape[1], gradient.shape[1]
    x, gradient, divisor = round_operands(x, gradient, gradient.numel() // d)
    result = x.new_zeros(k, k * c, d)
    for images, errors in zip(x.split(CHUNK), gradient.split(CHUNK), strict=True):
        windows, last = im2col(images, k)
        # Zeros where `_slide` cuts off.
        rows = pad(errors, (0, k - 1, 0, k - 1)).permute(0, 2, 3, 1).reshape(-1, d)[:last]
        for row, part in enumerate(result):
            start = row * images.shape[3]
            part.addmm_(windows[start : start + last].T, rows)
    return result.div_(divisor).view(k, k, c, d).permute(3, 2, 0, 1)


def im2col(x: Tensor, k: int) -> tuple[Tensor, int]:
    """Return the k pixels from each on, a row (k * C) each, and for how many there are k * k."""
    n, c, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).contiguous()
    windows = pixels.as_strided((n * height * width - k + 1, k * c), (c, 1)).contiguous()
    return windows, n * height * width - (k - 1) * (width + 1)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor
    ) -> Any:
        root = sqrt(var.double() + EPSILON)
        normal = (x - _per_channel(mean)) / _per_channel(root)
        ctx.save_for_backward(normal, root, scale)
        return normal * _per_channel(scale) + _per_channel(shift)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        [gradient] = gradients
        normal, root, scale = ctx.saved_tensors
        of_shift = _channel_sums(gradient)
        of_scale = _channel_sums(gradient * normal)
        n = normal.numel() // normal.shape[1]
        centred = gradient - _per_channel(of_shift / n) - normal * _per_channel(of_scale / n)
        return centred * _per_channel(scale / root), None, None, of_scale, of_shift


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _channel_sums(x: Tensor) -> Tensor:
    """Return the sum of x (N, C, H, W) over all but the channels, float64 (C,)."""
    return exact_sum(x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), 0)


def sqrt(x: Tensor) -> Tensor:
    """Return the square root; on a CPU by NumPy, since torch need not round it as IEEE 754 says."""
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        probabilities, losses = softmax_cross_entropy(logits, labels, smoothing)
        ctx.save_for_backward(probabilities, labels)
        ctx.smoothing = smoothing
        # fsum rounds once, whatever the order.
        return losses.new_tensor(math.fsum(losses.tolist()) / len(labels))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        probabilities, labels = ctx.saved_tensors
        if ctx.smoothing:
            errors = probabilities - smoothed_targets(labels, ctx.smoothing)
        else:  # the same, in less time
            hits = labels.unsqueeze(1)
            errors = probabilities.scatter(1, hits, probabilities.gather(1, hits) - 1)
        return errors * (gradients[0] / len(labels)), None, None


class _Mse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        errors = logits - smoothed_targets(labels, smoothing)
        ctx.save_for_backward(errors)
        return exact_sum((errors * errors).flatten(), 0) / errors.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        [errors] = ctx.saved_tensors
        return errors * (gradients[0] * 2 / errors.numel()), None, None


def smoothed_targets(labels: Tensor, smoothing: float) -> Tensor:
    """Return float64 (N, 10): for each label 1 at its place, of which all share the `smoothing`."""
    return one_hot(labels, 10).double() * (1 - smoothing) + smoothing / 10


def softmax_cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, 10) and the cross-entropy of each example (N,), float64."""
    shifted = logits.double() - logits.amax(1, keepdim=True)
    exponentials = exp(shifted)
    sums = torch.as_tensor(sum(_as_numpy(exponentials).T))  # column by column, in that order
    hits = shifted.gather(1, labels.unsqueeze(1)).squeeze(1)
    if smoothing:
        hits = hits * (1 - smoothing) + exact_sum(shifted, 1) * (smoothing / 10)
    # clamp: where a sum is 1, its logarithm comes out as -1e-16
    return exponentials / sums.unsqueeze(1), (log(sums) - hits).clamp(min=0)


def pixels(images: Tensor) -> Tensor:
    """Return images as they are: bytes are exact, and count as their values / 255."""
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `torch.nn.functional.linear`: x (N, K), weight (M, K), bias (M,) give float64 (N, M)."""
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """As `torch.nn.functional.conv2d`: x (N, C, H, W), weight (D, C, k, k) give float64."""
    result: Tensor = _Conv2d.apply(x, weight)
    return result


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, training: bool
) -> Tensor:
    """As `torch.nn.functional.batch_norm` of x (N, C, H, W), the rest (C,); gives float64.

    In training by the batch's own mean and variance, which change the running ones in place.
    """
    if training:
        n = x.numel() // x.shape[1]
        with torch.no_grad():
            own_mean = _channel_sums(x) / n
            centred = x - _per_channel(own_mean)
            own_var = _channel_sums(centred * centred) / n
            mean.mul_(1 - MOMENTUM).add_(own_mean * MOMENTUM)
            var.mul_(1 - MOMENTUM).add_(own_var * (MOMENTUM * n / max(n - 1, 1)))
        mean, var = own_mean, own_var
    result: Tensor = _BatchNorm.apply(x, mean, var, scale, shift)
    return result


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """As `torch.nn.functional.cross_entropy`: the mean over logits (N, 10), labels int64 (N,)."""
    result: Tensor = _CrossEntropy.apply(logits, labels, smoothing)
    return result


def mse(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """As `torch.nn.functional.mse_loss` of logits (N, 10) and the labels as one-hot vectors."""
    result: Tensor = _Mse.apply(logits, labels, smoothing)
    return result
