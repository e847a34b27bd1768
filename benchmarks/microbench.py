"""What the steps of a training are made of, each beside what else was tried, in microseconds.

python benchmarks/microbench.py
"""

import math
import os
import sys
import timeit
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from samebits import exact

ROUNDS, CALLS = 25, 200

torch.manual_seed(0)
pool = torch.randint(0, 256, (2_000, 1, 28, 28), dtype=torch.uint8)
batch = torch.randperm(2_000)[:64]
images = pool.index_select(0, batch).flatten(1)
doubles, floats = images.double(), images.float()
weight = torch.randn(10, 784)
double_weight = weight.double()
padded = pad(double_weight, (0, 0, 0, 6))
logits = torch.randn(64, 10, dtype=torch.float64)
negative = -logits.abs()


def powers(x: Tensor) -> Tensor:
    """Return e^x as `samebits.exact.exp` does it, by torch alone."""
    r = x.clamp(min=-64) / 1024
    result = r * (1 / 720) + 1 / 120
    for factorial in (24, 6, 2, 1, 1):
        result = result.mul_(r).add_(1 / factorial)
    for _ in range(10):
        result = result.mul_(result)
    return result


def split_in_four() -> Tensor:
    rows = doubles.view(64, 4, 196).transpose(0, 1)
    return torch.bmm(rows, double_weight.view(10, 4, 196).permute(1, 2, 0)).sum(0)


# What it is for, what we do, what we do not do.
PAIRS: list[tuple[str, tuple[str, Callable[[], object]], tuple[str, Callable[[], object]]]] = [
    (
        "take a batch of 64 images",
        ("`index_select`", lambda: pool.index_select(0, batch)),
        ("`images[batch]`", lambda: pool[batch]),
    ),
    (
        "scale bytes to [0, 1]",
        ("times 1 / 255", lambda: images.float().mul_(1 / 255)),
        ("divided by 255", lambda: images.float().div_(255)),
    ),
    (
        "linear layer in float32",
        ("`(weight @ x.T).T`", lambda: (weight @ floats.T).T),
        ("`linear(x, weight)`", lambda: linear(floats, weight)),
    ),
    (
        "linear layer in float64",
        ("`(weight @ x.T).T`", lambda: (double_weight @ doubles.T).T),
        ("`linear(x, weight)`", lambda: linear(doubles, double_weight)),
    ),
    (
        "the same",
        ("ten classes", lambda: (double_weight @ doubles.T).T),
        ("padded to sixteen", lambda: (padded @ doubles.T).T),
    ),
    (
        "the same",
        ("in one piece", lambda: (double_weight @ doubles.T).T),
        ("in four, as a batch of products", split_in_four),
    ),
    (
        "the same",
        ("torch, which asks MKL", lambda: (double_weight @ doubles.T).T),
        ("NumPy, which asks OpenBLAS", lambda: doubles.numpy() @ double_weight.numpy().T),
    ),
    (
        "exponential of 640 logits",
        ("NumPy", lambda: exact.exp(negative)),
        ("torch", lambda: powers(negative)),
    ),
    (
        "largest magnitude of the weights",
        ("`aminmax`", lambda: torch.aminmax(weight)),
        ("`vector_norm(inf)`", lambda: torch.linalg.vector_norm(weight, float("inf"))),
    ),
    (
        "mean of 64 losses, exactly",
        ("`math.fsum`", lambda: math.fsum(logits[:, 0].tolist())),
        ("on a grid", lambda: exact.exact_sum(logits[:, 0], 0)),
    ),
]


def microseconds(calls: tuple[Callable[[], object], ...]) -> list[float]:
    """Return the median time of each, all called in turn."""
    times = [[timeit.timeit(call, number=CALLS) for call in calls] for _ in range(1 + ROUNDS)]
    return [1e6 / CALLS * float(np.median(column[1:])) for column in zip(*times, strict=True)]


def main() -> None:
    print("| what for | we do | µs | we do not | µs |\n|---|---|---|---|---|")
    for what, (ours, do), (other, do_not) in PAIRS:
        spent, saved = microseconds((do, do_not))
        print(f"| {what} | {ours} | {spent:.1f} | {other} | {saved:.1f} |")


if __name__ == "__main__":
    main()
