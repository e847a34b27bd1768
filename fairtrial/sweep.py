"""Train and score a grid of parameters, or search ranges of them, on all cores or on a cluster.

A setting is written as for `dvc exp run -S`, with Hydra's choices and ranges. The result of each
point is added to `sweeps/points.jsonl` as it arrives: a sweep that was stopped continues where it
was, and no point is computed twice. The results are `sweeps/sweep.csv` and `sweeps/sweep.png`, and
the best points become DVC experiments.

    python -m fairtrial sweep -S 'train.lr=0.003,0.01,0.03' -S 'train.weight_decay=0,0.01'
    python -m fairtrial sweep -S 'train.lr=interval(0.001,1)' --trials 36 --halving
    python -m fairtrial sweep -S 'train.seed=range(0,100)' --scheduler tcp://HOST:8786
"""

import argparse
import os
import re
import sys

from fairtrial.project.errors import InputError

SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler"}  # classes of optuna.samplers
ROUND = 9  # trials: by halving one of them reaches the full budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    name = "a parameter and its values, as train.lr=0.01,0.03; repeat it for another parameter"
    add("-S", "--set-param", action="append", required=True, metavar="NAME=VALUES", help=name)
    add("--metric", metavar="NAME", help="metric to rank by (default: the first of the contract)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster (default: start a local one)")
    workers = "of the local cluster (default: one for each core)"
    add("--workers", type=int, default=os.cpu_count(), metavar="N", help=workers)
    promote = "make DVC experiments of the N best points (default: %(default)s)"
    add("--promote", type=int, default=1, metavar="N", help=promote)
    add("--experiments", action="store_true", help="make DVC experiments of all points")
    invalid = "leave out points that the project's own check refuses"
    add("--skip-invalid", action="store_true", help=invalid)
    by = "show the best point of each value of this parameter"
    add("--by", metavar="NAME", help=by)
    add("--name", default="", help="write the results to sweeps/NAME (default: sweeps)")
    add = parser.add_argument_group(
        "search", "try some points of ranges, such as 'train.lr=interval(0.001,1)', in rounds"
    ).add_argument
    add("--trials", type=int, metavar="N", help="how many points to try")
    sampler = "tpe learns from the results so far, random does not (default: tpe)"
    add("--sampler", choices=SAMPLERS, help=sampler)
    halving = "train all with a small budget, and only the best third of them further"
    add("--halving", action="store_const", const=True, help=halving)
    add("--seed", type=int, metavar="N", help="of the sampler; another seed tries other points")
    rounds = f"trials that the sampler chooses at once (default: {ROUND})"
    add("--round", type=int, metavar="N", help=rounds)


def main(args: argparse.Namespace) -> None:
    """Run a sweep; raises `InputError` if an option or a point is refused."""
    is_search = args.trials is not None
    if args.workers < 1 or args.promote < 0:
        raise InputError("--workers has to be 1 or more, and --promote 0 or more")
    if not re.fullmatch(r"[\w-]*", args.name):
        raise InputError(f"--name {args.name}: use letters, digits, - and _")
    for name in ("sampler", "halving", "seed", "round"):
        if getattr(args, name) is not None and not is_search:
            raise InputError(f"--{name} belongs to a search: add --trials")
    if is_search and args.skip_invalid:
        raise InputError("--skip-invalid belongs to a grid: omit it, and narrow the ranges instead")
    rounds, seed = args.round if args.round is not None else ROUND, args.seed or 0
    if is_search and min(args.trials, rounds) < 1:
        raise InputError("--trials and --round have to be 1 or more")
    if not 0 <= seed < 2**32:
        raise InputError("--seed has to be from 0 to 4294967295")

    from fairtrial.project.contract import read_contract
    from fairtrial.search.goal import Goal
    from fairtrial.search.optuna_search import SearchOptions
    from fairtrial.search.run_sweep import Options, sweep

    contract = read_contract()
    goal = Goal(contract, contract.metric(args.metric)[0])
    search = None
    if is_search:
        sampler = SAMPLERS[args.sampler or "tpe"]
        search = SearchOptions(args.trials, sampler, seed, rounds, args.halving is True)
    promote = None if args.experiments else args.promote
    failed = sweep(
        Options(
            args.set_param,
            goal,
            args.scheduler,
            args.workers,
            promote,
            args.name,
            args.skip_invalid,
            search,
            args.by,
        )
    )
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)
