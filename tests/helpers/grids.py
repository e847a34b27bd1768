"""Numbers for tests of exact arithmetic, and what a grid makes of them, in Python's integers."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.arithmetic.exact_math import round_to_grid


def adversarial(shape: tuple[int, ...], seed: int, spread: int) -> Tensor:
    """Float64 numbers of both signs with magnitudes over 2^-spread to 2^spread."""
    random = np.random.default_rng(seed)
    numbers = random.uniform(-1, 1, shape) * 2.0 ** random.integers(-spread, spread + 1, shape)
    numbers[random.uniform(size=shape) < 0.1] = 0
    return torch.from_numpy(numbers)


def steps(x: Tensor, bits: int) -> Any:
    """Return round_to_grid(x, bits) in steps of its grid: an array of Python's integers."""
    top = math.frexp(x.abs().max().item())[1]
    found = np.ldexp(round_to_grid(x, bits).numpy(), bits - top)  # a power of two: no rounding
    assert (found == np.rint(found)).all()
    return found.astype(np.int64).astype(object)


def scale(x: Tensor, bits: int) -> Fraction:
    """Return the size of a step of round_to_grid(x, bits)."""
    return Fraction(2) ** (math.frexp(x.abs().max().item())[1] - bits)
