"""Compute the points of a sweep on a cluster, and keep their rows as they arrive."""

import math
import sys
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from tools.cluster.client import TRIES, CodeLocation, iter_results
from tools.search.grid import Point
from tools.search.rows import Rows, append_row, sort_key

if TYPE_CHECKING:
    from distributed import Client


def run_points(
    points: list[Point],
    rows: Rows,
    file: TextIO,
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
            else:
                rows[key] = {"key": key, "overrides": overrides, **result}
                append_row(file, rows[key])
                best = min(best, sort_key(result["metrics"], metric))
            bar.update()
            running = min(len(points) - bar.n, len(client.nthreads()))
            best_text = "none yet" if best == math.inf else f"{abs(best):.4f}"
            bar.set_postfix_str(f"{running} running, {failed} failed, best {best_text}")
    return failed
