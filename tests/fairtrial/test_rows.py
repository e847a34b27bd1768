"""The file of a sweep's rows: what is no row, no file, or has no room."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.storage.errors import InputError
from tests.helpers.project import ROOT
from fairtrial.search.rows import METRIC, POINTS, append_row, exclusive_lock, load_rows
from fairtrial.search.schema import check_row

KEY = "0123456789abcdef" * 4


def row(key: str = KEY, **changes: object) -> dict[str, Any]:
    """Return the row of a point with the committed metrics."""
    metrics = {
        name: json.loads((ROOT / f"metrics/{name}.json").read_text())
        for name in ("prepare", "train", "evaluate")
    }
    md5 = {"model": "0" * 32}
    return {
        "key": key,
        "overrides": ["train.lr=1"],
        "metrics": metrics,
        "md5": md5,
        "seconds": 1.5,
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    POINTS.parent.mkdir()
    return tmp_path


def load() -> dict[str, dict[str, Any]]:
    with exclusive_lock() as file:
        return load_rows(file, [KEY], METRIC)


def test_rows_are_read_as_they_are_written(folder: Path) -> None:
    other = row("0" * 64)
    with exclusive_lock() as file:
        append_row(file, row())
        append_row(file, other)
    POINTS.write_bytes(POINTS.read_bytes() + b'{"key": "cut o')
    assert load() == {KEY: row(), "0" * 64: other}
    assert POINTS.read_bytes().endswith(b"}\n")


def without_mean(row: dict[str, Any]) -> None:
    del row["metrics"]["evaluate"]["val"]["replicas"]["mean"]


def set_mean(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda row: row["metrics"]["evaluate"]["val"]["replicas"].update(mean=value)


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "no metric": without_mean,
    "a metric that is text": set_mean("0.9"),
    "a metric that is true": set_mean(True),
    "not a number": set_mean(float("nan")),
    "infinite, elsewhere": lambda row: row["metrics"].update(mine={"a": [float("inf")]}),
    "no metrics": lambda row: row.update(metrics=[]),
    "a key that is none": lambda row: row.update(key="../../x"),
    "no key": lambda row: row.pop("key"),
    "another column": lambda row: row.update(more=1),
    "an MD5 that is none": lambda row: row["md5"].update(model="x"),
    "overrides that are text": lambda row: row.update(overrides="train.lr=1"),
    "infinite seconds": lambda row: row.update(seconds=float("inf")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_row_is_refused_with_its_line(folder: Path, name: str) -> None:
    broken = row()
    BROKEN[name](broken)
    with pytest.raises(ValueError, match=r"\w"):
        check_row(broken)
    text = f"{json.dumps(row('0' * 64))}\n{json.dumps(broken)}\n"
    POINTS.write_text(text)
    with pytest.raises(InputError, match=r"points\.jsonl: .* in line 2 \(.*remove this line"):
        load()
    assert POINTS.read_text() == text


@pytest.mark.parametrize("line", ["", "null", "[]", "3", "{", "[" * 100_000, '{"key": 1e999}'])
def test_what_is_no_json_object_is_refused_with_its_line(folder: Path, line: str) -> None:
    POINTS.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"in line 1 \("):
        load()


def test_a_row_without_the_metric_of_the_sweep_is_refused_with_its_line(folder: Path) -> None:
    POINTS.write_text(f"{json.dumps(row())}\n")
    with exclusive_lock() as file, pytest.raises(InputError, match=r"in line 1 .*--metric mine\.x"):
        load_rows(file, [KEY], "mine.x")
    with exclusive_lock() as file:  # it does not matter to a sweep of other points
        load_rows(file, [], "mine.x")


def test_the_file_of_rows_is_never_a_link_or_a_pipe(folder: Path) -> None:
    target = folder / "target"
    target.write_text("of somebody else")
    POINTS.symlink_to(target)
    with pytest.raises(InputError, match=r"points\.jsonl: cannot be opened"):
        load()
    assert target.read_text() == "of somebody else"
    POINTS.unlink()
    os.mkfifo(POINTS)
    with pytest.raises(InputError, match=r"points\.jsonl: is not a regular file"):
        load()
    POINTS.unlink()
    POINTS.mkdir()
    with pytest.raises(InputError, match=r"points\.jsonl: cannot be opened"):
        load()
    POINTS.rmdir()
    POINTS.parent.rmdir()
    POINTS.parent.write_text("no folder")
    with pytest.raises(InputError, match=r"points\.jsonl: cannot be opened"):
        load()


def test_a_row_without_room_is_refused_and_the_others_stay(folder: Path) -> None:
    with exclusive_lock() as file:
        append_row(file, row())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (POINTS.stat().st_size + 10, hard))
        try:
            for _ in range(2):  # the first is cut off, and of the second there is nothing
                with pytest.raises(InputError, match=r"points\.jsonl: cannot be written .*room"):
                    append_row(file, row("0" * 64))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load() == {KEY: row()}
