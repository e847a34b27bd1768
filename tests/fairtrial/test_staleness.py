"""Whether scores belong to what `dvc.lock` says, with folders and foreach stages in it."""

import hashlib
from typing import Any

import pytest

from fairtrial.project.errors import InputError
from fairtrial.project.staleness import refuse_stale
from tests.fairtrial.replicas import CONTRACT

SCORES = b"split,example"
MD5 = hashlib.md5(SCORES).hexdigest()


def lock() -> dict[str, Any]:
    """Return a lock in which `evaluate` reads a folder, and a file of a folder that others made."""
    return {
        "stages": {
            "data@a": {
                "outs": [{"path": "raw/a.csv", "md5": "1"}],
                "params": {"params.yaml": {"n": 1}},
            },
            "train": {
                "deps": [{"path": "../raw", "md5": "2.dir"}],
                "params": {"../params.yaml": {"train": {"lr": 0.1}}},
                "outs": [{"path": "models", "md5": "3.dir"}],
            },
            "evaluate": {
                "deps": [
                    {"path": "sub/models/best", "md5": "4"},
                    {"path": "raw/a.csv", "md5": "1"},
                ],
                "outs": [{"path": "metrics/scores.csv", "md5": MD5}],
            },
            "deploy": {"params": {"params.yaml": {"port": 80}}},
        }
    }


def check(lock: dict[str, Any], **params: Any) -> None:
    values = {"n": 1, "train.lr": 0.1, "port": 8080, **params}
    definitions = {"train": {"wdir": "sub"}}
    refuse_stale("x", CONTRACT, definitions, lock, values, {"metrics/scores.csv": SCORES})


def test_what_is_consistent_is_accepted_whatever_comes_after_the_scores() -> None:
    check(lock())


@pytest.mark.parametrize("name", ["n", "train.lr"])
def test_parameters_of_all_stages_before_are_held_against_it(name: str) -> None:
    with pytest.raises(InputError, match=rf"^x: params.yaml has another {name} than its results"):
        check(lock(), **{name: 7})


def test_a_stage_that_ran_again_alone_is_named() -> None:
    half = lock()
    half["stages"]["data@a"]["outs"][0]["md5"] = "5"
    with pytest.raises(InputError, match=r"^x: dvc.lock has another raw/a.csv than its stage eval"):
        check(half)


@pytest.mark.parametrize("content", [{}, {"stages": 3}, {"stages": {"evaluate": 3}}])
def test_a_lock_without_the_stage_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^x: dvc.lock does not say what the scores of stage ev"):
        check(content)


def test_other_scores_are_refused() -> None:
    other = lock()
    other["stages"]["evaluate"]["outs"][0]["md5"] = "6"
    with pytest.raises(InputError, match=r"^x: metrics/scores.csv is not the table that dvc.lock"):
        check(other)
