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
    """Write a file; raises `InputError`, and leaves the old one, if it cannot be written."""
    with atomic_replace(path) as draft:
        draft.write_bytes(content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys; NaN and infinity, which JSON lacks, raise `ValueError`."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    write_bytes(path, f"{text}\n".encode())


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table: a line for the header and one for each row."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    write_bytes(path, table.getvalue().encode())


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield the path of a draft beside `path`, which replaces it if the block succeeds.

    If the block raises, the draft is removed and `path` stays as it was. Raises `InputError` if
    the file cannot be written.
    """
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
        with contextlib.suppress(OSError):  # the folder may not be accessible at all
            draft.unlink(missing_ok=True)
