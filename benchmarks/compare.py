"""How often a comparison is right, on real trainings whose truth is known.

A trial takes some of the replicas of two settings and some of 25,000 images that they score,
compares, and looks whether the interval has the difference that all replicas have on all images.
Images are drawn with replacement, so that the 25,000 are all that there are. A null compares
replicas of one setting with others of it. "Before" is the comparison of `benchmarks/previous.py`,
by the same draws. The files of MNIST have to be in a folder; all takes less than an hour on two
idle cores.

    MNIST_MIRROR=/path/to/mnist python benchmarks/compare.py
"""

import math
import sys
import tempfile
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd

from benchmarks.choices import (
    MAX_REPLICAS,
    Row,
    count_wrong,
    follow_advice,
    search,
    together,
    until_known,
)
from benchmarks.trainings import DEFAULT, DIGIT, TRIALS, Cell, Draws, train_all
from fairtrial.statistics.significance import LEVEL, wilson_interval

SEEDS = (2, 3, 5, 10)
IMAGES = (500, 2_500, 10_000)
UNEQUAL = ((5, 100), (3, 12), (12, 3), (2, 12))

NEARLY_EQUAL, DIFFERENT, UNSTABLE = "nearly equal", "different", "unstable"
LINEAR = (DIFFERENT, DEFAULT, "linear, lr 0.012")
CLOSE = (NEARLY_EQUAL, DEFAULT, "linear, lr 0.0101")
MLP = (DIFFERENT, "mlp 32, lr 0.001", "mlp 32, lr 0.0012")
CLOSE_MLP = (NEARLY_EQUAL, "mlp 48, lr 0.001", "mlp 48, lr 0.0011")
WILD = (UNSTABLE, "linear, lr 0.3", "linear, lr 1.0")
UNLIKE = (DIFFERENT, "mlp 32, lr 0.001", "linear, lr 0.012")
MSE = (DIFFERENT, "mse, lr 0.01", "mse, lr 0.012")
CNN = (DIFFERENT, "cnn, lr 0.01", "cnn, lr 0.012")
COMPARED = (CLOSE, CLOSE_MLP, LINEAR, WILD, MSE, MLP, CNN)

SEVERAL_AT_ONCE = (  # settings, kind, whether all pairs are compared
    ("equal", "null", False),
    ("linear, 21 lr", "pairs", False),
    ("linear, 21 lr", "strangers", False),
    ("mlp 32 and linear, 20 lr", "pairs", False),
    ("mlp 32 and linear, 20 lr", "strangers", False),
    ("equal", "null", True),
    ("linear, 21 lr", "pairs", True),
)

SHARES = (
    "coverage",
    "called different",
    "better",
    "wrong",
    "right",
    "narrower",
)  # columns: of the trials
SUMMARIES = {  # the columns by which the cells of a table are summarized
    "one metric": ["kind", "trainings", "seeds"],
    "unequal numbers": ["kind", "trainings"],
    "other metrics": ["metric", "kind"],
    "images of one side only": ["overlap"],
    "groups of images": ["kind", "images"],
}


def cell(compared: tuple[str, str, str], kind: str, *rest: Any, **others: Any) -> Cell:
    like, a, b = compared
    return Cell(like, b if kind == "null" else a, b, kind, *rest, **others)


def tables_of_cells() -> dict[str, list[Cell]]:
    kinds, few = ("pairs", "strangers", "null"), IMAGES[:2]
    metrics = ("cross_entropy", "balanced accuracy", f"recall of {DIGIT}")
    return {
        "one metric": [
            cell(compared, kind, (seeds, seeds), images)
            for compared, kind, seeds in product(COMPARED, kinds, SEEDS)
            for images in ((100, 200, *IMAGES) if compared == CLOSE else IMAGES)
        ],
        "unequal numbers": [
            cell(compared, kind, seeds, images)
            for compared, kind, seeds, images in product(
                (CLOSE, LINEAR, UNLIKE, WILD), ("pairs", "null"), UNEQUAL, few
            )
            if (compared, kind) != (UNLIKE, "null")
        ],
        "other metrics": [
            cell(compared, kind, (seeds, seeds), images, metric)
            for metric, compared, kind, seeds, images in product(
                metrics, (CLOSE_MLP, LINEAR), ("pairs", "null"), SEEDS, few
            )
        ],
        "images of one side only": [
            cell(compared, "pairs", (seeds, seeds), images, overlap=overlap)
            for overlap, compared, seeds, images in product(
                (0.98, 0.9, 0.5, 0.1, 0.0), (CLOSE_MLP, LINEAR), (3, 5), few
            )
        ],
        "groups of images": [
            cell(compared, kind, (seeds, seeds), images, in_groups=True)
            for compared, kind, seeds, images in product(
                (CLOSE_MLP, LINEAR), kinds[:2], (3, 5), few
            )
        ],
    }


def measure(table: str, cell: Cell, folder: Path) -> list[Row]:
    """Return how both comparisons judge a cell, in shares of the trials.

    A width is divided by that of an oracle, which knows the variance of the estimates.
    """
    draws = Draws(cell, folder)
    values: list[float] = []
    results: list[list[float]] = []
    for _ in range(TRIALS):
        both = draws.compare()
        values.append(both[0].value)
        results.append([])
        for diff in both:
            low, high = diff.interval()
            results[-1] += [low <= draws.truth <= high, diff.p < LEVEL, (high - low) / 2]
    shares, widths = np.mean(results, 0), np.median(results, 0) / (1.96 * np.std(values))
    row: Row = {
        "table": table,
        **cell._asdict(),
        "seeds": " v ".join(map(str, dict.fromkeys(cell.seeds))),
        "difference": draws.truth,
        "coverage": shares[0],
        "coverage before": shares[3],
        "called different": shares[1],
        "called different before": shares[4],
        "width": widths[2],
        "width before": widths[5],
    }
    if cell.metric == "balanced accuracy":  # it had no such metric
        row |= dict.fromkeys(("coverage before", "called different before", "width before"))
    return [row]


def aims(cells: pd.DataFrame, searches: pd.DataFrame) -> pd.DataFrame:
    """Return in how many cells each aim is missed, and in how many by more than chance explains."""
    is_wild, is_null = cells["like"] == UNSTABLE, cells["kind"] == "null"
    is_many = (cells["images"] >= 500) & (cells["seeds"] != "2")
    is_close = (cells["table"] == "one metric") & (cells["like"] == NEARLY_EQUAL) & is_many
    is_equal = searches["settings"] == "equal"
    coverage, called = cells["coverage"], cells["called different"]
    is_power = ~is_null & ~is_wild & ~cells["in_groups"]
    more = (called - cells["called different before"])[is_power].dropna()
    rows = []
    for aim, values, low, high in (
        ("coverage", coverage[~is_wild], 0.935, 0.985),
        ("coverage, unstable trainings", coverage[is_wild], 0.935, 0.985),
        ("nulls called different", called[is_null & ~is_wild], 0, 0.05),
        ("nulls called different, unstable trainings", called[is_null & is_wild], 0, 0.05),
        ("best of 20 equal settings confirmed", searches["confirmed: better"][is_equal], 0, 0.03),
        ("best of 20 unequal ones confirmed", searches["confirmed: better"][~is_equal], 0.6, 1),
        ("best of 20 equal ones better on test", searches["on test: better"][is_equal], 0, 0.05),
        ("width in nearly equal cases / oracle's", cells["width"][is_close], 0, 1.5),
        ("called different more often than before", more, 0, 1),
    ):
        below, above = values < low, values > high
        beyond = ["", ""]
        if values.between(0, 1).all():  # widths and differences are no shares
            brackets = [wilson_interval(x * TRIALS, TRIALS) for x in values]
            beyond[0] = f" ({sum(y < low for _, y in brackets)})"
            beyond[1] = f" ({sum(x > high for x, _ in brackets)})"
        rows.append(
            {
                "aim": aim,
                "from %": f"{100 * low:.1f}",
                "to %": f"{100 * high:.1f}",
                "median (least to most)": span(100 * values),
                "cells": len(values),
                "below": f"{below.sum()}{beyond[0]}",
                "above": f"{above.sum()}{beyond[1]}",
            }
        )
    return pd.DataFrame(rows)


def kind_of(column: str) -> str:
    """Return what the numbers of a column are."""
    return column.removesuffix(" before").split(": ")[-1]


def text(column: str, value: Any) -> str:
    """Return a value of a table; a share of the trials has its 95 % Wilson interval."""
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return ""
    if kind_of(column) in ("right", "narrower"):  # not of all trials
        return f"{100 * value:.1f}"
    if kind_of(column) in SHARES:
        low, high = (100 * limit for limit in wilson_interval(value * TRIALS, TRIALS))
        return f"{100 * value:.1f} [{low:.0f}, {high:.0f}]"
    if column == "difference":
        return f"{100 * value:+.2f}"
    if value == math.inf:
        return f"more than {MAX_REPLICAS - 1}"
    return f"{value:,.2f}" if kind_of(column) == "width" else f"{value:,.6g}"


def span(values: "pd.Series[Any]", digits: int = 1) -> str:
    """Return the median of numbers, and their range."""
    low, middle, high = (f"{x:.{digits}f}" for x in values.quantile([0, 0.5, 1]))
    return "" if values.isna().all() else f"{middle} ({low} to {high})"


def summarize(cells: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the median and the range of each column over the cells of each group."""
    spans = {
        name: (lambda x: span(100 * x)) if kind_of(name) in SHARES else (lambda x: span(x, 2))
        for name in cells
        if kind_of(name) in (*SHARES, "width")
    }
    trainings = np.where(cells["like"] == UNSTABLE, "unstable", "stable")
    groups = cells.assign(trainings=trainings).groupby(by, sort=False)
    return groups.agg(spans).reset_index()


def print_table(frame: pd.DataFrame) -> None:
    shown = pd.DataFrame({name: [text(name, x) for x in frame[name]] for name in frame})
    shown.columns = [
        "before" if name.endswith(" before") else name + " %" * (kind_of(name) in SHARES)
        for name in frame
    ]
    print(shown.to_markdown(index=False, disable_numparse=True), end="\n\n", flush=True)


def print_all(
    cells: pd.DataFrame,
    searches: pd.DataFrame,
    looks: pd.DataFrame,
    several: pd.DataFrame,
    advised: pd.DataFrame,
    decided: pd.DataFrame,
) -> None:
    """Print all tables, first whether the aims are met, last each cell."""
    print_table(aims(cells, searches))
    for table, by in SUMMARIES.items():
        print_table(summarize(cells[cells["table"] == table], by))
    is_close = (cells["a"] == CLOSE[1]) & (cells["b"] == CLOSE[2]) & (cells["kind"] == "pairs")
    print_table(summarize(cells[is_close & (cells["table"] == "one metric")], ["images"]))
    for frame in (searches, looks, several, advised, decided):
        print_table(frame)
    for table, of_table in cells.groupby("table", sort=False):
        print(f"### {table}\n")
        print_table(of_table.drop(columns=["table", "in_groups"]))


def main() -> None:
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor() as pool:
        folder = Path(name)
        train_all(pool, folder)
        tables: list[list[Future[list[Row]]]] = [
            [
                pool.submit(measure, table, cell, folder)
                for table, cells in tables_of_cells().items()
                for cell in cells
            ],
            [
                pool.submit(search, images, seeds, is_null, folder)
                for is_null, seeds, images in product((True, False), (3, 5), IMAGES)
            ],
            [
                pool.submit(count_wrong, images, seeds, folder)
                for images, seeds in ((500, 2), (500, 5), (2_500, 5), (10_000, 5))
            ],
            [
                pool.submit(together, settings, kind, all_pairs, images, folder)
                for images in IMAGES[:2]
                for settings, kind, all_pairs in SEVERAL_AT_ONCE
            ],
            [
                pool.submit(follow_advice, cell(compared, kind, (seeds, seeds), 500), folder)
                for compared, kind, seeds in product((LINEAR, MLP), ("pairs", "strangers"), (3, 5))
            ],
            [
                pool.submit(until_known, cell(two, "pairs", (MAX_REPLICAS,) * 2, images), folder)
                for two, images in product((LINEAR, MLP), IMAGES)
            ],
        ]
        print_all(*(pd.DataFrame([row for job in jobs for row in job.result()]) for jobs in tables))


if __name__ == "__main__":
    main()
