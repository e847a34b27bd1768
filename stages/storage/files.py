"""Files that are written whole or not at all."""

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.storage.errors import InputError


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file; raises `InputError`, and leaves what was there, if it cannot be written."""
    with atomic_replace(path) as draft:
        draft.write_bytes(content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value`, keys in order; NaN and infinity, which JSON has not, raise `ValueError`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table with a line for its header and one for each row."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    write_bytes(path, table.getvalue().encode())


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield a draft beside `path`, which takes its place if all went well and else is removed."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        draft.replace(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error}); make room or give permission, then run again"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # where it could not even be begun
            draft.unlink(missing_ok=True)
