"""Compute the points of a sweep on a cluster, and keep their rows as they arrive."""

import contextlib
import math
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

from tqdm import tqdm

from fairtrial.cluster.client import (
    CodeLocation,
    FailedPointError,
    connect,
    iter_results,
    prepare_workers,
)
from fairtrial.project.errors import InputError
from fairtrial.search.goal import Goal, Row
from fairtrial.search.grid import Point
from fairtrial.search.rows import Rows, append_row, check_row

if TYPE_CHECKING:
    from distributed import Client


@dataclass
class PointRunner:
    """Computes the points that have no row yet, on a cluster that the first of them connects."""

    rows: Rows  # of all points that were ever computed
    file: BinaryIO  # which has the rows, too
    location: CodeLocation
    scheduler: str | None
    workers: int  # of a local cluster
    goal: Goal
    stack: contextlib.ExitStack  # which disconnects the cluster
    client: "Client | None" = None
    refused: set[str] = field(default_factory=set)  # keys of points that a stage refused
    failed: int = 0  # points that failed for another reason

    def compute(self, points: list[Point], label: str | None = None) -> None:
        """Compute points, and add their rows to `rows` and `file`.

        On a terminal a progress bar shows how many points are done, running and failed, the best
        value, and how many workers there are or since when there are none. In a log, a line says
        when there are no workers, and when there are some again.

        label: what the points are, for the bar.
        """
        done = self.rows.keys() | self.refused
        todo = {point.key: point for point in points if point.key not in done}
        if not todo:
            return
        if self.client is None:
            self.client = self.stack.enter_context(connect(self.scheduler, self.workers))
            prepare_workers(self.client, self.location, next(iter(todo.values())).params)
        best = math.inf
        refused, failed = len(self.refused), self.failed
        no_workers = ""  # since when
        params = {key: point.params for key, point in todo.items()}
        with tqdm(desc=label, total=len(todo), unit="point", disable=None) as bar:
            for workers, results in iter_results(self.client, self.location, params):
                for key, result in results.items():
                    if isinstance(result, dict):
                        result = self._add_row(todo[key], result)
                    if isinstance(result, str):
                        self.refused.add(key)
                    elif isinstance(result, FailedPointError):
                        self.failed += 1
                    else:
                        best = min(best, self.goal.rank(result))
                        continue
                    tqdm.write(f"{' '.join(todo[key].overrides)}: {result}", sys.stderr)
                bar.update(len(results))
                if bool(workers) == bool(no_workers):
                    no_workers = "" if workers else f"no workers since {datetime.now():%a %H:%M:%S}"
                    if bar.disable:
                        print(no_workers or f"{workers} workers", file=sys.stderr)
                running = min(len(todo) - bar.n, workers)
                where = no_workers or f"{running} running on {workers} workers"
                best_text = "none yet" if best == math.inf else f"{abs(best):.4f}"
                lost = len(self.refused) - refused + self.failed - failed
                bar.set_postfix_str(f"{where}, {lost} failed, best {best_text}")

    def _add_row(self, point: Point, result: Row) -> Row | FailedPointError:
        """Add the result of a worker to `rows` and `file`; return the row, or what is wrong."""
        row = {"key": point.key, "overrides": point.overrides, **result}
        try:
            check_row(row)
            self.goal.value(row)
        except (InputError, ValueError) as error:
            return FailedPointError(f"a worker returned an invalid result ({error})")
        self.rows[point.key] = row
        append_row(self.file, row)
        return row
