"""Sums, products and functions whose results are the same bits on any CPU, and the proof.

A sum of floating-point numbers depends on the order of its terms, which differs between CPUs,
libraries and numbers of threads, unless no addition in it has to round. So before a matrix
product or a sum, the float64 operands are rounded to a grid, the multiples of a power of two,
chosen such that everything that follows is exact:

    Let |a| <= 2^e for every entry of an operand and let its grid be the multiples of
    2^(e - p); then a = i 2^(e - p) with an integer |i| <= 2^p. Likewise b, with f and q.
    A product is i j 2^(e - p + f - q), |i j| <= 2^(p + q). Any partial sum of K products is
    an integer of at most K 2^(p + q) < 2^(bitlength(K) + p + q), times that power of two. If
    p + q + bitlength(K) <= 53, that is a float64: no operation rounds, in whatever order the
    terms are added and whether or not a compiler fuses additions and multiplications.

For a sum alone, the same holds with q = 0. All other operations are + - * /, square roots and
comparisons of single entries, whose results IEEE 754 fixes; exp and log consist of these.

The operands keep at least 18 bits below the largest entry, where float32 has 24 below each. The
accuracy of the trained models is the same.

Images of bytes stand for their values / 255. As integers of 8 bits they are on a grid already,
and leave the rest of the 53 bits to the other operand.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

SIGNIFICAND_BITS = 53  # of a float64
LN10 = 2.302585092994046


def round_to_grid(
    x: Tensor, bits: int, out: Tensor | None = None, replicas: bool = False
) -> Tensor:
    """Return x as float64, rounded to multiples of 2^(e - bits), where 2^e is above all |x|.

    out: a tensor that receives the result, which saves the time for another one; it may be x.
    replicas: each x[i] has a grid of its own.

    bits is at most 50, so that the constant below can hold them. An exponent e below -400 counts
    as -400, so that no product is too small for a float64.
    """
    assert 0 < bits <= 50
    # Adding 1.5 * 2^52 grid steps leaves no bit for fractions of a step, so that the sum rounds.
    if replicas:
        low, high = (as_numpy(ends) for ends in torch.aminmax(x.flatten(1), dim=1))
        _, exponents = np.frexp(np.maximum(-low, high))
        constants = np.ldexp(1.5, 52 + exponents.clip(min=-400) - bits)
        column = torch.from_numpy(constants).view(-1, *(1 for _ in x.shape[1:]))
        return torch.add(x, column, out=out).sub_(column)
    low, high = torch.aminmax(x)
    exponent = max(math.frexp(max(-float(low), float(high)))[1], -400)
    constant = math.ldexp(1.5, 52 + exponent - bits)
    return torch.add(x.double(), constant, out=out).sub_(constant)


def round_operands(
    a: Tensor, b: Tensor, terms: int, replicas: bool = False
) -> tuple[Tensor, Tensor, int]:
    """Return a and b on grids on which sums of `terms` products are exact, and a divisor.

    Either may be uint8, which stands for value / 255: the sums have to be divided by the divisor.
    With `replicas`, each a[i] and b[i] has a grid of its own.
    """
    spare = SIGNIFICAND_BITS - terms.bit_length()
    if a.dtype == torch.uint8:
        return a.double(), round_to_grid(b, spare - 8, replicas=replicas), 255
    if b.dtype == torch.uint8:
        return round_to_grid(a, spare - 8, replicas=replicas), b.double(), 255
    a, b = (round_to_grid(x, spare // 2, replicas=replicas) for x in (a, b))
    return a, b, 1


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return a (N, K) @ b (K, M), float64; either may be uint8, which stands for value / 255.

    With another dimension before these it is a product for each replica.
    """
    a, b, divisor = round_operands(a, b, a.shape[-1], replicas=a.ndim == 3)
    return divide(a @ b, divisor)


def divide(sums: Tensor, divisor: int) -> Tensor:
    """Divide the sums that `round_operands` prepared by its divisor, in place."""
    return sums if divisor == 1 else sums.div_(divisor)


def exact_sum(x: Tensor, dim: int, replicas: bool = False) -> Tensor:
    """Return the sum over a dimension, float64; with `replicas`, each x[i] has its own grid."""
    return round_to_grid(x, bits_of_terms(x.shape[dim]), replicas=replicas).sum(dim)


def bits_of_terms(terms: int) -> int:
    """Return the bits of a grid on which a sum of so many terms is exact."""
    return min(50, SIGNIFICAND_BITS - terms.bit_length())


def exp(x: Tensor) -> Tensor:
    """Return e^x, float64, for x <= 0; relative error below 1e-9, and e^-64 for all x below -64.

    e^x = (e^(x / 1024))^1024: Taylor's polynomial of degree 6, then ten squarings.
    """
    r = as_numpy(x.double().clamp(min=-64)) / 1024
    result = r * (1 / 720) + 1 / 120
    for factorial in (24, 6, 2, 1, 1):
        result *= r
        result += 1 / factorial
    for _ in range(10):
        result *= result
    return torch.as_tensor(result)


def log(x: Tensor) -> Tensor:
    """Return the natural logarithm, float64, of 1 <= x <= 1000; absolute error below 1e-11.

    x is divided by 10 until it is at most 10. With r = x^(1/4) and c = 10^(1/8):
    log x = 4 log r = log(10) / 2 + 8 artanh z, where z = (r - c) / (r + c), so that |z| < 0.143.
    """
    x = x.double()
    tens = (x > 10).double() + (x > 100).double()
    x = x / (1 + 9 * (x > 10).double() + 90 * (x > 100).double())
    r = as_numpy(sqrt(sqrt(x)))
    c = 1.333521432163324
    z = (r - c) / (r + c)
    square = z * z
    series = square * (1 / 11) + 1 / 9
    for n in range(7, 0, -2):
        series *= square
        series += 1 / n
    return torch.as_tensor(8 * (z * series) + LN10 / 2) + tens * LN10


def sqrt(x: Tensor) -> Tensor:
    """Return the square root, rounded as IEEE 754 says.

    On a CPU NumPy computes it, since torch need not round it so.
    """
    return torch.from_numpy(np.sqrt(x.numpy())) if x.device.type == "cpu" else x.sqrt()


def as_numpy(x: Tensor) -> Any:
    """Return a tensor as NumPy's array: there a small operation takes a third of torch's time.

    A tensor on another device than the CPU is returned as it is.
    """
    return x.numpy() if x.device.type == "cpu" else x
