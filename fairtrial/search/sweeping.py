"""Compute a grid or a search: from the settings to the table, the chart and the experiments."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fairtrial.cluster.client import SchedulerLostError, code_location
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.lock import PARAMS
from fairtrial.project.pipeline import read_pipeline
from fairtrial.project.revisions import flatten
from fairtrial.project.sweeps import SWEEPS, record_chosen
from fairtrial.project.yaml_reader import parse_yaml, read_yaml
from fairtrial.search.chart import draw_chart, sweep_plots
from fairtrial.search.confirmation import confirm
from fairtrial.search.execution import PointRunner
from fairtrial.search.goal import Goal
from fairtrial.search.grid import Point, PointMaker, grid
from fairtrial.search.promotion import promote
from fairtrial.search.rows import exclusive_lock, full_table, load_rows, top_table
from fairtrial.search.space import parse_space
from fairtrial.search.trials import SearchOptions, best_first, read_rungs, search, trials_table
from fairtrial.tables import print_tables

if TYPE_CHECKING:
    import pandas as pd

STATES = Path(".dvc/tmp/search")  # of trainings that a later rung may continue


class Options(NamedTuple):
    """What a grid and a search have in common."""

    settings: list[str]  # as -S takes them
    goal: Goal
    scheduler: str | None  # the address of a Dask cluster; a local one if it is None
    workers: int  # of a local cluster
    promote: int | None  # how many of the best points become experiments; all if it is None
    name: str  # of the folder in `sweeps` for the table and the chart


def sweep_grid(options: Options, skip_invalid: bool) -> int:
    """Compute all points of a grid; return how many failed.

    skip_invalid: whether to leave out points that the project's own check refuses.
    """
    contract = options.goal.contract
    maker = PointMaker(read_pipeline(contract), contract)
    points, invalid = grid(options.settings, maker, skip_invalid)
    for message, count in invalid.items():
        print(f"{count:,} left out: {message}")
    with open_runner(options, [point.key for point in points]) as runner:

        def count_done() -> int:
            return sum(point.key in runner.rows for point in points)

        todo = len(points) - count_done()
        print(f"{len(points):,} points, {len(points) - todo:,} of them done", flush=True)
        runner.workers = min(options.workers, todo)
        with explain_interruption(
            options, lambda: f"{count_done()} of {len(points)} points are done"
        ):
            runner.compute(points)
    best = sorted(
        (point for point in points if point.key in runner.rows),
        key=lambda point: options.goal.rank(runner.rows[point.key]),
    )
    if best:
        table = full_table(best, runner.rows, options.goal)
        written = write_results(options, table, list(best[0].settings))
        print_tables([top_table(best, runner.rows, options.goal)], [written])
    make_experiments(best, len(best), options, runner)
    return runner.failed + len(runner.refused)


def sweep_search(options: Options, search_options: SearchOptions) -> int:
    """Try points of a space in rounds, and confirm the best; return how many failed.

    A trial whose parameters a stage refuses has not failed: it is the worst of the search. Raises
    `InputError` if that is so for all trials.
    """
    contract = options.goal.contract
    space = parse_space(options.settings, dict(flatten(read_yaml(Path(PARAMS)))))
    maker = PointMaker(read_pipeline(contract), contract)
    rungs = read_rungs(space, maker, search_options.halving)
    trials = search_options.trials
    verdict: list[str] = []
    with open_runner(options, []) as runner:
        if search_options.halving:
            # Workers on this machine share the states; others keep their own, in their clone.
            states = STATES if options.scheduler else STATES.absolute()
            runner.location = runner.location._replace(states=str(states))
        count_before = len(runner.rows)
        print(f"{trials:,} trials in rounds of {min(search_options.round, trials)}", flush=True)
        with explain_interruption(
            options, lambda: f"{len(runner.rows) - count_before} points were computed and are kept"
        ):
            done = search(space, search_options, rungs, maker, runner)
            best = best_first(done, runner)
            if best and not runner.failed:
                verdict = confirm(best[0], space.default, trials, maker, runner)
    if not best and not runner.failed:
        raise InputError(f"none of {trials:,} trials could be trained; narrow the ranges")
    if not done:
        return runner.failed
    written = write_results(options, trials_table(done, runner), list(space.dimensions))
    if runner.failed:
        print(written)
        return runner.failed
    shutil.rmtree(STATES, ignore_errors=True)  # there are none without --halving
    points = [trial.points[-1]._replace(overrides=trial.overrides) for trial in best]
    print_tables([top_table(points, runner.rows, options.goal)], [written, *verdict])
    make_experiments(points, trials, options, runner)
    return 0


@contextlib.contextmanager
def open_runner(options: Options, keys: list[str]) -> Iterator[PointRunner]:
    """Yield what computes points, with the rows that are there, while no other sweep runs here.

    keys: as `fairtrial.search.rows.load_rows` takes them.
    """
    location = code_location(options.scheduler)
    with exclusive_lock() as file, contextlib.ExitStack() as stack:
        rows = load_rows(file, keys, options.goal)
        scheduler, workers = options.scheduler, options.workers
        yield PointRunner(rows, file, location, scheduler, workers, options.goal, stack)


@contextlib.contextmanager
def explain_interruption(options: Options, progress: Callable[[], str]) -> Iterator[None]:
    """Say how far a sweep came when Ctrl-C or the end of the scheduler stops it."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{progress()}; the same command continues", file=sys.stderr)
        raise
    except SchedulerLostError as error:
        raise InputError(
            f"--scheduler {options.scheduler}: cannot be reached any more ({error}), and the "
            f"points that were running are lost; {progress()}; the same command continues once "
            "the scheduler and workers are there again"
        ) from None


def write_results(options: Options, table: "pd.DataFrame", params: list[str]) -> str:
    """Write the table and the chart of a sweep; return a sentence that says where.

    params: the names of the columns with settings.
    """
    folder = SWEEPS / options.name
    write_bytes(folder / "sweep.csv", table.to_csv(index=False).encode())
    for suffix, content in draw_chart(sweep_plots(table, params, options.goal)).items():
        write_bytes(folder / f"sweep.{suffix}", content)
    return f"{folder}/sweep.csv and sweep.png (.svg, .pdf) have all points of this sweep"


def make_experiments(
    best: list[Point], chosen_from: int, options: Options, runner: PointRunner
) -> None:
    """Make DVC experiments of the first of the best points, and say so.

    chosen_from: from how many points these are the best.
    """
    promoted = best[: options.promote]
    if promoted:
        # Noted before they are made, so that no experiment is without its note.
        params = [dict(flatten(parse_yaml(point.params, PARAMS))) for point in promoted]
        record_chosen(params, chosen_from, options.goal.contract)
    for point in promoted:
        print(promote(point, runner.rows[point.key], options.goal))
    if len(promoted) < len(best):
        print("The others become experiments by the same command with --promote N")
