"""Compute the points of a sweep on a cluster, and keep their rows as they arrive."""

import math
import sys
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from tqdm import tqdm

from stages.storage.errors import InputError
from tools.cluster.client import CodeLocation, iter_results
from tools.search.grid import Point
from tools.search.rows import Row, Rows, append_row, sort_key

if TYPE_CHECKING:
    from distributed import Client


def run_points(
    points: list[Point],
    rows: Rows,
    file: BinaryIO,
    client: "Client",
    location: CodeLocation,
    metric: str,
) -> int:
    """Compute points, add their rows to `rows` and `file`; return the number of failures.

    On a terminal a progress bar shows how many are done, running and failed, the best value of
    the metric, and how many workers there are or since when none; in a log, a line says when there
    are no workers, and when there are some again.
    """
    by_key = {point.key: point for point in points}
    best = math.inf
    failed = 0
    no_workers = ""  # since when
    with tqdm(total=len(points), unit="point", disable=None) as bar:
        for workers, results in iter_results(client, location, {p.key: p.params for p in points}):
            for key, result in results.items():
                overrides = by_key[key].overrides
                if isinstance(result, str):
                    failed += 1
                    tqdm.write(f"{' '.join(overrides)}: {result}", sys.stderr)
                    continue
                row = {"key": key, "overrides": overrides, **result}
                if problem := _problem(row, metric):
                    failed += 1
                    text = f"{' '.join(overrides)}: a worker returned what is no result ({problem})"
                    tqdm.write(text, sys.stderr)
                    continue
                rows[key] = row
                append_row(file, row)
                best = min(best, sort_key(row["metrics"], metric))
            bar.update(len(results))
            if bool(workers) == bool(no_workers):
                no_workers = "" if workers else f"no workers since {datetime.now():%a %H:%M:%S}"
                if bar.disable:
                    print(no_workers or f"{workers} workers", file=sys.stderr)
            running = min(len(points) - bar.n, workers)
            where = no_workers or f"{running} running on {workers} workers"
            best_text = "none yet" if best == math.inf else f"{abs(best):.4f}"
            bar.set_postfix_str(f"{where}, {failed} failed, best {best_text}")
    return failed


def _problem(row: Row, metric: str) -> str:
    """Return what is wrong with a row that has come back from a worker, or an empty text."""
    from tools.search.schema import check_row

    try:
        check_row(row)
        sort_key(row["metrics"], metric)
    except (InputError, ValueError) as error:
        return str(error)
    return ""
