"""Compute the points of a sweep on a cluster, and keep their rows as they arrive."""

import math
import sys
from typing import TYPE_CHECKING, BinaryIO

from tqdm import tqdm

from stages.storage.errors import InputError
from tools.cluster.client import TRIES, CodeLocation, iter_results
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

    A progress bar shows how many are done, running and failed, and the best value of the metric.
    """
    by_key = {point.key: point for point in points}
    best = math.inf
    failed = 0
    with tqdm(total=len(points), unit="point", disable=None) as bar:
        for key, result in iter_results(client, location, {p.key: p.params for p in points}):
            overrides = by_key[key].overrides
            if isinstance(result, str):
                failed += 1
                tqdm.write(f"{' '.join(overrides)}: failed {TRIES} times\n{result}", sys.stderr)
            elif problem := _problem(row := {"key": key, "overrides": overrides, **result}, metric):
                failed += 1
                text = f"{' '.join(overrides)}: a worker returned what is no result ({problem})"
                tqdm.write(text, sys.stderr)
            else:
                rows[key] = row
                append_row(file, row)
                best = min(best, sort_key(row["metrics"], metric))
            bar.update()
            running = min(len(points) - bar.n, len(client.nthreads()))
            best_text = "none yet" if best == math.inf else f"{abs(best):.4f}"
            bar.set_postfix_str(f"{running} running, {failed} failed, best {best_text}")
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
