"""What the same bits cost: trainings by samebits and by torch in float32, in turn.

python benchmarks/precision.py [NAME ...]    # ATEN_CPU_CAPABILITY=avx2 for less than the CPU has
"""

import json
import math
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

import samebits
from samebits import plain_float32
from stages.learning.models import ARITHMETIC, Model, predict
from stages.learning.training import Replicas, Split, accuracy
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, keep_freed_memory, load_split

ROUNDS = 15
# Beside what params.yaml says: as it is, and an epoch of each other model.
MODELS: dict[str, dict[str, Any]] = {
    "params.yaml": {},
    "mlp": {"model": "mlp", "width": 128, "epochs": 1},
    "cnn, width 16": {"model": "cnn", "width": 16, "epochs": 1},
    "cnn, width 26": {"model": "cnn", "width": 26, "epochs": 1},
}


class Unscored(Replicas):
    """A training without its accuracies."""

    def val_scores(self, model: Model) -> tuple[float, float]:
        return math.nan, math.nan

    def train_accuracy(self, model: Model) -> float:
        return math.nan


def training(params: Train, train: Split, val: Split) -> tuple[Replicas, float]:
    """Return a trained model, and the CPU seconds of its steps."""
    model = Unscored([0], [params.seed], train, val, params)
    start = time.process_time()
    while model.epochs_done < params.epochs:
        for _ in model.train_epoch():
            pass
    return model, time.process_time() - start


def compare(params: Train, train: Split, val: Split) -> tuple[list[float], str]:
    """Return the ratios of the CPU seconds, and these, their median and accuracies in words."""
    seconds: dict[str, list[float]] = {"samebits": [], "torch": []}
    modules = {"samebits": samebits, "torch": plain_float32}
    accuracies = {}
    for _ in range(1 + ROUNDS):  # the first is a warm-up
        for name, times in seconds.items():
            ARITHMETIC["cpu"] = modules[name]
            trained, taken = training(params, train, val)
            times.append(taken)
            accuracies[name] = accuracy(predict(trained.model, val.images), val.labels)
    for times in seconds.values():
        del times[0]
    ratios = sorted(ours / torchs for ours, torchs in zip(*seconds.values(), strict=True))
    ours, torchs = (statistics.median(times) for times in seconds.values())
    return ratios, (
        f"{ours:.3f} s against {torchs:.3f} s, ratio {statistics.median(ratios):.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f}, n = {ROUNDS}), "
        f"val accuracy {accuracies['samebits']:.4f} against {accuracies['torch']:.4f}"
    )


def main() -> None:
    names = sys.argv[1:] or list(MODELS)
    if unknown := set(names) - set(MODELS):
        sys.exit(f"no model {', '.join(unknown)}; name some of {', '.join(MODELS)}")
    keep_freed_memory()
    params = load_params(Train, "train")
    (_, train), (_, val) = load_split(DATA["train"]), load_split(DATA["val"])
    ratios = {}
    for name in names:
        ratios[name], words = compare(params.model_copy(update=MODELS[name]), train, val)
        print(f"{name}: {words}", flush=True)
    print(json.dumps(ratios))  # for benchmarks/bench.py


if __name__ == "__main__":
    main()
