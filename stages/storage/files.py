"""Files that are written whole or not at all, and the refusal of what is not a regular file."""

import contextlib
import csv
import fcntl
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from stages.storage.errors import InputError


def write_bytes(path: Path, content: bytes, fsync: bool = True) -> None:
    """Write a file; raises `InputError`, and leaves the old one, if it cannot be written."""
    with atomic_replace(path, fsync) as draft:
        draft.write(content)


def write_json(path: Path, value: Mapping[str, Any], fsync: bool = True) -> None:
    """Write JSON with sorted keys; NaN and infinity, which JSON lacks, raise `ValueError`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode(), fsync)


def write_csv(
    path: Path, header: Iterable[str], rows: Iterable[Iterable[object]], fsync: bool = True
) -> None:
    """Write a table, as `atomic_replace` does: a line for the header and one for each row."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    with atomic_replace(path, fsync) as draft:
        draft.write(table.getvalue().encode())


@contextlib.contextmanager
def atomic_replace(path: Path, fsync: bool = True) -> Iterator[BinaryIO]:
    """Yield a draft beside `path`, open to write, which replaces it if the block succeeds.

    If the block raises, the draft is removed and `path` stays as it was. With `fsync`, the new
    file has reached the disk in the end. Raises `InputError` if the file cannot be written, or
    if `path` is a link, a device, a pipe or a folder.

    The draft of a file has one name. Its writer locks it, and others wait; what a killed process
    left in it is overwritten.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                raise InputError(
                    f"{path}: is a link, a device, a pipe or a folder, and not a file to replace; "
                    "remove it, or name another file"
                )
        path.parent.mkdir(parents=True, exist_ok=True)
        with _open_locked(draft) as file:
            try:
                yield file
                file.flush()
                if fsync:
                    os.fsync(file.fileno())
                draft.replace(path)
            except BaseException:
                with contextlib.suppress(OSError):  # the folder may not be accessible any more
                    draft.unlink()
                raise
        if fsync:
            _fsync_folder(path.parent)
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


def _fsync_folder(folder: Path) -> None:
    """Let the new name of a file reach the disk, where the file system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
