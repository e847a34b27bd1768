"""Choices of the best, repeated looks and advice, on the trainings of `benchmarks/compare.py`."""

import bisect
import itertools
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import previous
from benchmarks.trainings import DEFAULT, GRID, TRIALS, Cell, Draws, load
from fairtrial.statistics.planning import POWER, required_sample_size
from fairtrial.statistics.sequential import interim_results
from fairtrial.statistics.significance import LEVEL, Array, Pairing, difference
from fairtrial.statistics.simultaneous import deviations, effective_number

FAMILY = len(GRID)  # settings of which the best is chosen
SEVERAL = {  # the first is compared with the others
    "equal": [DEFAULT] * (FAMILY + 1),
    "linear, 21 lr": [DEFAULT, *GRID],
    "mlp 32 and linear, 20 lr": ["mlp 32, lr 0.001", *GRID],
}
LOOKS = (2, 3, 4, 5, 6, 8, 10, 12, 14, 17, 20)  # replicas of each, after which somebody looks
MAX_REPLICAS = 50  # of `until-decided`

Row = dict[str, Any]


def search(images: int, seeds: int, is_null: bool, folder: Path) -> list[Row]:
    """Return how the best of 20 settings is judged against the default.

    It is chosen by val. Then either fresh replicas of both are compared on the same images, as
    `confirmed` does, or the same replicas on fresh images, as `compare --split test` does. In
    a null all are replicas of the default.
    """
    random = np.random.default_rng([images, seeds, is_null])
    tables = [load(folder, DEFAULT if is_null else name) for name in (DEFAULT, *GRID)]
    gains = [table.mean() - tables[0].mean() for table in tables]
    better = np.zeros((2, 2))  # on val or test, now or before
    for _ in range(TRIALS):
        # Equal settings get replicas of their own; others have the same seeds.
        shape = (len(tables) if is_null else 1, 2, seeds)
        rows = random.choice(min(map(len, tables)), math.prod(shape), replace=False)
        rows = np.broadcast_to(rows.reshape(shape), (len(tables), 2, seeds))
        val, test = random.integers(tables[0].shape[1], size=(2, images))
        means = [table[np.ix_(of, val)].mean() for table, (of, _) in zip(tables, rows, strict=True)]
        best = 1 + int(np.argmax(means[1:]))
        for split, images_of_split in enumerate((val, test)):
            a, b = (
                tables[at][np.ix_(rows[at, 1 - split], images_of_split)].astype(float)
                for at in (0, best)
            )
            diff = difference(a, b, Pairing.of_same_examples(images, not is_null))
            diff = diff.corrected(FAMILY, examples=split == 0, seeds=split == 1)
            before = previous.difference(a, b, True, 0 if is_null else seeds)
            lows = diff.interval()[0], before.interval(1 if split else FAMILY)[0]
            better[split] += [low > 0 for low in lows]
    confirmed, on_test = better / TRIALS
    return [
        {
            "settings": "equal" if is_null else f"gains to {100 * max(gains):.1f} points",
            "images": images,
            "seeds": seeds,
            "confirmed: better": confirmed[0],
            "confirmed: better before": confirmed[1],
            "on test: better": on_test[0],
            "on test: better before": on_test[1],
        }
    ]


def count_wrong(images: int, seeds: int, folder: Path) -> list[Row]:
    """Return how often equal settings, which differ in their seeds alone, are called different.

    Each row is another way to look at them more than once.
    """
    random = np.random.default_rng([images, seeds])
    scored = load(folder, DEFAULT)
    pairing = Pairing.of_same_examples(images, same_seeds=False)
    wrong = np.zeros((3, 2))
    for _ in range(TRIALS):
        rows = random.choice(len(scored), max((FAMILY + 1) * seeds, 2 * LOOKS[-1]), replace=False)
        columns = random.integers(scored.shape[1], size=images)
        table = scored[np.ix_(rows, columns)].astype(float)
        first, *others = np.split(table[: (FAMILY + 1) * seeds], FAMILY + 1)
        p = np.array(
            [
                (difference(first, b, pairing).p, previous.difference(first, b, True, 0).p)
                for b in others
            ]
        )
        arms = [
            deviations(
                one, np.arange(images), None, np.arange(seeds) + at * seeds, table.shape[::-1]
            )
            for at, one in enumerate((first, *others))
        ]
        worth = effective_number(np.array([arms]), [(0, at) for at in range(1, FAMILY + 1)])
        wrong[0] += p.min(0) * [worth, FAMILY] < LEVEL
        best = int(np.argmax([other.mean() for other in others]))
        wrong[1] += (others[best].mean() > first.mean()) & (p[best] * FAMILY < LEVEL)
        a, b = table[: LOOKS[-1]], table[LOOKS[-1] : 2 * LOOKS[-1]]
        wrong[2] += (
            any(result.outcome != "undecided" for result in interim_results(a, b)),
            any(previous.difference(a[:r], b[:r], True, 0).p < LEVEL for r in LOOKS),
        )
    names = (
        (f"{FAMILY} settings against one, any called different", f"{seeds}"),
        (f"the best of {FAMILY}, called better by `--best-of {FAMILY}`", f"{seeds}"),
        (f"`until-decided`; before: {len(LOOKS)} looks at `compare`", "2 to 20"),
    )
    return [
        {
            "equal settings": name,
            "images": images,
            "seeds": count,
            "wrong": new,
            "wrong before": old,
        }
        for (name, count), (new, old) in zip(names, wrong / TRIALS, strict=True)
    ]


def together(settings: str, kind: str, all_pairs: bool, images: int, folder: Path) -> list[Row]:
    """Return how often all intervals of several settings, of 5 replicas each, have the truth.

    settings: those of `SEVERAL`. The first is compared with 20 others, or all pairs of ten are
    compared. Before is Bonferroni's correction.
    """
    random = np.random.default_rng([zlib.crc32(settings.encode()), len(kind), all_pairs, images])
    seeds, count = 5, 10 if all_pairs else FAMILY + 1
    tables = [load(folder, name) for name in SEVERAL[settings][:count]]
    if kind == "pairs":  # the truth is that of the replicas that are drawn
        tables = [table[: min(map(len, tables))] for table in tables]
    pairs = list(itertools.combinations(range(count), 2))[: None if all_pairs else FAMILY]
    truths = [tables[j].mean() - tables[i].mean() for i, j in pairs]
    pairing, units = Pairing.of_same_examples(images, kind == "pairs"), np.arange(images)
    numbers = np.arange(count * seeds).reshape(count, seeds)  # of the replicas
    if kind == "pairs":
        numbers = np.broadcast_to(numbers[0], numbers.shape)
    results: list[list[Any]] = []
    for _ in range(TRIALS):
        rows = np.array([random.permutation(len(table))[:seeds] for table in tables])
        if kind == "pairs":
            rows = np.broadcast_to(rows[0], rows.shape)
        elif kind == "null":
            rows = random.permutation(len(tables[0]))[: rows.size].reshape(rows.shape)
        columns = random.integers(tables[0].shape[1], size=images)
        scores = [
            table[np.ix_(of, columns)].astype(float) for table, of in zip(tables, rows, strict=True)
        ]
        arms = [
            deviations(one, units, None, of, (images, numbers.size))
            for one, of in zip(scores, numbers, strict=True)
        ]
        worth = effective_number(np.array([arms]), pairs)
        diffs = [difference(scores[i], scores[j], pairing) for i, j in pairs]
        results.append([worth])
        for number in (worth, len(pairs)):
            limits = [diff.interval(number) for diff in diffs]
            results[-1] += [
                all(low <= x <= high for (low, high), x in zip(limits, truths, strict=True)),
                np.mean([low > 0 or high < 0 for low, high in limits]),
                np.mean([high - low for low, high in limits]),
            ]
    worth, *now, right, called, width = np.mean(results, 0)
    return [
        {
            "settings": settings,
            "kind": kind,
            "images": images,
            "comparisons": len(pairs),
            "worth": round(float(worth), 1),
            "all: coverage": now[0],
            "all: coverage before": right,
            "called different": now[1],
            "called different before": called,
            "narrower": 1 - now[2] / width,
        }
    ]


def power(cell: Cell, folder: Path) -> Array:
    """Return how often a true difference is shown, now and before."""
    draws = Draws(cell, folder)
    trials = [[diff.p < LEVEL for diff in draws.compare()] for _ in range(TRIALS)]
    shares: Array = np.mean(trials, 0)
    return shares


def smallest(power_of: Callable[[int], float], numbers: range) -> float:
    """Return the smallest number that has a power of 80 %, or infinity."""
    position = bisect.bisect_left(numbers, POWER, key=power_of)
    return numbers[position] if position < len(numbers) else math.inf


def enough_seeds(cell: Cell, tool: int, folder: Path) -> float:
    return smallest(
        lambda n: float(power(cell._replace(seeds=(n, n)), folder)[tool]), range(2, MAX_REPLICAS)
    )


def follow_advice(cell: Cell, folder: Path) -> list[Row]:
    """Return how often the number of seeds that a comparison names has a power of 80 %.

    The true difference is given to it, since its advice is for a difference of a given size.
    """
    draws = Draws(cell, folder)
    trials = [draws.compare() for _ in range(TRIALS)]
    results: dict[str, list[float]] = {"it names": [], "enough": [], "right": []}
    for tool in range(2):
        advice = [
            required_sample_size(both[tool]._replace(value=draws.truth), cell.seeds[0])
            for both in trials
        ]
        named = [seeds for images, seeds in advice if seeds is not None and images is None]
        enough = enough_seeds(cell, tool, folder)
        results["it names"].append(float(np.median(named)) if named else math.nan)
        results["enough"].append(enough)
        results["right"].append(float(np.mean(np.array(named) >= enough)) if named else math.nan)
    row: Row = {
        "settings": f"{cell.a} and {cell.b}",
        "difference": draws.truth,
        "kind": cell.kind,
        "images": cell.images,
        "seeds": cell.seeds[0],
    }
    for name, (now, before) in results.items():
        row |= {name: now, f"{name} before": before}
    return [row]


def until_known(cell: Cell, folder: Path) -> list[Row]:
    """Return after how many replicas `until-decided` decides, and how many a fixed design needs."""
    draws = Draws(cell, folder)
    decided, wrong = [], 0
    for _ in range(TRIALS):
        known = interim_results(*draws.draw()[:2])
        last = next((result for result in known if result.outcome != "undecided"), known[-1])
        decided.append(last.replicas)
        wrong += last.outcome == ("worse" if draws.truth > 0 else "better")
    return [
        {
            "settings": f"{cell.a} and {cell.b}",
            "difference": draws.truth,
            "images": cell.images,
            "replicas": np.median(decided),
            "fixed design": enough_seeds(cell, 0, folder),
            "wrong": wrong / TRIALS,
        }
    ]
