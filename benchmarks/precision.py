"""What exact arithmetic costs: the default training in exact and in float32, in turn.

python benchmarks/precision.py
"""

import contextlib
import io
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from stages.params import load
from stages.params.train import Train
from stages.train import DATA, Split, State, begin, read, train_epoch

ROUNDS = 15


def training(params: Train, train: Split, val: Split) -> tuple[State, float]:
    """Return the trained state and the CPU seconds that it took."""
    start = time.process_time()
    state = begin(params)
    with contextlib.redirect_stdout(io.StringIO()):
        while state.last.epoch < params.epochs:
            train_epoch(state, train, val, params)
    return state, time.process_time() - start


def main() -> None:
    params = load(Train, "train")
    train, val = read(DATA["train"]), read(DATA["val"])
    seconds: dict[str, list[float]] = {"exact": [], "float32": []}
    for _ in range(1 + ROUNDS):  # the first is a warm-up
        for precision, times in seconds.items():
            changed = params.model_copy(update={"precision": precision})
            state, taken = training(changed, train, val)
            times.append(taken)
            if len(times) == 1:
                print(f"{precision}: validation accuracy {state.last.val_accuracy:.4f}")
    for times in seconds.values():
        del times[0]
    for precision, times in seconds.items():
        print(f"{precision}: median {statistics.median(times):.3f} s of CPU, n = {ROUNDS}")
    ratios = sorted(e / f for e, f in zip(seconds["exact"], seconds["float32"], strict=True))
    print(
        f"ratio: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    main()
