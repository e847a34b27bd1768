"""Write files whole or not at all, and refuse what is not a file."""

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairtrial.project.errors import InputError


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys; NaN and infinity, which JSON lacks, raise `ValueError`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; raises `InputError`, and leaves the old one, if it cannot be written.

    A link, a device, a pipe or a folder at `path` is refused and never replaced.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.draft")
    try:
        if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
            raise InputError(
                f"{path}: is a link, a device, a pipe or a folder; remove it, or name another file"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
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
