"""The file of a sweep's rows: bad rows, bad files, and a full disk."""

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fairtrial.project.chosen import CHOSEN, Chosen, load_chosen, record_chosen
from fairtrial.project.contract import Contract
from fairtrial.project.errors import InputError
from fairtrial.search.goal import Goal
from fairtrial.search.points_file import POINTS, append_row, check_row, exclusive_lock, load_rows

KEY = "0123456789abcdef" * 4
CONTRACT = Contract.model_validate(
    {
        "stage": "fit",
        "scores": "scores.csv",
        "split": "val",
        "seed": "fit.seed",
        "replicas": "fit.replicas",
        "metrics": {"error": {"better": "lower"}, "close": {"better": "higher", "unit": "%"}},
    }
)
ERROR, CLOSE = Goal(CONTRACT, "error"), Goal(CONTRACT, "close")


def row(key: str = KEY) -> dict[str, Any]:
    summary = {"mean": 0.25, "sd": 0.01, "replicas": 5, "n": 150}
    return {
        "key": key,
        "overrides": ["fit.lr=1"],
        "metrics": {"val": {"error": summary}, "test": {"error": summary, "close": summary}},
        "md5": {"scores.csv": "0" * 32},
        "seconds": 1.5,
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    POINTS.parent.mkdir()
    return tmp_path


def load() -> dict[str, dict[str, Any]]:
    with exclusive_lock() as file:
        return load_rows(file, [KEY], ERROR)


def test_the_direction_of_a_rank_is_that_of_the_contract() -> None:
    good, bad = row(), row()
    for split in ("val", "test"):
        bad["metrics"][split]["error"] = {**good["metrics"]["test"]["error"], "mean": 0.5}
    assert ERROR.rank(good) < ERROR.rank(bad)
    for one, value in ((good, 0.75), (bad, 0.5)):
        one["metrics"]["val"]["close"] = {**good["metrics"]["test"]["close"], "mean": value}
    assert CLOSE.rank(good) < CLOSE.rank(bad)
    assert (ERROR.text(good), CLOSE.text(good)) == ("0.25 ± 0.01", "75.00 ± 1.00 %")


def test_rows_are_read_as_they_are_written(folder: Path) -> None:
    other = row("0" * 64)
    with exclusive_lock() as file:
        append_row(file, row())
        append_row(file, other)
    POINTS.write_bytes(POINTS.read_bytes() + b'{"key": "cut o')
    assert load() == {KEY: row(), "0" * 64: other}
    assert POINTS.read_bytes().endswith(b"}\n")


def set_mean(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda row: row["metrics"]["val"]["error"].update(mean=value)


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "no mean": lambda row: row["metrics"]["val"]["error"].pop("mean"),
    "a mean that is text": set_mean("0.9"),
    "a mean that is true": set_mean(True),
    "not a number": set_mean(float("nan")),
    "infinite": lambda row: row["metrics"]["test"]["close"].update(sd=float("inf")),
    "no replicas": lambda row: row["metrics"]["val"]["error"].update(replicas=0),
    "metrics that are a list": lambda row: row.update(metrics=[]),
    "a path for a key": lambda row: row.update(key="../../x"),
    "no key": lambda row: row.pop("key"),
    "another column": lambda row: row.update(more=1),
    "a short MD5": lambda row: row["md5"].update(model="x"),
    "overrides that are text": lambda row: row.update(overrides="fit.lr=1"),
    "infinite seconds": lambda row: row.update(seconds=float("inf")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_row_is_refused_with_its_line(folder: Path, name: str) -> None:
    broken = row()
    BROKEN[name](broken)
    with pytest.raises(ValueError, match=r"\w"):
        check_row(broken)
    text = f"{json.dumps(row('0' * 64))}\n{json.dumps(broken)}\n"
    POINTS.write_text(text)
    with pytest.raises(InputError, match=r"points\.jsonl: line 2: .*remove this line"):
        load()
    assert POINTS.read_text() == text


@pytest.mark.parametrize("line", ["", "null", "[]", "3", "{", "[" * 100_000, '{"key": 1e999}'])
def test_a_line_that_is_not_an_object_is_refused(folder: Path, line: str) -> None:
    POINTS.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"line 1: invalid sweep result"):
        load()


def test_a_row_without_the_metric_of_the_sweep_is_refused_with_its_line(folder: Path) -> None:
    POINTS.write_text(f"{json.dumps(row())}\n")
    with exclusive_lock() as file, pytest.raises(InputError, match=r"line 1: .* no close of val"):
        load_rows(file, [KEY], CLOSE)
    with exclusive_lock() as file:  # it does not matter to a sweep of other points
        load_rows(file, [], CLOSE)


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


def test_a_folder_of_sweeps_that_is_a_file_is_refused(folder: Path) -> None:
    POINTS.parent.rmdir()
    POINTS.parent.write_text("not a folder")
    with pytest.raises(InputError, match=r"points\.jsonl: cannot be opened"):
        load()


def test_a_second_sweep_at_the_same_time_is_refused(folder: Path) -> None:
    with exclusive_lock(), pytest.raises(InputError, match="another sweep runs here; wait for"):
        load()
    assert load() == {}


def test_a_row_without_room_is_refused_and_the_others_stay(folder: Path) -> None:
    with exclusive_lock() as file:
        append_row(file, row())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (POINTS.stat().st_size + 10, hard))
        try:
            for _ in range(2):  # the first is cut off, and nothing of the second is written
                with pytest.raises(InputError, match=r"points\.jsonl: cannot be written .*room"):
                    append_row(file, row("0" * 64))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load() == {KEY: row()}


def test_the_chosen_are_recorded_beside_those_of_other_sweeps(folder: Path) -> None:
    points = [{CONTRACT.seed: 1, "lr": lr} for lr in (0.1, 0.2)]
    record_chosen(points[:1], 6, CONTRACT)
    record_chosen(points, 9, CONTRACT)
    record_chosen([{**points[1], CONTRACT.seed: 2}], 3, CONTRACT)
    other, one = sorted(load_chosen().values(), key=lambda chosen: -len(chosen.seeds))
    assert one == Chosen(settings=9, splits=["val"], seeds=[1])
    assert other == Chosen(settings=9, splits=["val"], seeds=[1, 2])
    for content in ("[]", '{"a": 0}', '{"a": true}', "[" * 100_000, "{"):
        CHOSEN.write_text(content)
        with pytest.raises(InputError, match=r"chosen\.json: invalid .*--best-of"):
            load_chosen()
