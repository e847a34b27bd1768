"""Compute a grid or a search: from the settings to the table, the chart and the experiments."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fairtrial.cluster.client import code_location
from fairtrial.project.chosen import SWEEPS, record_chosen, settings_key
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.pipeline import read_pipeline
from fairtrial.project.revisions import flatten
from fairtrial.project.staleness import PARAMS
from fairtrial.project.yaml_reader import read_yaml
from fairtrial.search.confirmation import confirm
from fairtrial.search.goal import Goal
from fairtrial.search.optuna_search import SearchOptions, best_first, read_rungs, search
from fairtrial.search.point_runner import PointRunner
from fairtrial.search.points import PointMaker, Trial
from fairtrial.search.points_file import exclusive_lock, load_rows
from fairtrial.search.promote import promote
from fairtrial.search.results import TOP, best_of_each, full_table, top_table, write_chart
from fairtrial.search.space import parse_space
from fairtrial.tables import print_tables

STATES = Path(".dvc/tmp/search")  # of trainings that a later rung may continue


class Options(NamedTuple):
    settings: list[str]  # as -S takes them
    goal: Goal
    scheduler: str | None  # the address of a Dask cluster; a local one if it is None
    workers: int  # of a local cluster
    promote: int | None  # how many of the best points become experiments; all if it is None
    name: str  # of the folder in `sweeps` for the table and the chart
    skip_invalid: bool  # whether a grid leaves out points that the project's own check refuses
    search: SearchOptions | None  # a grid if it is None
    by: str | None = None  # a parameter, of each value of which the best point is shown


def sweep(options: Options) -> int:
    """Compute all points of a grid, or try some of a space and confirm the best.

    Returns how many failed. A trial of a search whose parameters a stage refuses has not failed: it
    is the worst. Raises `InputError` if that is so for all trials.
    """
    goal, contract = options.goal, options.goal.contract
    base = dict(flatten(read_yaml(Path(PARAMS))))
    space = parse_space(options.settings, base)
    if options.by and options.by not in base:
        raise InputError(f"--by {options.by}: no parameter of {PARAMS}; write its dotted name")
    maker = PointMaker(read_pipeline(contract), contract)
    verdict: list[str] = []
    if options.search:
        rungs = read_rungs(space, maker, options.search.halving)
        chosen_from = options.search.trials
        in_rounds = min(options.search.round, chosen_from)
        with open_runner(options, []) as runner:
            print(f"{chosen_from:,} trials in rounds of {in_rounds}", flush=True)
            trials = search(space, options.search, rungs, maker, runner)
            ordered = best_first(trials, runner)
            best = [trial for trial in ordered if len(trial.points) == len(rungs)]
            if best and not runner.failed:
                verdict = confirm(best[0], space.default, chosen_from, maker, runner)
                shutil.rmtree(STATES, ignore_errors=True)  # there are none without --halving
        failed = runner.failed
        if not best and not failed:
            raise InputError(f"none of {chosen_from:,} trials could be trained; narrow the ranges")
    else:
        found, invalid = maker.make(space.grid(), options.skip_invalid)
        points = list({point.key: point for point in found}.values())
        for message, count in invalid.items():
            print(f"{count:,} left out: {message}")
        with open_runner(options, [point.key for point in points]) as runner:
            todo = sum(point.key not in runner.rows for point in points)
            print(f"{len(points):,} points, {len(points) - todo:,} of them done", flush=True)
            runner.workers = min(options.workers, todo)
            runner.compute(points)
        trials = [Trial(one.overrides, [one]) for one in points if one.key in runner.rows]
        best = ordered = best_first(trials, runner)
        chosen_from, failed = len(best), runner.failed + len(runner.refused)

    if ordered:
        folder = SWEEPS / options.name
        table = full_table(ordered, runner.rows, goal)
        write_bytes(folder / "sweep.csv", table.to_csv(index=False).encode())
        names = list(space.dimensions) or [options.settings[0].partition("=")[0]]
        write_chart(folder / "sweep", table, names, goal)
        made_by = {"command": sys.orig_argv, "commit": runner.location.commit}
        write_bytes(folder / "sweep.json", f"{json.dumps(made_by, indent=2)}\n".encode())
        written = (
            f"{folder}/sweep.csv and sweep.png (.svg, .pdf) have all {len(ordered):,} points of "
            "this sweep"
        )
        shown = best_of_each(best, options.by) if options.by else best
        if len(shown) > TOP:
            written = f"The {TOP} best of {len(shown):,}; {written}"
        print_tables([top_table(shown, runner.rows, goal)], [written, *verdict])
    if not options.search or not failed:
        make_experiments(best, chosen_from, base, options, runner)
    return failed


@contextlib.contextmanager
def open_runner(options: Options, keys: list[str]) -> Iterator[PointRunner]:
    """Yield what computes points, with the rows that are there, while no other sweep runs here.

    keys: as `fairtrial.search.points_file.load_rows` takes them. Says how many points were computed
    before Ctrl-C or an error.
    """
    location = code_location(options.scheduler)
    if options.search and options.search.halving:
        # Workers on this machine share the states; others keep their own, in their clone.
        states = STATES if options.scheduler else STATES.absolute()
        location = location._replace(states=str(states))
    with exclusive_lock() as file, contextlib.ExitStack() as stack:
        rows = load_rows(file, keys, options.goal)
        before = len(rows)
        scheduler, workers = options.scheduler, options.workers
        try:
            yield PointRunner(rows, file, location, scheduler, workers, options.goal, stack)
        except BaseException:
            if count := len(rows) - before:
                kept = f"{count:,} points were computed and are kept; the same command continues"
                print(kept, file=sys.stderr)
            raise


def make_experiments(
    best: list[Trial],
    chosen_from: int,
    base: dict[str, Any],
    options: Options,
    runner: PointRunner,
) -> None:
    """Make DVC experiments of the first of the best trials, and say so.

    chosen_from: from how many these are the best. base: the parameters that were here before.
    """
    promoted = [
        trial.points[-1]._replace(overrides=trial.overrides) for trial in best[: options.promote]
    ]
    if promoted:
        # Noted before they are made, so that no experiment is without its note. The settings that
        # were here before the sweep are not a choice of it.
        contract = options.goal.contract
        key = settings_key(base, contract)
        params = [point.values for point in promoted]
        others = [one for one in params if settings_key(one, contract) != key]
        record_chosen(others, chosen_from, contract)
    for point in promoted:
        print(promote(point, runner.rows[point.key], options.goal))
    if len(promoted) < len(best):
        print("The others become experiments by the same command with --promote N")
