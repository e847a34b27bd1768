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

For a sum alone, the same holds with q = 0. What is left, + - * / and comparisons entry by
entry, has one correct result by IEEE 754; exp and log are made of these alone. The models
compute with 20 bits and more below the largest entry of an operand, where float32 has 24
below each; the accuracy is the same.

Images of bytes stand for their values / 255. As integers of 8 bits they lie on a grid as
they are, and leave the other operand all the bits but those.
"""

import math
from typing import Any

import torch
from torch import Tensor

SIGNIFICAND = 53  # bits of a float64
LN2 = 0.6931471805599453


def on_grid(x: Tensor, bits: int) -> Tensor:
    """Return x as float64, rounded to multiples of 2^(e - bits), 2^e being above all |x|.

    At most 50 bits, so that the constant below can hold them. Magnitudes below 2^-400 count
    as 2^-400, so that no product is too small for a float64.
    """
    assert 0 < bits <= 50
    low, high = torch.aminmax(x)
    exponent = max(math.frexp(max(-float(low), float(high)))[1], -400)
    # Adding 1.5 * 2^52 steps leaves no room for fractions of a step: the sum is rounded to one.
    constant = math.ldexp(1.5, 52 + exponent - bits)
    return x.to(torch.float64, copy=True).add_(constant).sub_(constant)


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return a (N, K) @ b (K, M), float64; either may be bytes, which count as value / 255."""
    spare = SIGNIFICAND - a.shape[1].bit_length()
    if a.dtype == torch.uint8:
        return (a.double() @ on_grid(b, spare - 8)) / 255
    if b.dtype == torch.uint8:
        return (on_grid(a, spare - 8) @ b.double()) / 255
    return on_grid(a, spare // 2) @ on_grid(b, spare // 2)


def total(x: Tensor, dim: int) -> Tensor:
    """Return the sum over a dimension, float64."""
    return on_grid(x, min(50, SIGNIFICAND - x.shape[dim].bit_length())).sum(dim)


def exp(x: Tensor) -> Tensor:
    """Return e^x, float64, for x <= 0; relative error below 1e-12, and e^-64 for all below -64.

    e^x = (e^(x / 1024))^1024: Taylor's polynomial of degree 8, then ten squarings.
    """
    r = x.double().clamp(min=-64) / 1024
    result = torch.full_like(r, 1 / math.factorial(8))
    for n in range(7, -1, -1):
        result = result.mul_(r).add_(1 / math.factorial(n))
    for _ in range(10):
        result = result.mul_(result)
    return result


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm, float64, of 1 <= x <= 10; absolute error below 1e-15.

    For x = m 2^e with m in [1/2, 1): log x = (e - 1/2) log 2 + 2 artanh z, where
    z = (m - c) / (m + c), c = sqrt(1/2), so that |z| < 0.172.
    """
    m, e = torch.frexp(x.double())
    c = 0.7071067811865476
    z = (m - c) / (m + c)
    square = z * z
    series = torch.full_like(z, 1 / 19)
    for n in range(17, 0, -2):
        series = series.mul_(square).add_(1 / n)
    return (e.double() - 0.5) * LN2 + 2 * (z * series)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul(x, weight.T) + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        [gradient] = gradients
        x, weight = ctx.saved_tensors
        of_x = matmul(gradient, weight) if ctx.needs_input_grad[0] else None
        return of_x, matmul(gradient.T, x), total(gradient, 0)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        probabilities, losses = softmax_cross_entropy(logits, labels)
        ctx.save_for_backward(probabilities, labels)
        return total(losses, 0) / len(labels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        probabilities, labels = ctx.saved_tensors
        errors = probabilities.clone()
        errors[torch.arange(len(labels)), labels] -= 1
        return errors * (gradients[0] / len(labels)), None


def softmax_cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return probabilities (N, C) and the cross-entropy of each example (N,), float64."""
    shifted = logits.double() - logits.amax(1, keepdim=True)
    exponentials = exp(shifted)
    sums = total(exponentials, 1)
    # clamp: where a sum is 1, its logarithm comes out as -1e-16
    losses = (log(sums) - shifted[torch.arange(len(labels)), labels]).clamp(min=0)
    return exponentials / sums[:, None], losses


def pixels(images: Tensor) -> Tensor:
    """Return images as they are: bytes are exact, and count as their values / 255."""
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As `torch.nn.functional.linear`: x (N, K), weight (M, K), bias (M,) give float64 (N, M)."""
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """As `torch.nn.functional.cross_entropy`: the mean over logits (N, C), labels int64 (N,)."""
    result: Tensor = _CrossEntropy.apply(logits, labels)
    return result
