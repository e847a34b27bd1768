"""Search a space in rounds of trials, of which each depends on the results of those before.

What a round tries depends on the seed and on results alone, not on the order in which they arrive:
any number of workers gives the same trials. A search that was stopped repeats its rounds with the
results that are there.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.project.pipeline import PARAMS, Pipeline
from fairtrial.search.execution import Computation
from fairtrial.search.grid import Point, grid, make_points
from fairtrial.search.rows import full_table, lower_is_better, sort_key
from fairtrial.search.space import Space

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study
    from optuna.trial import Trial as OptunaTrial

SAMPLERS = ("tpe", "random")
FACTOR = 3  # of the trials of a rung one in so many goes on, with so many times the budget
RUNGS = 3
ROUND = FACTOR ** (RUNGS - 1)  # trials: one of them reaches the last rung


class SearchOptions(NamedTuple):
    trials: int
    sampler: str  # tpe: Bergstra et al. 2011, https://dl.acm.org/doi/10.5555/2986459.2986743
    seed: int  # of the sampler
    round: int  # trials that the sampler asks for at once
    halving: bool


class Rung(NamedTuple):
    """A budget, and the share of the trials of a round that get it."""

    overrides: list[str]  # of the parameters of a trial; none for the whole budget
    share: float


class Trial(NamedTuple):
    number: int
    overrides: list[str]  # as -S takes them, without those of a rung
    points: list[Point]  # one for each rung that it reached
    is_whole: bool  # whether it has a result of the last rung
    seconds: float  # of workers, for its points
    total_seconds: float  # of workers, for all points of the search until its last one


def read_rungs(space: Space, pipeline: Pipeline, halving: bool) -> list[Rung]:
    """Return the rungs of a search, the last of them with the whole budget.

    All ends of the space are validated, and its default. Raises `InputError` with what is wrong
    with them, if a seed is searched, or if halving cannot shorten the trainings.
    """
    corners, _ = grid(space.corners, pipeline)
    make_points([space.default], pipeline)
    if "train.seed" in space.dimensions:
        raise InputError("-S train.seed: the best of many seeds was only lucky; search another")
    if not halving:
        return [Rung([], 1.0)]
    trainings = [parse_yaml(point.params, PARAMS)["train"] for point in corners]
    for name in ("epochs", "replicas"):
        if f"train.{name}" in space.dimensions:
            raise InputError(f"-S train.{name}: --halving varies it; give it one value")
    if any(training["schedule"] != "constant" for training in trainings):
        raise InputError(
            "--halving: with train.schedule: one_cycle the learning rate depends on the number of "
            "epochs, so that a short training says little of a long one; set it to constant"
        )
    epochs, replicas = trainings[0]["epochs"], trainings[0]["replicas"]
    shares = [FACTOR**-number for number in range(RUNGS)]
    budgets = {  # the largest share of the trials for each budget
        (math.ceil(epochs * share), math.ceil(replicas * share)): FACTOR ** (1 - RUNGS) / share
        for share in shares
    }
    rungs = [
        Rung([f"train.epochs={epochs}", f"train.replicas={replicas}"], share)
        for (epochs, replicas), share in sorted(budgets.items())
    ]
    if len(rungs) == 1:
        raise InputError(
            "--halving: one epoch of one model cannot be shortened; raise train.epochs, or omit it"
        )
    return [*rungs[:-1], Rung([], rungs[-1].share)]


def search(
    space: Space,
    options: SearchOptions,
    rungs: list[Rung],
    pipeline: Pipeline,
    computation: Computation,
) -> list[Trial]:
    """Return the trials in their order, of all rounds or of those before a failure.

    rungs: as `read_rungs` returns them; by these the rounds are brackets of successive halving
        (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    study = optuna.create_study(sampler=samplers[options.sampler](seed=options.seed))
    distributions = {name: one.distribution for name, one in space.dimensions.items()}
    done: list[Trial] = []
    rounds = -(-options.trials // options.round)
    for number in range(rounds):
        size = min(options.round, options.trials - len(done))
        asked = [study.ask(distributions) for _ in range(size)]
        label = f"round {number + 1}/{rounds}"
        so_far = done[-1].total_seconds if done else 0.0
        result = run_round(asked, label, so_far, space, rungs, pipeline, computation)
        if computation.failed:
            break
        for trial, own in zip(asked, result, strict=True):
            tell(study, trial, own, computation)
        done += result
        print(f"{label}: {describe_best(done, computation)}", flush=True)
    return done


def run_round(
    asked: "list[OptunaTrial]",
    label: str,
    so_far: float,
    space: Space,
    rungs: list[Rung],
    pipeline: Pipeline,
    computation: Computation,
) -> list[Trial]:
    """Return the trials of a round after all rungs, or after the first with a failed point.

    so_far: seconds of workers before this round.
    """
    trials = {
        trial.number: Trial(trial.number, space.overrides(trial.params), [], False, 0.0, so_far)
        for trial in asked
    }
    values = dict.fromkeys(trials, 0.0)  # of those that have not been eliminated
    for rung in rungs:
        # The best go on; of equal ones the first.
        best = sorted(values, key=lambda number: (values[number], number))
        survivors = sorted(best[: math.ceil(len(asked) * rung.share)])
        overrides = [replace(trials[number].overrides, rung.overrides) for number in survivors]
        points, _ = make_points(overrides, pipeline)
        computation.compute(points, f"{label}, {' '.join(rung.overrides) or 'the whole budget'}")
        if computation.failed:
            break
        values = {}
        for number, point in zip(survivors, points, strict=True):
            if point.key in computation.refused:
                continue
            row, trial = computation.rows[point.key], trials[number]
            so_far += row["seconds"]
            trials[number] = trial._replace(
                points=[*trial.points, point],
                is_whole=rung is rungs[-1],
                seconds=trial.seconds + row["seconds"],
                total_seconds=so_far,
            )
            values[number] = sort_key(row["metrics"], computation.metric)
    return list(trials.values())


def replace(overrides: list[str], others: list[str]) -> list[str]:
    """Return overrides, of which the others take the place of those with the same names."""
    names = {other.partition("=")[0] for other in others}
    return [one for one in overrides if one.partition("=")[0] not in names] + others


def tell(study: "Study", asked: "OptunaTrial", trial: Trial, computation: Computation) -> None:
    """Tell Optuna what became of a trial; one without any result counts as the worst."""
    from optuna.trial import TrialState

    values = [
        sort_key(computation.rows[point.key]["metrics"], computation.metric)
        for point in trial.points
    ]
    if trial.is_whole:
        study.tell(asked, values[-1])
        return
    for step, value in enumerate(values):
        asked.report(value, step)
    study.tell(asked, state=TrialState.PRUNED)


def best_first(trials: Iterable[Trial], computation: Computation) -> list[Trial]:
    """Return the trials with a result of the last rung, the best first."""
    return sorted(
        (trial for trial in trials if trial.is_whole),
        key=lambda trial: sort_key(
            computation.rows[trial.points[-1].key]["metrics"], computation.metric
        ),
    )


def trials_table(trials: list[Trial], computation: Computation) -> "pd.DataFrame":
    """Return the settings and last results of trials, the best of the whole budget first.

    Beside what `fairtrial.search.rows.full_table` has, there are `trial`, its number; `epochs` and
    `replicas`, its last budget; `whole`, whether that was the whole one; `seconds` of workers for
    all its points, and `total_seconds` for all of the search until its last one.
    """
    import pandas as pd

    trained = [trial for trial in trials if trial.points]
    # With the settings of the trial, to which those of a rung do not belong.
    points = [trial.points[-1]._replace(overrides=trial.overrides) for trial in trained]
    trainings = [parse_yaml(point.params, PARAMS)["train"] for point in points]
    course = {
        "trial": [trial.number for trial in trained],
        "epochs": [training["epochs"] for training in trainings],
        "replicas": [training["replicas"] for training in trainings],
        "whole": [trial.is_whole for trial in trained],
        "seconds": [trial.seconds for trial in trained],
        "total_seconds": [trial.total_seconds for trial in trained],
    }
    table = full_table(points, computation.rows, computation.metric).drop(columns="seconds")
    table = table.join(pd.DataFrame(course))
    is_lower_better = lower_is_better(computation.metric)
    by = ["whole", "epochs", "replicas", computation.metric]
    return table.sort_values(by, ascending=[False, False, False, is_lower_better], kind="stable")


def describe_best(trials: list[Trial], computation: Computation) -> str:
    """Return in words what the best of the trials are so far."""
    best = best_first(trials, computation)
    if not best:
        return f"none of {len(trials)} trials could be trained"
    row = computation.rows[best[0].points[-1].key]
    value = abs(sort_key(row["metrics"], computation.metric))
    return f"best of {len(trials)} trials {value:.4f}, {' '.join(best[0].overrides)}"
