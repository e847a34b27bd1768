"""Compute a grid or a search: from the settings to the table, the chart and the experiments."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.yaml_reader import read_yaml
from fairtrial.project.revisions import flatten
from fairtrial.cluster.client import SchedulerLostError, code_location
from fairtrial.project.pipeline import PARAMS, Pipeline
from fairtrial.search.chart import draw_chart, sweep_plots
from fairtrial.search.execution import Computation
from fairtrial.search.grid import Point, grid
from fairtrial.search.promotion import promote
from fairtrial.search.rows import (
    exclusive_lock,
    full_table,
    load_rows,
    record_chosen,
    sort_key,
    top_table,
)
from fairtrial.search.space import parse_space
from fairtrial.search.trials import SearchOptions, best_first, read_rungs, search, trials_table

if TYPE_CHECKING:
    import pandas as pd

SWEEPS = Path("sweeps")
STATES = Path(".dvc/tmp/search")  # of trainings that a later rung may continue


class Options(NamedTuple):
    """What a grid and a search have in common."""

    settings: list[str]  # as -S takes them
    metric: str  # what the best points are chosen by
    scheduler: str | None  # the address of a Dask cluster; a local one if it is None
    workers: int  # of a local cluster
    promote: int | None  # of how many of the best points to make experiments; of all if it is None
    name: str  # of the folder in `sweeps` for the table and the chart


def sweep_grid(options: Options, pipeline: Pipeline, skip_invalid: bool) -> int:
    """Compute all points of a grid; return how many have failed.

    skip_invalid: whether to leave out points whose parameters contradict each other.
    """
    points, invalid = grid(options.settings, pipeline, skip_invalid)
    for message, count in invalid.items():
        print(f"{count:,} left out: {message}")
    with open_computation(options, [point.key for point in points]) as computation:
        rows = computation.rows

        def count_done() -> int:
            return sum(point.key in rows for point in points)

        todo = len(points) - count_done()
        print(f"{len(points):,} points, of which {len(points) - todo:,} are done", flush=True)
        computation.workers = min(options.workers, todo)
        with explain_interruption(
            options, lambda: f"{count_done()} of {len(points)} points are done"
        ):
            computation.compute(points)
    best = sorted(
        (point for point in points if point.key in rows),
        key=lambda point: sort_key(rows[point.key]["metrics"], options.metric),
    )
    if best:
        from fairtrial.tables import print_tables

        table = full_table(best, rows, options.metric)
        written = write_results(options, table, list(best[0].settings))
        print_tables([top_table(best, rows, options.metric)], [written])
    make_experiments(best, len(best), options, computation)
    return computation.failed + len(computation.refused)


def sweep_search(options: Options, search_options: SearchOptions, pipeline: Pipeline) -> int:
    """Try points of a space in rounds, and confirm the best; return how many have failed.

    A trial whose parameters a stage refuses has not failed: it is the worst of the search. Raises
    `InputError` if that is so of all trials.
    """
    space = parse_space(options.settings, dict(flatten(read_yaml(Path(PARAMS)))))
    rungs = read_rungs(space, pipeline, search_options.halving)
    trials = search_options.trials
    with open_computation(options, []) as computation:
        if search_options.halving:
            # Workers on this machine share the states; others keep their own, in their clone.
            states = STATES if options.scheduler else STATES.absolute()
            computation.location = computation.location._replace(states=str(states))
        count_before = len(computation.rows)
        print(f"{trials:,} trials in rounds of {min(search_options.round, trials)}", flush=True)
        with explain_interruption(
            options,
            lambda: f"{len(computation.rows) - count_before} points were computed and are kept",
        ):
            done = search(space, search_options, rungs, pipeline, computation)
            whole = best_first(done, computation)
            if whole and not computation.failed:
                from fairtrial.search.confirmation import confirm

                verdict = confirm(whole[0], space.default, trials, pipeline, computation)
    if not whole and not computation.failed:
        raise InputError(f"none of {trials:,} trials could be trained; narrow the ranges")
    if not done:
        return computation.failed
    from fairtrial.tables import print_tables

    if not computation.failed:
        shutil.rmtree(STATES, ignore_errors=True)  # there are none without --halving
    written = write_results(options, trials_table(done, computation), list(space.dimensions))
    points = [trial.points[-1]._replace(overrides=trial.overrides) for trial in whole]
    if computation.failed:
        print(written)
        return computation.failed
    print_tables([top_table(points, computation.rows, options.metric)], [written, *verdict])
    make_experiments(points, trials, options, computation)
    return 0


@contextlib.contextmanager
def open_computation(options: Options, keys: list[str]) -> Iterator[Computation]:
    """Yield what computes points, with the rows that are there, while no other sweep runs here.

    keys: as `fairtrial.search.rows.load_rows` takes them.
    """
    location = code_location(options.scheduler)
    with exclusive_lock() as file, contextlib.ExitStack() as stack:
        rows = load_rows(file, keys, options.metric)
        scheduler, workers = options.scheduler, options.workers
        yield Computation(rows, file, location, scheduler, workers, options.metric, stack)


@contextlib.contextmanager
def explain_interruption(options: Options, progress: Callable[[], str]) -> Iterator[None]:
    """Say what has been reached when Ctrl-C or the end of the scheduler stops a sweep."""
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
    for suffix, content in draw_chart(sweep_plots(table, params, options.metric)).items():
        write_bytes(folder / f"sweep.{suffix}", content)
    return f"{folder}/sweep.csv and sweep.png (.svg, .pdf) have all points of this sweep"


def make_experiments(
    best: list[Point], chosen_from: int, options: Options, computation: Computation
) -> None:
    """Make DVC experiments of the first of the best points, and say so.

    chosen_from: of how many points these are the best.
    """
    promoted = best[: options.promote]
    if promoted:
        # Noted before they are made, so that no experiment is without its note.
        record_chosen([point.name for point in promoted], chosen_from)
    for point in promoted:
        promote(point, computation.rows[point.key])
        print(f"{point.name} is an experiment of the same bits: dvc exp apply {point.name}")
    if len(promoted) < len(best):
        print("The others become experiments by the same command with --promote N")
