"""Files that are written whole or not at all, and the refusal of what is not a regular file."""

import contextlib
import csv
import fcntl
import io
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stages.storage.errors import InputError


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys; NaN and infinity, which JSON lacks, raise `ValueError`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write a table: a line for each row, the first of which is the header."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    write_bytes(path, table.getvalue().encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file by way of a draft beside it, which then replaces it.

    Raises `InputError`, and leaves `path` as it was, if the file cannot be written, or if `path`
    is a link, a device, a pipe or a folder.

    The draft of a file has one name. Its writer locks it, and others wait; what a killed process
    left in it is overwritten.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise InputError(
                f"{path}: is a link, a device, a pipe or a folder; remove it, or name another file"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(draft) as file:
            try:
                file.write(content)
                file.flush()
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error}); make room or give permission, then run again"
        ) from None


def refuse_irregular(path: Path, remedy: str) -> None:
    """Raise `InputError` if `path` is a pipe, a device or a folder, or a link to one.

    Opening a pipe waits for a writer, and a device may have no end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is not a regular file; {remedy}")


def _open_locked(draft: Path) -> BinaryIO:
    """Open a draft to write, and lock it until it is closed."""
    while True:
        if draft.is_symlink():
            draft.unlink(missing_ok=True)
        # A pipe would wait for its reader.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.fdopen(os.open(draft, flags, 0o666), "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        # Its last writer may have renamed or removed it meanwhile, even between two looks at it.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(draft.stat(), os.fstat(file.fileno())):
                file.truncate(0)
                return file
        file.close()
