"""How often a comparison is right, on real trainings whose truth is known.

Replicas of a few settings are trained on the first 2,000 images of MNIST, and score 32,500 other
ones. A trial takes some of the replicas and some of the images, compares, and looks whether the
interval has the difference that all replicas have on all images. A null compares replicas of one
setting with others of it. The bootstrap that was used before is measured beside today's closed
forms. With all models it takes half an hour on two idle cores. The files of MNIST have to be in a
folder.

    MNIST_MIRROR=/path/to/mnist python benchmarks/compare.py [linear] [mlp] [cnn]
"""

import bisect
import math
import os
import sys
from collections.abc import Callable, Iterator
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
from fairtrial.statistics.sequential import interim_results
from fairtrial.statistics.significance import (
    LEVEL,
    POWER,
    Array,
    Difference,
    difference,
    required_sample_size,
)
from stages.datasets.cards import read_card
from stages.datasets.idx import load_idx
from stages.learning.models import predict
from stages.learning.training import Replicas, Split
from stages.params import load_params
from stages.params.train import Train

TRIALS = 400
FIRST_SEED = 5_000
SEEDS = (2, 3, 5, 10)
IMAGES = (500, 2_500, 10_000)
FAMILY = 20  # settings that are compared with one
LOOKS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20)  # replicas of each, after which somebody looks
MIN_SHOWN = 0.004  # the smallest difference for which advice is tried
MAX_REPLICAS = 50  # of `until-decided`


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
    card = read_card(Path("sources/mnist.yaml"))
    splits, classes = load_idx(card), len(card.classes)
    images, labels = (torch.from_numpy(splits["train"][x].copy()) for x in ("images", "labels"))
    train = Split(images[:2_000], labels[:2_000].long(), classes)
    val = Split(images[2_000:2_500], labels[2_000:2_500].long(), classes)
    test = torch.from_numpy(splits["test"]["images"].copy())
    scored = torch.cat([images[2_500:25_000], test])
    truth = np.concatenate([splits["train"]["labels"][2_500:25_000], splits["test"]["labels"]])
    base = load_params(Train, "train").model_copy(update={"precision": "float32"})
    rows = []
    for seed in range(first, first + count):
        params = base.model_copy(update={**setting.changes, "seed": seed})
        trained = Replicas([0], [seed], train, val, params)
        while trained.epoch < params.epochs:
            for _ in trained.train_epoch():
                pass
        rows.append(predict(trained.model, scored).argmax(1).numpy() == truth)
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


def sample(cell: Cell, seeds: int, images: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Return what so many replicas of each side do on so many images, drawn at random."""
    rows = random.choice(len(cell.a), seeds, replace=False)
    others = rows if cell.is_paired else random.choice(len(cell.b), seeds, replace=False)
    columns = random.choice(cell.a.shape[1], images, replace=False)
    return cell.a[np.ix_(rows, columns)], cell.b[np.ix_(others, columns)]


def compare(cell: Cell, a: Array, b: Array) -> Difference:
    """Return the comparison of a sample of the cell."""
    return difference(a, b, True, len(a) if cell.is_paired else 0)


def measure(cell: Cell, seeds: int, images: int) -> list[dict[str, Any]]:
    """Return a row of the table: what the closed forms and the bootstrap came to."""
    random = np.random.default_rng(seeds * images)
    truth = cell.b.mean() - cell.a.mean()
    is_null = "null" in cell.name
    results = []
    for _ in range(TRIALS):
        a, b = sample(cell, seeds, images, random)
        diff = compare(cell, a, b)
        low, high = diff.interval()
        old_low, old_high, old_p = bootstrap(a, b, cell.is_paired)
        results.append(
            [
                *(low <= truth <= high, diff.p < LEVEL, diff.p < 0.0025),
                *(old_low <= truth <= old_high, old_p < LEVEL, old_p < 0.0025),
            ]
        )
    covered, called, small, *old = np.array(results).mean(0)
    return [
        {
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
    ]


def count_wrong(scored: Array, images: int, seeds: int) -> list[dict[str, Any]]:
    """Return how often equal settings, which differ in their seeds alone, are called different.

    Each row is another way to look at them more than once, or with too little.
    """
    random = np.random.default_rng(seeds)
    wrong = np.zeros((4, 2))
    for _ in range(TRIALS):
        rows = random.choice(len(scored), max((FAMILY + 1) * seeds, 2 * LOOKS[-1]), replace=False)
        columns = random.choice(scored.shape[1], images, replace=False)
        table = scored[np.ix_(rows, columns)]
        first, *others = np.split(table[: (FAMILY + 1) * seeds], FAMILY + 1)
        p_values = [difference(first, other, True, 0).p for other in others]
        old = [bootstrap(first, other, False)[2] for other in others]
        wrong[0] += min(p_values) * FAMILY < LEVEL, min(old) * FAMILY < LEVEL  # Holm's first step
        best = int(np.argmax([other.mean() for other in others]))
        is_better = others[best].mean() > first.mean()
        wrong[1] += (
            is_better and p_values[best] * FAMILY < LEVEL,
            is_better and old[best] < LEVEL,
        )
        a, b = table[: LOOKS[-1]], table[LOOKS[-1] : 2 * LOOKS[-1]]
        wrong[2] += (
            any(result.outcome != "undecided" for result in interim_results(a, b)),
            any(bootstrap(a[:count], b[:count], False)[2] < LEVEL for count in LOOKS),
        )
        wrong[3] += 0, bootstrap(a[:1], b[:1], False)[2] < LEVEL
    names = (
        (f"{FAMILY} settings against one, any called different", f"{seeds}"),
        (f"the best of {FAMILY}, called better by `--best-of {FAMILY}`", f"{seeds}"),
        (f"`until-decided`; before: {len(LOOKS)} looks while seeds are added", "2 to 20"),
        ("one seed on each side", "1"),
    )
    return [
        {
            "equal settings": name,
            "images": f"{images:,}",
            "seeds": count,
            "wrong %": percent(new) if count != "1" else "no verdict",
            "before": percent(old),
        }
        for (name, count), (new, old) in zip(names, wrong / TRIALS, strict=True)
    ]


def power(cell: Cell, seeds: int, images: int) -> float:
    """Return how often a true difference is shown."""
    random = np.random.default_rng(seeds + images)
    trials = [compare(cell, *sample(cell, seeds, images, random)) for _ in range(TRIALS)]
    return float(np.mean([diff.p < LEVEL for diff in trials]))


def smallest(power_of: Callable[[int], float], numbers: range) -> float:
    """Return the smallest number that has a power of 80 %, or infinity."""
    position = bisect.bisect_left(numbers, POWER, key=power_of)
    return numbers[position] if position < len(numbers) else math.inf


def or_more(number: float, limit: int) -> str:
    return f"more than {limit:,}" if number == math.inf else f"{number:,}"


def follow_advice(cell: Cell, seeds: int, images: int) -> list[dict[str, Any]]:
    """Return how often the number of seeds or images that a comparison names has a power of 80 %.

    The true difference is given to it, since its advice is for a difference of a given size.
    """
    random = np.random.default_rng(seeds + images)
    truth = float(cell.b.mean() - cell.a.mean())
    advice = [
        required_sample_size(
            compare(cell, *sample(cell, seeds, images, random))._replace(value=truth), seeds
        )
        for _ in range(TRIALS)
    ]
    by_seeds = [count for needed, count in advice if count is not None and needed is None]
    by_images = [needed for needed, count in advice if needed is not None and count is None]
    enough_seeds = smallest(lambda n: power(cell, n, images), range(2, MAX_REPLICAS))
    grid = range(images, cell.a.shape[1], images // 10)
    enough_images = smallest(lambda n: power(cell, seeds, n), grid)
    is_right = [n >= enough_seeds for n in by_seeds] + [n >= enough_images for n in by_images]
    typical = f"{np.median(by_seeds):.0f} seeds" if by_seeds else ""
    if len(by_images) > len(by_seeds):
        typical = f"{np.median(by_images):,.0f} images"
    return [
        {
            "advice for": cell.name.replace("true difference", f"{100 * truth:+.2f} points"),
            "images": f"{images:,}",
            "seeds": seeds,
            "advice, median": typical,
            "enough": f"{or_more(enough_seeds, MAX_REPLICAS)} seeds"
            if typical.endswith("seeds")
            else f"{or_more(enough_images, cell.a.shape[1])} images",
            "power is 80 % or more, %": percent(float(np.mean(is_right)), len(is_right))
            if is_right
            else "",
        }
    ]


def until_known(cell: Cell, images: int) -> list[dict[str, Any]]:
    """Return after how many replicas `until-decided` decides, and how many a fixed design needs."""
    random = np.random.default_rng(images)
    truth = cell.b.mean() - cell.a.mean()
    decided, wrong = [], 0
    for _ in range(TRIALS):
        rows = random.choice(min(len(cell.a), len(cell.b)), MAX_REPLICAS, replace=False)
        columns = random.choice(cell.a.shape[1], images, replace=False)
        known = interim_results(cell.a[np.ix_(rows, columns)], cell.b[np.ix_(rows, columns)])
        last = next((result for result in known if result.outcome != "undecided"), known[-1])
        decided.append(last.replicas)
        wrong += last.outcome == ("worse" if truth > 0 else "better")
    fixed = smallest(lambda n: power(cell, n, images), range(2, MAX_REPLICAS))
    return [
        {
            "until it is known": cell.name.replace("true difference", f"{100 * truth:+.2f} points"),
            "images": f"{images:,}",
            "replicas of each, median": f"{np.median(decided):.0f}",
            "a fixed design with a power of 80 %": or_more(fixed, MAX_REPLICAS),
            "wrong %": percent(wrong / TRIALS),
        }
    ]


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the range of each column over all models and numbers of images, by seeds."""

    def cell_range(column: "pd.Series[Any]") -> str:
        values = column[column != ""].str.split().str[0].astype(float)
        return "" if values.empty else f"{values.min()} to {values.max()}"

    kinds = frame["comparison"].str.partition(": ")[2].rename("comparison")
    groups = frame.drop(columns=["comparison", "images"]).groupby([kinds, "seeds"], sort=False)
    return groups.agg(cell_range).reset_index()


def print_table(frame: pd.DataFrame) -> None:
    print(frame.to_markdown(index=False, disable_numparse=True), end="\n\n", flush=True)


def percent(share: float, n: int = TRIALS) -> str:
    """Return a share of n trials in percent, with its 95 % Wilson interval."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(0.95, "wilson")
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
            name: 1.0 * np.concatenate([job.result() for job in of_setting])
            for name, of_setting in jobs.items()
        }
        all_cells = list(cells(scored, models))
        # Smaller differences would need more replicas than there are.
        different = [cell for cell in all_cells if abs(cell.b.mean() - cell.a.mean()) > MIN_SHOWN]
        paired = [cell for cell in different if cell.is_paired]
        tables = [
            [
                pool.submit(measure, cell, seeds, images)
                for cell in all_cells
                for images in IMAGES
                for seeds in SEEDS
            ],
            [
                pool.submit(count_wrong, next(iter(scored.values())), images, seeds)
                for images, seeds in ((500, 2), (500, 5), (2_500, 5), (10_000, 5))
            ],
            [
                pool.submit(follow_advice, cell, seeds, images)
                for cell in different
                for images, seeds in ((200, 10), (500, 3), (500, 5), (2_500, 5))
            ],
            [pool.submit(until_known, cell, images) for cell in paired for images in IMAGES],
        ]
        for table in tables:
            results = [job.result() for job in table]
            rows = [row for result in results for row in result]
            frame = pd.DataFrame(rows)
            if table is tables[0]:
                print_table(summarize(frame))
            print_table(frame)


if __name__ == "__main__":
    main()
