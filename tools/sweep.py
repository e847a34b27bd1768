"""Train and score every point of a grid of parameters, on all cores or on a cluster.

A setting is written as for `dvc exp run -S`, with Hydra's choices and ranges. The result of each
point is added to `sweeps/points.jsonl` as it arrives: a sweep that was stopped continues where it
was, and no point is computed twice. The results are `sweeps/sweep.csv` and `sweeps/sweep.png`, and
the best points become DVC experiments.

    python -m tools.sweep -S 'train.lr=0.003,0.01,0.03' -S 'train.weight_decay=0,0.01'
    python -m tools.sweep -S 'train.seed=range(0,100)' --scheduler tcp://HOST:8786
"""

import argparse
import json
import os
import re
import signal
import sys
from pathlib import Path

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes
from tools.analysis.revisions import read_files
from tools.cluster.client import (
    SchedulerLostError,
    code_location,
    connect,
    prepare_workers,
)
from tools.cluster.pipeline import read_pipeline
from tools.search.chart import draw_chart
from tools.search.execution import run_points
from tools.search.grid import grid
from tools.search.promotion import promote
from tools.search.rows import (
    METRIC,
    exclusive_lock,
    full_table,
    load_rows,
    record_chosen,
    sort_key,
    top_table,
)

# Each local worker imports this module, too: what takes long is imported where it is used.

SWEEPS = Path("sweeps")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.sweep", description="Train and score a grid of parameters."
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
    args = parser.parse_args()
    if args.workers < 1 or args.promote < 0:
        parser.error("--workers has to be 1 or more, and --promote 0 or more")
    if not re.fullmatch(r"[\w-]*", args.name):
        parser.error("--name takes letters, digits, - and _")
    folder = SWEEPS / args.name

    # As Ctrl-C, so that workers and folders do not outlive it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pipeline = read_pipeline()
    files = read_files("workspace", *pipeline.metrics.values())
    metrics = dict(zip(pipeline.metrics, map(json.loads, files), strict=True))
    sort_key(metrics, args.metric)  # refuses an unknown metric before anything runs
    points, invalid = grid(args.settings, pipeline, args.skip_invalid)
    for message, count in invalid.items():
        print(f"{count:,} left out: {message}")
    location = code_location(args.scheduler)
    with exclusive_lock() as file:
        rows = load_rows(file, [point.key for point in points], args.metric)
        todo = [point for point in points if point.key not in rows]
        print(f"{len(points):,} points, of which {len(points) - len(todo):,} are done", flush=True)
        failed = 0
        if todo:
            try:
                with connect(args.scheduler, min(args.workers, len(todo))) as client:
                    prepare_workers(client, location, todo[0].params)
                    failed = run_points(todo, rows, file, client, location, args.metric)
            except (KeyboardInterrupt, SchedulerLostError) as error:
                done = sum(point.key in rows for point in points)
                message = f"{done} of {len(points)} points are done; the same command continues"
                if isinstance(error, SchedulerLostError):
                    raise InputError(
                        f"--scheduler {args.scheduler}: cannot be reached any more ({error}), and "
                        f"the points that were running are lost; {message} once the scheduler and "
                        "workers are there again"
                    ) from None
                print(message, file=sys.stderr)
                raise
    best = sorted(
        (point for point in points if point.key in rows),
        key=lambda point: sort_key(rows[point.key]["metrics"], args.metric),
    )
    if best:
        from tools.analysis.tables import print_tables

        table = full_table(best, rows, args.metric)
        write_bytes(folder / "sweep.csv", table.to_csv(index=False).encode())
        for suffix, content in draw_chart(table, list(best[0].settings), args.metric).items():
            write_bytes(folder / f"sweep.{suffix}", content)
        lines = [f"{folder}/sweep.csv and sweep.png (.svg, .pdf) have all points of this sweep"]
        print_tables([top_table(best, rows, args.metric)], lines)
    promoted = best[: None if args.experiments else args.promote]
    if promoted:
        # Noted before they are made, so that no experiment is without its note.
        record_chosen([point.name for point in promoted], len(best))
    for point in promoted:
        promote(point, rows[point.key])
        print(f"{point.name} is an experiment of the same bits: dvc exp apply {point.name}")
    if len(promoted) < len(best):
        print("The others become experiments by the same command with --promote N")
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
