"""Compute the points of a sweep on a cluster, and keep their rows as they arrive."""

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from tqdm import tqdm

from fairtrial.cluster.client import CodeLocation, connect, iter_results, prepare_workers
from fairtrial.project.errors import InputError
from fairtrial.search.goal import Goal
from fairtrial.search.points import Point
from fairtrial.search.points_file import Rows, append_row, check_row

if TYPE_CHECKING:
    from distributed import Client

LINE_EVERY = 60  # seconds


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
        """Compute points, and add their rows to `rows` and `file`; say which have none, and why.

        label: what the points are, for a progress bar on a terminal.
        """
        done = self.rows.keys() | self.refused
        todo = {point.key: point for point in points if point.key not in done}
        if not todo:
            return
        if self.client is None:
            self.client = self.stack.enter_context(connect(self.scheduler, self.workers))
            prepare_workers(self.client, self.location, next(iter(todo.values())).params)
        params = {key: point.params for key, point in todo.items()}
        said = time.monotonic()
        with tqdm(desc=label, total=len(todo), unit="point", disable=None) as bar:
            for count, (key, result) in enumerate(
                iter_results(self.client, self.location, params), 1
            ):
                if problem := self._problem_of(todo[key], result):
                    tqdm.write(f"{' '.join(todo[key].overrides)}: {problem}", sys.stderr)
                bar.update()
                if bar.disable and time.monotonic() >= said + LINE_EVERY:  # in a log file
                    print(f"{count:,} of {len(todo):,} points", flush=True)
                    said = time.monotonic()

    def _problem_of(self, point: Point, result: dict[str, Any]) -> str | None:
        """Keep the result of a point, or return why it has none.

        result: as `fairtrial.cluster.client.iter_results` yields it.
        """
        if "refused" in result:
            self.refused.add(point.key)
            return str(result["refused"])
        if "failed" not in result:
            row = {"key": point.key, "overrides": point.overrides, **result}
            try:
                check_row(row)
                self.goal.value(row)
            except (InputError, ValueError) as error:
                result = {"failed": f"a worker returned an invalid result ({error})"}
            else:
                self.rows[point.key] = row
                append_row(self.file, row)
                return None
        self.failed += 1
        return str(result["failed"])
