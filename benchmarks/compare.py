"""How often a comparison is right, on real trainings whose truth is known.

Replicas of a few settings are trained on the first 2,000 images of MNIST, and score 32,500 other
ones. A trial takes some of the replicas and some of the images, compares, and looks whether the
interval has the difference that all replicas have on all images. A null compares replicas of one
setting with others of it. The bootstrap that was used before is measured beside today's closed
forms. With all models it takes half an hour on two idle cores. The files of MNIST have to be in a
folder.

    MNIST_MIRROR=/path/to/mnist python benchmarks/compare.py [linear] [mlp] [cnn]
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

import numpy as np
import pandas as pd
import torch
from scipy import stats

from benchmarks.bootstrap import bootstrap
from stages.datasets.download import download_dataset
from stages.learning.models import predict
from stages.learning.training import Split, initial_state, train_epoch
from stages.params import load_params
from stages.params.train import Train
from tools.analysis.significance import LEVEL, Array, difference

TRIALS = 400
FIRST_SEED = 5_000
SEEDS = (2, 3, 5, 10)
IMAGES = (500, 2_500, 10_000)
FAMILY = 20  # settings that are compared with one


class Setting(NamedTuple):
    name: str
    replicas: int
    changes: dict[str, Any]


MLP = {"model": "mlp", "width": 32, "optimizer": "adam", "epochs": 5}
CNN = {"model": "cnn", "width": 2, "optimizer": "adam", "epochs": 2}
SETTINGS = [
    Setting("linear, lr 0.01", 800, {}),
    Setting("linear, lr 0.012", 400, {"lr": 0.012}),
    Setting("mlp, lr 0.001", 400, {**MLP, "lr": 0.001}),
    Setting("mlp, lr 0.0012", 400, {**MLP, "lr": 0.0012}),
    Setting("cnn, lr 0.01", 100, {**CNN, "lr": 0.01}),
    Setting("cnn, lr 0.012", 100, {**CNN, "lr": 0.012}),
]


def train_replicas(setting: Setting, first: int, count: int) -> Array:
    """Return which of 32,500 images the replicas classify correctly, bool (count, 32500)."""
    splits = download_dataset("mnist")
    images, labels = (torch.from_numpy(splits["train"][x].copy()) for x in ("images", "labels"))
    train = Split(images[:2_000], labels[:2_000].long())
    val = Split(images[2_000:2_500], labels[2_000:2_500].long())
    test = torch.from_numpy(splits["test"]["images"].copy())
    scored = torch.cat([images[2_500:25_000], test])
    truth = np.concatenate([splits["train"]["labels"][2_500:25_000], splits["test"]["labels"]])
    base = load_params(Train, "train").model_copy(update={"precision": "float32"})
    rows = []
    for seed in range(first, first + count):
        params = base.model_copy(update={**setting.changes, "seed": seed})
        state = initial_state(params)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for _ in range(params.epochs):
                train_epoch(state, train, val, params, record_history=False)
        rows.append(predict(state.model, scored).argmax(1).numpy() == truth)
    return np.array(rows)


class Cell(NamedTuple):
    """Pairs of replicas to compare: the same row of `a` and `b` is the same seed if paired."""

    name: str
    a: Array
    b: Array
    is_paired: bool


def cells(scored: dict[str, Array], models: list[str]) -> Iterator[Cell]:
    for model in models:
        first, second = (of for name, of in scored.items() if name.startswith(model))
        half = len(second) // 2
        yield Cell(f"{model}: true difference, paired", first[: len(second)], second, True)
        yield Cell(f"{model}: true difference, unpaired", first[:half], second[half:], False)
        yield Cell(f"{model}: null, unpaired", first[:half], first[half : 2 * half], False)


def measure(cell: Cell, seeds: int, images: int) -> dict[str, Any]:
    """Return a row of the table: what the closed forms and the bootstrap came to."""
    random = np.random.default_rng(seeds * images)
    truth = cell.b.mean() - cell.a.mean()
    is_null = "null" in cell.name
    results = []
    for _ in range(TRIALS):
        rows = random.choice(len(cell.a), seeds, replace=False)
        others = rows if cell.is_paired else random.choice(len(cell.b), seeds, replace=False)
        columns = random.choice(cell.a.shape[1], images, replace=False)
        a, b = cell.a[np.ix_(rows, columns)], cell.b[np.ix_(others, columns)]
        diff = difference(a, b, True, [(i, i) for i in range(seeds)] if cell.is_paired else [])
        low, high = diff.interval()
        old_low, old_high, old_p = bootstrap(a, b, cell.is_paired)
        results.append(
            [
                *(low <= truth <= high, diff.p < LEVEL, diff.p < 0.0025),
                *(old_low <= truth <= old_high, old_p < LEVEL, old_p < 0.0025),
            ]
        )
    covered, called, small, *old = np.mean(results, 0)
    return {
        "comparison": cell.name,
        "images": f"{images:,}",
        "seeds": seeds,
        "coverage %": percent(covered),
        "before": f"{100 * old[0]:.1f}",
        "called different %": f"{100 * called:.1f}",
        "before ": f"{100 * old[1]:.1f}",
        "p < 0.0025 %": f"{100 * small:.1f}" if is_null else "",
        "before  ": f"{100 * old[2]:.1f}" if is_null else "",
    }


def family(scored: Array, seeds: int, images: int) -> dict[str, Any]:
    """Return how often any of twenty settings that differ in seeds alone is called different."""
    random = np.random.default_rng(seeds)
    wrong, old_wrong = 0, 0
    for _ in range(TRIALS):
        rows = random.choice(len(scored), (FAMILY + 1) * seeds, replace=False)
        columns = random.choice(scored.shape[1], images, replace=False)
        first, *others = np.split(scored[np.ix_(rows, columns)], FAMILY + 1)
        p_values = [difference(first, other, True, []).p for other in others]
        wrong += min(p_values) * FAMILY < LEVEL
        old = min(bootstrap(first, other, False)[2] for other in others)
        old_wrong += old * FAMILY < LEVEL  # Holm's first step
    return {
        "twenty nulls": f"{images:,} images",
        "seeds": seeds,
        "any called different %": percent(wrong / TRIALS),
        "before": percent(old_wrong / TRIALS),
    }


def percent(share: float) -> str:
    interval = stats.binomtest(round(share * TRIALS), TRIALS).proportion_ci(0.95, "wilson")
    return f"{100 * share:.1f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def main() -> None:
    models = sys.argv[1:] or ["linear", "mlp", "cnn"]
    if unknown := set(models) - {"linear", "mlp", "cnn"}:
        print(f"no model {', '.join(unknown)}: name linear, mlp or cnn", file=sys.stderr)
        sys.exit(2)
    with ProcessPoolExecutor() as pool:
        jobs = {
            setting.name: [
                pool.submit(train_replicas, setting, FIRST_SEED + start, 50)
                for start in range(0, setting.replicas, 50)
            ]
            for setting in SETTINGS
            if setting.name.startswith(tuple(models))
        }
        scored = {
            name: np.concatenate([job.result() for job in of_setting])
            for name, of_setting in jobs.items()
        }
        families = [
            pool.submit(family, next(iter(scored.values())), seeds, images)
            for images in IMAGES[:2]
            for seeds in (2, 5)
        ]
        rows = [
            pool.submit(measure, cell, seeds, images)
            for cell in cells(scored, models)
            for images in IMAGES
            for seeds in SEEDS
        ]
        for table in (rows, families):
            frame = pd.DataFrame([job.result() for job in table])
            print(frame.to_markdown(index=False, disable_numparse=True), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
