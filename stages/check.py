"""Refuse a bad `params.yaml` before DVC removes the outputs of any stage.

Reads all sections of `params.yaml`. Writes `data/params.ok`, whose content is always the same:
the stages that depend on it run again only when something of their own changes.

    python -m stages check
"""

import contextlib
import os
import time
from pathlib import Path

from pydantic import ValidationInfo, field_validator

from stages.datasets.cards import find_card
from stages.params import PATH, Section, load_params
from stages.params.evaluate import Evaluate
from stages.params.fetch import Fetch
from stages.params.prepare import Prepare
from stages.params.train import Train, refuse_missing_gpu
from stages.storage.errors import InputError
from stages.storage.files import write_bytes


class Params(Section):
    fetch: Fetch
    prepare: Prepare
    train: Train
    evaluate: Evaluate

    # What is found here is found before anything is removed. The stages check it again, since
    # `dvc.yaml` does not have the source among the dependencies of this one.

    @field_validator("fetch")
    @classmethod
    def _check_source(cls, fetch: Fetch) -> Fetch:
        find_card(fetch)
        return fetch

    @field_validator("prepare")
    @classmethod
    def _check_pool(cls, prepare: Prepare, info: ValidationInfo) -> Prepare:
        fetch = info.data.get("fetch")  # absent if it is invalid itself
        if fetch and (card := find_card(fetch)) and card.train:
            prepare.sizes(card.train)
        return prepare


def check_params(path: Path = PATH) -> Params:
    """Return the parameters of a `params.yaml`; raises `InputError` with a line for each problem.

    Whether there is a GPU is not checked: a sweep checks parameters that its workers run elsewhere.
    """
    return load_params(Params, path=path)


def main() -> None:
    try:
        if check_params().train.device == "cuda":
            refuse_missing_gpu()
    except InputError:
        with contextlib.suppress(OSError):
            # `dvc exp run -S` may have written the file within the second in which git last looked
            # at it, without changing its size. Git would then take it for unchanged and never
            # restore it, unless its modification time moves on.
            modified = time.time() + 1
            os.utime(PATH, (modified, modified))
        raise
    write_bytes(Path("data/params.ok"), b"params.yaml is valid\n")
