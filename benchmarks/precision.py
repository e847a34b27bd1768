"""What exact arithmetic costs: trainings in exact and in float32, in turn.

python benchmarks/precision.py
"""

import contextlib
import io
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

from stages.learning.training import Split, TrainingState, initial_state, train_epoch
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, load_split

ROUNDS = 15
# Beside what params.yaml says: as it is, and an epoch of each other model.
MODELS: dict[str, dict[str, Any]] = {
    "params.yaml": {},
    "mlp": {"model": "mlp", "width": 128, "epochs": 1, "log_every": 100},
    "cnn, width 16": {"model": "cnn", "width": 16, "epochs": 1, "log_every": 100},
    "cnn, width 26": {"model": "cnn", "width": 26, "epochs": 1, "log_every": 100},
}


def training(params: Train, train: Split, val: Split) -> tuple[TrainingState, float]:
    """Return the trained state and the CPU seconds that it took."""
    start = time.process_time()
    state = initial_state(params, train)
    with contextlib.redirect_stdout(io.StringIO()):
        while state.last.epoch < params.epochs:
            train_epoch([state], train, val, params)
    return state, time.process_time() - start


def compare(params: Train, train: Split, val: Split) -> str:
    """Return the CPU seconds of both, their ratio, and the accuracies, in words."""
    seconds: dict[str, list[float]] = {"exact": [], "float32": []}
    accuracy = {}
    for _ in range(1 + ROUNDS):  # the first is a warm-up
        for precision, times in seconds.items():
            changed = params.model_copy(update={"precision": precision})
            state, taken = training(changed, train, val)
            times.append(taken)
            accuracy[precision] = state.last.val_accuracy
    for times in seconds.values():
        del times[0]
    ratios = sorted(e / f for e, f in zip(seconds["exact"], seconds["float32"], strict=True))
    exact, float32 = (statistics.median(times) for times in seconds.values())
    return (
        f"{exact:.3f} s against {float32:.3f} s, ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}, n = {ROUNDS}), "
        f"val accuracy {accuracy['exact']:.4f} against {accuracy['float32']:.4f}"
    )


def main() -> None:
    params = load_params(Train, "train")
    (_, train), (_, val) = load_split(DATA["train"]), load_split(DATA["val"])
    for name, changes in MODELS.items():
        print(f"{name}: {compare(params.model_copy(update=changes), train, val)}", flush=True)


if __name__ == "__main__":
    main()
