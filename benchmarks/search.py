"""How much of the gain of a grid a search finds, in a fifth of its CPU time.

python benchmarks/search.py [SEARCHES]     # 20 of each sampler: an hour of CPU time

The grid has 200 points of the default model: 20 learning rates, 5 weight decays, 2 optimizers. A
search has the same ranges, halving, and a fifth of the CPU seconds that the grid took. The gain is
the accuracy on val of what was found, beyond that of the default, both from 20 fresh seeds.
"""

import contextlib
import io
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ["OMP_NUM_THREADS"] = "1"  # as a worker of a sweep has

from fairtrial.cluster.client import CodeLocation
from fairtrial.cluster.run_point import run_point
from fairtrial.project.contract import Contract, read_contract
from fairtrial.project.pipeline import read_pipeline
from fairtrial.search.goal import Goal
from fairtrial.search.optuna_search import SearchOptions, best_first, read_rungs, search
from fairtrial.search.point_runner import PointRunner
from fairtrial.search.points import Point, PointMaker
from fairtrial.search.space import parse_space
from fairtrial.sweep import ROUND, SAMPLERS

ROOT = Path(__file__).parent.parent
RANGES = [
    "train.lr=interval(0.0001,1)",
    "train.weight_decay=interval(0,0.1)",
    "train.optimizer=sgd,adam",
]
GRID = [
    "train.lr=" + ",".join(f"{10 ** (-4 + 4 * number / 19):.4g}" for number in range(20)),
    "train.weight_decay=0.0,0.001,0.01,0.03,0.1",
    "train.optimizer=sgd,adam",
]
FRACTIONS = (0.1, 0.2)  # of the grid's CPU seconds
TRIALS = 108  # take about a fifth of them
FRESH = ["train.seed=12345", "train.replicas=20"]


class InProcess(PointRunner):
    """Computes points in this process, in the clone it is in, and takes their CPU seconds."""

    def compute(self, points: list[Point], label: str | None = None) -> None:
        params = Path("params.yaml").read_text()
        for point in points:
            if point.key in self.rows:
                continue
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                result = run_point(point.params, pull=False, states=self.location.states)
            seconds = time.process_time() - start
            self.rows[point.key] = {**result, "seconds": seconds}
        Path("params.yaml").write_text(params)  # from which the next points are made

    def value(self, point: Point) -> float:
        return self.goal.value(self.rows[point.key])


def in_process(contract: Contract, states: str | None = None) -> InProcess:
    location = CodeLocation("", "", "", None, states)
    goal = Goal(contract, contract.default_metric)
    return InProcess({}, io.BytesIO(), location, None, 1, goal, contextlib.ExitStack())


def best_of_grid(maker: PointMaker) -> tuple[list[str], float]:
    """Return the overrides of the best point of the grid, and the CPU seconds of the grid."""
    runner = in_process(maker.contract)
    points, _ = maker.make(parse_space(GRID, {}).grid())
    runner.compute(points)
    best = max(points, key=runner.value)
    print(f"grid: {len(points)} points, best {runner.value(best):.4f} {best.overrides}")
    return best.overrides, sum(row["seconds"] for row in runner.rows.values())


def best_of_search(
    sampler: str, seed: int, limits: list[float], maker: PointMaker
) -> list[list[str]]:
    """Return the overrides of the best trial within each limit of CPU seconds."""
    with tempfile.TemporaryDirectory() as states, contextlib.redirect_stdout(io.StringIO()):
        runner = in_process(maker.contract, states)
        space = parse_space(RANGES, {})
        rungs = read_rungs(space, maker, halving=True)
        options = SearchOptions(TRIALS, SAMPLERS[sampler], seed, ROUND, halving=True)
        trials = search(space, options, rungs, maker, runner)
    seconds = itertools.accumulate(row["seconds"] for row in runner.rows.values())
    ends = dict(zip(runner.rows, seconds, strict=True))  # when each point had its result
    trials = [trial for trial in trials if trial.points]
    return [
        best_first([one for one in trials if ends[one.points[-1].key] < limit], runner)[0].overrides
        for limit in limits
    ]


def true_accuracy(overrides: list[str], maker: PointMaker) -> float:
    """Return the mean accuracy on val over fresh seeds."""
    [point], _ = maker.make([[*overrides, *FRESH]])
    runner = in_process(maker.contract)
    runner.compute([point])
    return runner.value(point)


def main() -> None:
    searches = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, check=True, capture_output=True)
        with contextlib.chdir(folder):
            contract = read_contract()
            maker = PointMaker(read_pipeline(contract), contract)
            in_process(contract).compute(maker.make([["train.lr=0.02"]])[0])  # imports torch
            overrides, seconds = best_of_grid(maker)
            default, best = (true_accuracy(one, maker) for one in ([], overrides))
            print(
                f"CPU seconds {seconds:.0f}; on fresh seeds default {default:.4f}, best {best:.4f}"
            )
            print("| sampler | of the grid's CPU time | gain, median | 10 % | 90 % | reach 99 % |")
            print("|---|---|---|---|---|---|")
            limits = [fraction * seconds for fraction in FRACTIONS]
            for sampler in SAMPLERS:
                found = [best_of_search(sampler, seed, limits, maker) for seed in range(searches)]
                for fraction, of_fraction in zip(FRACTIONS, zip(*found, strict=True), strict=True):
                    gains = sorted(
                        100 * (true_accuracy(one, maker) - default) / (best - default)
                        for one in of_fraction
                    )
                    low, *_, high = statistics.quantiles(gains, n=10)
                    reached = sum(gain >= 99 for gain in gains)
                    cells = (
                        sampler,
                        f"{fraction:g}",
                        *(f"{one:.1f} %" for one in (statistics.median(gains), low, high)),
                        f"{reached} of {searches}",
                    )
                    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
