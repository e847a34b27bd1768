"""Train and score a grid of parameters, or search ranges of them, on all cores or on a cluster.

A setting is written as for `dvc exp run -S`, with Hydra's choices and ranges. The result of each
point is added to `sweeps/points.jsonl` as it arrives: a sweep that was stopped continues where it
was, and no point is computed twice. The results are `sweeps/sweep.csv` and `sweeps/sweep.png`, and
the best points become DVC experiments.

    python -m fairtrial.sweep -S 'train.lr=0.003,0.01,0.03' -S 'train.weight_decay=0,0.01'
    python -m fairtrial.sweep -S 'train.lr=interval(0.001,1)' --trials 36 --halving
    python -m fairtrial.sweep -S 'train.seed=range(0,100)' --scheduler tcp://HOST:8786
"""

import argparse
import json
import os
import re
import signal
import sys

from fairtrial.project.errors import run
from fairtrial.project.revisions import read_files
from fairtrial.project.pipeline import read_pipeline
from fairtrial.search.rows import METRIC, sort_key
from fairtrial.search.sweeping import Options, sweep_grid, sweep_search
from fairtrial.search.trials import ROUND, SAMPLERS, SearchOptions

# Each local worker imports this module, too: what takes long is imported where it is used.


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fairtrial.sweep", description="Train and score a grid, or search it."
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        required=True,
        metavar="NAME=VALUES",
        dest="settings",
        help="a parameter and its values, as train.lr=0.01,0.03; repeat it for another parameter",
    )
    parser.add_argument(
        "--metric", default=METRIC, help="what the best points are chosen by (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a running Dask cluster (default: a local one)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="of the local cluster (default: a worker a core)",
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
        help="leave out points whose parameters contradict each other",
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
        help="tpe tries what is near good results, random does not (default: tpe)",
    )
    adaptive.add_argument(
        "--halving",
        action="store_const",
        const=True,
        help="train each with few epochs and replicas, and only the best third of them further",
    )
    adaptive.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="of the sampler; another one tries others (default: 0)",
    )
    adaptive.add_argument(
        "--round",
        type=int,
        metavar="N",
        help=f"trials that the sampler asks for at once (default: {ROUND})",
    )
    args = parser.parse_args()
    if args.workers < 1 or args.promote < 0:
        parser.error("--workers has to be 1 or more, and --promote 0 or more")
    if not re.fullmatch(r"[\w-]*", args.name):
        parser.error("--name takes letters, digits, - and _")
    if args.trials is None:
        for name in ("sampler", "halving", "seed", "round"):
            if getattr(args, name) is not None:
                parser.error(f"--{name} belongs to a search: add --trials")
    elif args.skip_invalid:
        parser.error("--skip-invalid belongs to a grid: omit it, and narrow the ranges instead")
    search_options = SearchOptions(
        1 if args.trials is None else args.trials,
        args.sampler or SAMPLERS[0],
        0 if args.seed is None else args.seed,
        ROUND if args.round is None else args.round,
        args.halving is True,
    )
    if search_options.trials < 1 or search_options.round < 1:
        parser.error("--trials and --round have to be 1 or more")
    if not 0 <= search_options.seed < 2**32:
        parser.error("--seed has to be from 0 to 4294967295")

    # As Ctrl-C, so that workers and folders do not outlive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pipeline = read_pipeline()
    files = read_files("workspace", *pipeline.metrics.values())
    metrics = dict(zip(pipeline.metrics, map(json.loads, files), strict=True))
    sort_key(metrics, args.metric)  # refuses an unknown metric before anything runs
    promote = None if args.experiments else args.promote
    options = Options(args.settings, args.metric, args.scheduler, args.workers, promote, args.name)
    if args.trials is None:
        failed = sweep_grid(options, pipeline, args.skip_invalid)
    else:
        failed = sweep_search(options, search_options, pipeline)
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
