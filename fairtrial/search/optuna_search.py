"""Search a space in rounds of trials; each round depends on the results of those before it.

The trials of a round depend on the seed and on results alone, not on the order in which results
arrive: any number of workers gives the same trials. A search that was stopped repeats its rounds
with the results that are there.
"""

import math
from typing import NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.staleness import PARAMS
from fairtrial.search.point_runner import PointRunner
from fairtrial.search.points import PointMaker, Trial, replace
from fairtrial.search.space import Space

FACTOR = 3  # one of three trials of a rung goes on, with three times the budget
RUNGS = 3


class SearchOptions(NamedTuple):
    trials: int
    sampler: str  # the name of its class in optuna.samplers
    seed: int  # of the sampler
    round: int  # trials that the sampler asks for at once
    halving: bool


class Rung(NamedTuple):
    """A budget, and the fraction of the trials of a round that get it."""

    overrides: list[str]  # added to the parameters of a trial; none for the full budget
    fraction: float


def read_rungs(space: Space, maker: PointMaker, halving: bool) -> list[Rung]:
    """Return the rungs of a search; the last has the full budget.

    All ends of the space are validated, and its default. Raises `InputError` if one of them is
    refused, if there is nothing to search or it is a seed, or if halving cannot shorten the
    trainings.
    """
    contract = maker.contract
    if not space.dimensions:
        raise InputError(
            f"-S {' '.join(space.fixed)}: nothing to search; give a range, such as "
            "'train.lr=interval(0.001,1)'"
        )
    corners, _ = maker.make(space.corners())
    maker.make([space.default])
    if contract.seed in space.dimensions:
        raise InputError(f"-S {contract.seed}: the best of many seeds was only lucky; omit it")
    if not halving:
        return [Rung([], 1.0)]
    values = corners[0].values
    names = [name for name in (contract.budget, contract.replicas) if name]
    for name in names:
        if name in space.dimensions:
            raise InputError(f"-S {name}: --halving varies it; give it one value")
        if type(values.get(name)) is not int:
            raise InputError(f"{PARAMS}: {name}: --halving needs a whole number; set one")
    fractions: dict[tuple[str, ...], float] = {}  # of the trials, for each budget
    for number in range(RUNGS):
        part = FACTOR**number
        budget = tuple(f"{name}={math.ceil(values[name] / part)}" for name in names)
        fractions[budget] = part / FACTOR ** (RUNGS - 1)  # the largest, if budgets are the same
    if len(fractions) == 1:
        raise InputError(f"--halving: {' and '.join(names)} cannot be less; raise one, or omit it")
    full, *less = (Rung(list(budget), fraction) for budget, fraction in fractions.items())
    return [*reversed(less), full._replace(overrides=[])]


def search(
    space: Space, options: SearchOptions, rungs: list[Rung], maker: PointMaker, runner: PointRunner
) -> list[Trial]:
    """Return the trials in their order, of all rounds or of those before a failure.

    rungs: as `read_rungs` returns them. With several, the rounds are brackets of successive halving
        (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943).
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = getattr(optuna.samplers, options.sampler)(seed=options.seed)
    study = optuna.create_study(sampler=sampler)
    distributions = {name: one.distribution for name, one in space.dimensions.items()}
    trials: list[Trial] = []
    rounds = math.ceil(options.trials / options.round)
    for number in range(rounds):
        size = min(options.round, options.trials - len(trials))
        asked = [study.ask(distributions) for _ in range(size)]
        new = [Trial(space.overrides(one.params), []) for one in asked]
        label = f"round {number + 1}/{rounds}"
        run_round(new, rungs, label, maker, runner)
        if runner.failed:
            break
        for one, trial in zip(asked, new, strict=True):
            ranks = [runner.goal.rank(runner.rows[point.key]) for point in trial.points]
            if len(ranks) == len(rungs):
                study.tell(one, ranks[-1])
                continue
            for step, rank in enumerate(ranks):
                one.report(rank, step)
            study.tell(one, state=optuna.trial.TrialState.PRUNED)  # the worst, without a result
        trials += new
        best = best_first(trials, runner)
        if best and len(best[0].points) == len(rungs):
            text = runner.goal.text(runner.rows[best[0].points[-1].key])
            found = f"best of {len(trials)} trials {text}, {' '.join(best[0].overrides)}"
        else:
            found = f"none of {len(trials)} trials could be trained"
        print(f"{label}: {found}", flush=True)
    return trials


def run_round(
    trials: list[Trial], rungs: list[Rung], label: str, maker: PointMaker, runner: PointRunner
) -> None:
    """Compute the points of trials, rung by rung, until the last or until one has failed."""
    ranks = [(0.0, number) for number in range(len(trials))]  # of those that are not eliminated
    for rung in rungs:
        # The best go on; of equal ones the first.
        best = sorted(ranks)[: math.ceil(len(trials) * rung.fraction)]
        survivors = sorted(number for _, number in best)
        overrides = [replace(trials[number].overrides, rung.overrides) for number in survivors]
        points, _ = maker.make(overrides)
        runner.compute(points, f"{label}, {' '.join(rung.overrides) or 'full budget'}")
        if runner.failed:
            return
        ranks = []
        for number, point in zip(survivors, points, strict=True):
            if point.key in runner.rows:
                trials[number].points.append(point)
                ranks.append((runner.goal.rank(runner.rows[point.key]), number))


def best_first(trials: list[Trial], runner: PointRunner) -> list[Trial]:
    """Return the trials with a result: those with more budget first, and of these the best."""

    def order(trial: Trial) -> tuple[int, float]:
        return -len(trial.points), runner.goal.rank(runner.rows[trial.points[-1].key])

    return sorted((trial for trial in trials if trial.points), key=order)
