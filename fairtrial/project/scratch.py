"""Private folders for the time of a command, of which even a killed one leaves none for long."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fairtrial.project.errors import InputError

PARENT = Path(".dvc/tmp")


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Yield the absolute path of a new folder under `.dvc/tmp`, and remove it at the end.

    Only the user can enter it. Folders with the same prefix whose process was killed are removed,
    too: a process holds a lock in its folder, which ends with it. Raises `InputError` if no folder
    can be made.
    """
    parent = PARENT.absolute()
    with contextlib.ExitStack() as stack:
        try:
            parent.mkdir(exist_ok=True)
            # One at a time, so that none takes a new folder, not locked yet, for one that is left.
            with _locked(parent / "scratch.lock", fcntl.LOCK_EX):
                for left in parent.glob(f"{prefix}*"):
                    with (
                        contextlib.suppress(OSError),  # it is locked, or its process removes it
                        _locked(left / ".lock", fcntl.LOCK_EX | fcntl.LOCK_NB),
                    ):
                        shutil.rmtree(left, ignore_errors=True)
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.enter_context(_locked(folder / ".lock", fcntl.LOCK_EX))
        except OSError as error:
            raise InputError(
                f"{PARENT}: no folder can be made there ({error}); make room or give permission"
            ) from None
        yield folder


@contextlib.contextmanager
def _locked(path: Path, operation: int) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, operation)
        yield
    finally:
        os.close(file)
