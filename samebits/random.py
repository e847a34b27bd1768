"""Random numbers that depend on nothing but a seed, and weights that are drawn from them."""

import hashlib
import math

import torch
from torch import nn


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Return a random generator that depends on the seed and the purpose, and on nothing else."""
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))


def uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Return float32 parameters from U(-b, b), b = 1 / sqrt(fan_in), as in `torch.nn.Linear`.

    `torch.rand` draws them, because `uniform_` gives other numbers on other CPUs.
    """
    bound = 1 / math.sqrt(fan_in)  # no power: IEEE 754 fixes / and sqrt alone
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
