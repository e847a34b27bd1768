"""Search a space in rounds of trials; each round depends on the results of those before it.

The trials of a round depend on the seed and on results alone, not on the order in which results
arrive: any number of workers gives the same trials. A search that was stopped repeats its rounds
with the results that are there.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.lock import PARAMS
from fairtrial.project.revisions import flatten
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.search.execution import PointRunner
from fairtrial.search.grid import Point, PointMaker, grid
from fairtrial.search.rows import full_table
from fairtrial.search.space import Space

if TYPE_CHECKING:
    import pandas as pd
    from optuna import Study
    from optuna.trial import Trial as OptunaTrial

FACTOR = 3  # one of three trials of a rung goes on, with three times the budget
RUNGS = 3


class SearchOptions(NamedTuple):
    trials: int
    sampler: str  # tpe: Bergstra et al. 2011, https://dl.acm.org/doi/10.5555/2986459.2986743
    seed: int  # of the sampler
    round: int  # trials that the sampler asks for at once
    halving: bool


class Rung(NamedTuple):
    """A budget, and the fraction of the trials of a round that get it."""

    overrides: list[str]  # added to the parameters of a trial; none for the full budget
    fraction: float


class Trial(NamedTuple):
    number: int
    overrides: list[str]  # as -S takes them, without those of a rung
    points: list[Point]  # one for each rung that it reached
    full_budget: bool  # whether it has a result of the last rung
    seconds: float  # of workers, for its points
    total_seconds: float  # of workers, for all points of the search until its last one


def read_rungs(space: Space, maker: PointMaker, halving: bool) -> list[Rung]:
    """Return the rungs of a search; the last has the full budget.

    All ends of the space are validated, and its default. Raises `InputError` if one of them is
    refused, if a seed is searched, or if halving cannot shorten the trainings.
    """
    contract = maker.contract
    corners, _ = grid(space.corners, maker)
    maker.make([space.default])
    if contract.seed in space.dimensions:
        raise InputError(f"-S {contract.seed}: the best of many seeds was only lucky; omit it")
    if not halving:
        return [Rung([], 1.0)]
    values = dict(flatten(parse_yaml(corners[0].params, PARAMS)))
    names = [name for name in (contract.budget, contract.replicas) if name]
    for name in names:
        if name in space.dimensions:
            raise InputError(f"-S {name}: --halving varies it; give it one value")
        if type(values.get(name)) is not int:
            raise InputError(f"{PARAMS}: {name}: --halving needs a whole number; set one")
    fractions = [FACTOR**-number for number in range(RUNGS)]
    budgets = {  # the largest fraction of the trials for each budget
        tuple(math.ceil(values[name] * fraction) for name in names): FACTOR ** (1 - RUNGS)
        / fraction
        for fraction in fractions
    }
    rungs = [
        Rung([f"{name}={value}" for name, value in zip(names, budget, strict=True)], fraction)
        for budget, fraction in sorted(budgets.items())
    ]
    if len(rungs) == 1:
        raise InputError(f"--halving: {' and '.join(names)} cannot be less; raise one, or omit it")
    return [*rungs[:-1], Rung([], rungs[-1].fraction)]


def search(
    space: Space, options: SearchOptions, rungs: list[Rung], maker: PointMaker, runner: PointRunner
) -> list[Trial]:
    """Return the trials in their order, of all rounds or of those before a failure.

    rungs: as `read_rungs` returns them. With several, the rounds are brackets of successive halving
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
        result = run_round(asked, label, so_far, space, rungs, maker, runner)
        if runner.failed:
            break
        for trial, own in zip(asked, result, strict=True):
            tell(study, trial, own, runner)
        done += result
        print(f"{label}: {describe_best(done, runner)}", flush=True)
    return done


def run_round(
    asked: "list[OptunaTrial]",
    label: str,
    so_far: float,
    space: Space,
    rungs: list[Rung],
    maker: PointMaker,
    runner: PointRunner,
) -> list[Trial]:
    """Return the trials of a round after all rungs, or after the first with a failed point.

    so_far: seconds of workers before this round.
    """
    trials = {
        trial.number: Trial(trial.number, space.overrides(trial.params), [], False, 0.0, so_far)
        for trial in asked
    }
    ranks = dict.fromkeys(trials, 0.0)  # of those that have not been eliminated
    for rung in rungs:
        # The best go on; of equal ones the first.
        best = sorted(ranks, key=lambda number: (ranks[number], number))
        survivors = sorted(best[: math.ceil(len(asked) * rung.fraction)])
        overrides = [replace(trials[number].overrides, rung.overrides) for number in survivors]
        points, _ = maker.make(overrides)
        runner.compute(points, f"{label}, {' '.join(rung.overrides) or 'full budget'}")
        if runner.failed:
            break
        ranks = {}
        for number, point in zip(survivors, points, strict=True):
            if point.key in runner.refused:
                continue
            row, trial = runner.rows[point.key], trials[number]
            so_far += row["seconds"]
            trials[number] = trial._replace(
                points=[*trial.points, point],
                full_budget=rung is rungs[-1],
                seconds=trial.seconds + row["seconds"],
                total_seconds=so_far,
            )
            ranks[number] = runner.goal.rank(row)
    return list(trials.values())


def replace(overrides: list[str], others: list[str]) -> list[str]:
    """Return overrides in which the others replace those of the same names."""
    names = {other.partition("=")[0] for other in others}
    return [one for one in overrides if one.partition("=")[0] not in names] + others


def tell(study: "Study", asked: "OptunaTrial", trial: Trial, runner: PointRunner) -> None:
    """Tell Optuna the result of a trial; one without a result counts as the worst."""
    from optuna.trial import TrialState

    ranks = [runner.goal.rank(runner.rows[point.key]) for point in trial.points]
    if trial.full_budget:
        study.tell(asked, ranks[-1])
        return
    for step, rank in enumerate(ranks):
        asked.report(rank, step)
    study.tell(asked, state=TrialState.PRUNED)


def best_first(trials: Iterable[Trial], runner: PointRunner) -> list[Trial]:
    """Return the trials with a result of the last rung, the best first."""
    return sorted(
        (trial for trial in trials if trial.full_budget),
        key=lambda trial: runner.goal.rank(runner.rows[trial.points[-1].key]),
    )


def trials_table(trials: list[Trial], runner: PointRunner) -> "pd.DataFrame":
    """Return settings and last results of trials: first those with the full budget, by rank.

    Beside the columns of `fairtrial.search.rows.full_table` there are `trial`, its number; `rung`,
    the number of its last one; `full_budget`, whether that was the last of all; `seconds` of
    workers for all its points, and `total_seconds` for all of the search until its last one.
    """
    import pandas as pd

    def order(trial: Trial) -> tuple[bool, int, float]:
        rank = runner.goal.rank(runner.rows[trial.points[-1].key])
        return not trial.full_budget, -len(trial.points), rank

    trained = sorted((trial for trial in trials if trial.points), key=order)
    # With the settings of the trial, which do not include those of a rung.
    points = [trial.points[-1]._replace(overrides=trial.overrides) for trial in trained]
    course = {
        "trial": [trial.number for trial in trained],
        "rung": [len(trial.points) for trial in trained],
        "full_budget": [trial.full_budget for trial in trained],
        "seconds": [trial.seconds for trial in trained],
        "total_seconds": [trial.total_seconds for trial in trained],
    }
    table = full_table(points, runner.rows, runner.goal).drop(columns="seconds")
    return table.join(pd.DataFrame(course))


def describe_best(trials: list[Trial], runner: PointRunner) -> str:
    """Say which of the trials so far is the best."""
    best = best_first(trials, runner)
    if not best:
        return f"none of {len(trials)} trials could be trained"
    text = runner.goal.text(runner.rows[best[0].points[-1].key])
    return f"best of {len(trials)} trials {text}, {' '.join(best[0].overrides)}"
