"""Input for tests of exact arithmetic, and its rounding to a grid in Python's integers."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from samebits.exact import round_to_grid


def wide_range(shape: tuple[int, ...], seed: int, spread: int) -> Tensor:
    """Return float64 values of both signs, with magnitudes from 2^-spread to 2^spread.

    A tenth of them is 0. The order of such terms decides how a sum of float64 rounds.
    """
    random = np.random.default_rng(seed)
    values = random.uniform(-1, 1, shape) * 2.0 ** random.integers(-spread, spread + 1, shape)
    values[random.uniform(size=shape) < 0.1] = 0
    return torch.from_numpy(values)


def grid_steps(x: Tensor, bits: int) -> Any:
    """Return `round_to_grid(x, bits)` in grid steps, as an array of Python's integers."""
    steps = np.ldexp(round_to_grid(x, bits).numpy(), bits - _exponent(x))  # a power of two: exact
    assert (steps == np.rint(steps)).all()
    return steps.astype(np.int64).astype(object)


def step_size(x: Tensor, bits: int) -> Fraction:
    """Return the size of a step of the grid of `round_to_grid(x, bits)`."""
    return Fraction(2) ** (_exponent(x) - bits)


def _exponent(x: Tensor) -> int:
    """Return the smallest e such that 2^e is above all |x|."""
    return math.frexp(x.abs().max().item())[1]
