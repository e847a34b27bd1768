"""The results of all points that were ever computed, a line of JSON each, and tables of them."""

import contextlib
import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fairtrial.project.errors import InputError
from fairtrial.project.files import write_json
from fairtrial.project.revisions import flatten
from fairtrial.search.grid import Point

if TYPE_CHECKING:
    import pandas as pd

POINTS = Path("sweeps/points.jsonl")
CHOSEN = Path("sweeps/chosen.json")  # of how many points each promoted one was the best
METRIC = "evaluate.val.replicas.mean"  # what the best point is chosen by, unless told otherwise
LOWER_IS_BETTER = ("loss", "cross_entropy", "calibration_error")  # the ends of metrics' names
TOP = 20  # points in the table on the terminal

Row = dict[
    str, Any
]  # key and overrides of a point, and what `fairtrial.cluster.worker` returns of it
Rows = dict[str, Row]  # by their keys


@contextlib.contextmanager
def exclusive_lock() -> Iterator[BinaryIO]:
    """Yield the file of rows, open to read and append.

    Raises `InputError` if another sweep has it, or if it cannot be opened or is a link.
    """
    # A link is not followed, and at a pipe nothing waits.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        POINTS.parent.mkdir(exist_ok=True)
        descriptor = os.open(POINTS, flags, 0o666)
    except OSError as error:
        raise InputError(
            f"{POINTS}: cannot be opened ({error}); make it a file that you may write, or remove it"
        ) from None
    with open(descriptor, "ab+", buffering=0) as file:  # noqa: PTH123  (it is open already)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{POINTS}: is not a regular file; remove it")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{POINTS}: another sweep runs here; wait for its end") from None
        yield file


def load_rows(file: BinaryIO, keys: Iterable[str], metric: str) -> Rows:
    """Return the rows of all points that were ever computed.

    A last line that was cut off while it was written is removed from the file. Raises `InputError`
    with the line if a row is none, or if one of `keys` lacks the metric.
    """
    from fairtrial.search.schema import check_row

    wanted = set(keys)
    file.seek(0)
    *lines, last = file.read().split(b"\n")
    if last:
        file.truncate(sum(len(line) + 1 for line in lines))
    rows: Rows = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            check_row(row)
            if row["key"] in wanted:
                metric_value(row["metrics"], metric)
        except (InputError, RecursionError, ValueError) as error:
            raise InputError(
                f"{POINTS}: not as a sweep writes it, in line {number} ({error}); remove this "
                "line, and the sweep computes its point again"
            ) from None
        rows[row["key"]] = row
    return rows


def record_chosen(names: list[str], points: int) -> None:
    """Note that the points of these names were chosen as the best of so many."""
    write_json(CHOSEN, {**load_chosen(), **dict.fromkeys(names, points)})


def load_chosen() -> dict[str, int]:
    """Return of how many points each experiment of a sweep was chosen as the best, by its name."""
    try:
        chosen = json.loads(CHOSEN.read_text(encoding="utf-8"))
        if not all(type(points) is int and points > 0 for points in chosen.values()):
            raise ValueError("a number of points is not a whole number above 0")
    except FileNotFoundError:
        return {}
    except (AttributeError, OSError, RecursionError, ValueError) as error:
        raise InputError(
            f"{CHOSEN}: not as a sweep writes it ({error}); remove it, and name the number of "
            "points by --best-of"
        ) from None
    result: dict[str, int] = chosen
    return result


def append_row(file: BinaryIO, row: Row) -> None:
    """Append a row; raises `InputError` if there is no room for it."""
    line = f"{json.dumps(row, allow_nan=False)}\n".encode()
    try:
        if file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise InputError(
            f"{POINTS}: cannot be written ({error}); make room, and the same command continues"
        ) from None


def metric_value(metrics: dict[str, Any], metric: str) -> float:
    """Return a metric by its dotted name; raises `InputError` if there is none, or it is of test.

    metrics: the values of metrics files, by the stem of the file.
    """
    value: Any = metrics
    for part in metric.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or metric.startswith("evaluate.test"):
        numbers = (name for name, number in flatten(metrics) if isinstance(number, int | float))
        known = [name for name in numbers if not name.startswith("evaluate.test")]
        raise InputError(f"--metric {metric}: not a metric of val; there are {', '.join(known)}")
    return value


def sort_key(metrics: dict[str, Any], metric: str) -> float:
    """Return a number that is the lower, the better the metric is."""
    return metric_value(metrics, metric) * (1 if lower_is_better(metric) else -1)


def lower_is_better(metric: str) -> bool:
    return metric.endswith(LOWER_IS_BETTER)


def full_table(points: list[Point], rows: Rows, metric: str) -> "pd.DataFrame":
    """Return the settings and all results of points, a row a point in their order."""
    import pandas as pd

    lines = []
    for point in points:
        row = rows[point.key]
        results = dict(flatten({**row["metrics"], "md5": row["md5"]}))
        lines.append(
            {
                "experiment": point.name,
                **point.settings,
                metric: results.pop(metric),
                **{name: value for name, value in results.items() if not isinstance(value, list)},
                "seconds": row["seconds"],
            }
        )
    return pd.DataFrame(lines)


def top_table(points: list[Point], rows: Rows, metric: str) -> "pd.DataFrame":
    """Return the settings and the accuracy on val of the first points, as text."""
    import pandas as pd

    from fairtrial.tables import metrics_cells

    lines = []
    for point in points[:TOP]:
        metrics = rows[point.key]["metrics"]
        cells = metrics_cells(metrics["evaluate"]["val"])
        line = {"experiment": point.name, **point.settings}
        if metric != METRIC:
            line[metric] = f"{metric_value(metrics, metric):.4f}"
        line |= {name: cells[name] for name in ("accuracy %", "95 % CI", "seeds", "mean ± sd %")}
        lines.append(line)
    return pd.DataFrame(lines)
