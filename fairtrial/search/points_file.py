"""The results of all points that were ever computed, a line of JSON each."""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, BinaryIO

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fairtrial.project.chosen import SWEEPS
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.search.goal import Goal, Row

POINTS = SWEEPS / "points.jsonl"

Rows = dict[str, Row]  # by their keys


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Summary(_Strict):
    mean: float
    sd: float | None  # over the replicas; null if there is one
    replicas: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=1)]


class _Row(_Strict):
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    overrides: list[str]
    metrics: dict[str, dict[str, _Summary]]  # by split and name
    md5: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]]  # by path
    seconds: Annotated[float, Field(ge=0)]


def check_row(row: Any) -> None:
    """Raise `ValueError` with the first problem if this is not the row of a point."""
    try:
        _Row.model_validate(row)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(repr, problem["loc"])) or "the row"
        is_object = problem["type"] == "model_type"  # pydantic names a class of ours
        message = "should be an object" if is_object else problem["msg"].lower()
        raise ValueError(f"{place}: {message}") from None


@contextlib.contextmanager
def exclusive_lock() -> Iterator[BinaryIO]:
    """Yield the file of rows, open to read and append.

    Raises `InputError` if another sweep has it, or if it is not a regular file or cannot be opened.
    """
    # A link is not followed, and a pipe does not block.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.ExitStack() as stack:
        try:
            if not SWEEPS.exists():
                write_bytes(SWEEPS / ".gitignore", b"*\n")  # results of a sweep stay out of git
            stack.enter_context(FileLock(SWEEPS / "points.lock", timeout=0))
            descriptor = os.open(POINTS, flags, 0o666)
        except Timeout:
            raise InputError(f"{POINTS}: another sweep runs here; wait for its end") from None
        except OSError as error:
            raise InputError(
                f"{POINTS}: cannot be opened ({error}); make it a file that you may write, or "
                "remove it"
            ) from None
        file = stack.enter_context(open(descriptor, "ab+", buffering=0))  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{POINTS}: is not a regular file; remove it")
        yield file


def load_rows(file: BinaryIO, keys: Iterable[str], goal: Goal) -> Rows:
    """Return the rows of all points that were ever computed.

    A last line that was cut off while it was written is removed from the file. Raises `InputError`
    with the line if it is not a row, or if a row of `keys` lacks the metric.
    """
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
                goal.value(row)
        except (InputError, RecursionError, ValueError) as error:
            raise InputError(
                f"{POINTS}: line {number}: invalid sweep result ({error}); remove this line, and "
                "the sweep computes its point again"
            ) from None
        rows[row["key"]] = row
    return rows


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
