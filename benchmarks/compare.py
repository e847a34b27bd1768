"""How often the comparison is right: real trainings of known truth, and simulated pairs.

python benchmarks/compare.py
"""

import contextlib
import io
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

import numpy as np
import torch
from scipy import stats

from stages.learning.models import predict
from stages.learning.training import initial_state, train_epoch
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, load_split
from tools.analysis.significance import Array, difference

PAIRS = 200
REPLICAS = 5
SIMULATED = 1_000


def right(changes: dict[str, Any]) -> Array:
    """Train a model and return which test images it gets right, bool (N,)."""
    params = load_params(Train, "train").model_copy(update={"precision": "float32", **changes})
    train, val = load_split(DATA["train"]), load_split(DATA["val"])
    test = load_split(Path("data/prepared/test.safetensors"))
    state = initial_state(params)
    with contextlib.redirect_stdout(io.StringIO()):
        while state.last.epoch < params.epochs:
            train_epoch(state, train, val, params, record_history=False)
    found: Array = (predict(state.model, test.images).argmax(1) == test.labels).numpy()
    return found


def simulated(random: np.random.Generator, gap: float, seeds: float, luck: float) -> Any:
    """Return whether the replicas of two made-up procedures get images right, and the truth.

    An image is right where its ease, the gift of the seed and some luck come to more than
    nothing, all of them normally distributed.
    """
    images, shape = 500, (REPLICAS, 500)
    ease = random.normal(1.8, 2, images)
    other = ease + gap + random.normal(0, 0.5, images)
    a = ease + random.normal(0, seeds, (REPLICAS, 1)) + random.normal(0, luck, shape)
    b = other + random.normal(0, seeds, (REPLICAS, 1)) + random.normal(0, luck, shape)
    spread = seeds**2 + luck**2
    of_a = stats.norm.cdf(1.8 / np.sqrt(4 + spread))
    of_b = stats.norm.cdf((1.8 + gap) / np.sqrt(4.25 + spread))
    return a > 0, b > 0, of_b - of_a


def main() -> None:
    torch.set_num_threads(1)
    with ProcessPoolExecutor() as pool:
        usual = [{"seed": seed} for seed in range(2 * PAIRS * REPLICAS)]
        faster = [{"seed": seed, "lr": 0.0175} for seed in range(PAIRS * REPLICAS)]
        found = np.array(list(pool.map(right, [*usual, *faster], chunksize=50)))
    n = found.shape[1]
    runs = found.reshape(3 * PAIRS, REPLICAS, n)
    first, second, better = runs[:PAIRS], runs[PAIRS : 2 * PAIRS], runs[2 * PAIRS :]
    print(f"{PAIRS} pairs of {REPLICAS} seeds each on {n:,} images:")
    gaps = [difference(a, b, True, False) for a, b in zip(first, second, strict=True)]
    wrong = sum(gap.p < 0.05 for gap in gaps)
    print(f"other seeds alone: called different {wrong} times ({wrong / PAIRS:.1%})")
    for name, same, a_runs in (("the same", True, first), ("other", False, second)):
        gaps = [difference(a, b, True, same) for a, b in zip(a_runs, better, strict=True)]
        seen = sum(gap.p < 0.05 and gap.value > 0 for gap in gaps)
        mean = 100 * np.mean([gap.value for gap in gaps])
        print(f"{mean:.2f} points better, {name} seeds: found {seen} times ({seen / PAIRS:.1%})")
    random = np.random.default_rng(0)
    for gap, seeds, luck in ((0, 0.1, 0.3), (0.2, 0.1, 0.3), (0.2, 0.3, 0.3), (0.2, 0.02, 1.0)):
        covered = 0
        for _ in range(SIMULATED):
            a, b, truth = simulated(random, gap, seeds, luck)
            interval = difference(a, b, True, False)
            covered += interval.low <= truth <= interval.high
        print(
            f"simulated, gap {100 * truth:.1f} points, seeds {seeds}, luck {luck}: "
            f"the interval has the truth in {covered / SIMULATED:.1%} of {SIMULATED:,}"
        )


if __name__ == "__main__":
    main()
