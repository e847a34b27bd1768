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

# Each local worker imports this module, too: what takes long is imported where it is used.

SAMPLERS = ("tpe", "random")
ROUND = 9  # trials: by halving one of them reaches the full budget


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a sweep to its parser."""
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        required=True,
        metavar="NAME=VALUES",
        dest="settings",
        help="a parameter and its values, as train.lr=0.01,0.03; repeat it for another parameter",
    )
    parser.add_argument("--metric", help="metric to rank by (default: the first of the contract)")
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a running Dask cluster (default: a local one)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="of the local cluster (default: one for each core)",
    )
    parser.add_argument(
        "--promote",
        type=int,
        default=1,
        metavar="N",
        help="make DVC experiments of the N best points (default: %(default)s)",
    )
    parser.add_argument(
        "--experiments", action="store_true", help="make DVC experiments of all points"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="leave out points that the project's own check refuses",
    )
    parser.add_argument(
        "--name", default="", help="write the table and the chart to sweeps/NAME (default: sweeps)"
    )
    adaptive = parser.add_argument_group(
        "search", "try some points of ranges, such as 'train.lr=interval(0.001,1)', in rounds"
    )
    adaptive.add_argument("--trials", type=int, metavar="N", help="how many points to try")
    adaptive.add_argument(
        "--sampler",
        choices=SAMPLERS,
        help="tpe learns from the results so far, random does not (default: tpe)",
    )
    adaptive.add_argument(
        "--halving",
        action="store_const",
        const=True,
        help="train all with a small budget, and only the best third of them further",
    )
    adaptive.add_argument(
        "--seed", type=int, metavar="N", help="of the sampler; another seed tries other points"
    )
    adaptive.add_argument(
        "--round",
        type=int,
        metavar="N",
        help=f"trials that the sampler chooses at once (default: {ROUND})",
    )


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
    from fairtrial.search.sweeping import Options, sweep_grid, sweep_search
    from fairtrial.search.trials import SearchOptions

    contract = read_contract()
    goal = Goal(contract, contract.metric(args.metric)[0])
    promote = None if args.experiments else args.promote
    options = Options(args.settings, goal, args.scheduler, args.workers, promote, args.name)
    if is_search:
        sampler = args.sampler or SAMPLERS[0]
        search = SearchOptions(args.trials, sampler, seed, rounds, args.halving is True)
        failed = sweep_search(options, search)
    else:
        failed = sweep_grid(options, args.skip_invalid)
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)
