"""Refuse a bad `params.yaml` before DVC removes the outputs of any stage.

Reads all sections of `params.yaml`. Writes `data/params.ok`, whose content is always the same:
the stages that depend on it run again only when something of their own changes.

    python -m stages check
"""

import contextlib
import functools
import os
import time
from pathlib import Path

from pydantic import ValidationInfo, field_validator

from stages.datasets.cards import Card, find_card
from stages.params import PATH, Section, load_params
from stages.params.evaluate import Evaluate
from stages.params.fetch import Fetch
from stages.params.prepare import Prepare
from stages.params.train import Train, refuse_missing_gpu
from stages.storage.errors import NOT_IN_GIT, InputError
from stages.storage.files import write_bytes
from stages.storage.yaml_reader import read_yaml


def card_of(fetch: Fetch) -> Card | None:
    """Return the data card as `find_card` does; a sweep asks for the same one for each point."""
    path = Path(fetch.source).absolute()
    try:
        return _card_of(fetch, path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return find_card(fetch)  # which says what is wrong


@functools.lru_cache(maxsize=8)
def _card_of(fetch: Fetch, path: Path, modified: int) -> Card | None:
    del path, modified  # they stand for the content
    return find_card(fetch)


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
        card_of(fetch)
        return fetch

    @field_validator("prepare")
    @classmethod
    def _check_pool(cls, prepare: Prepare, info: ValidationInfo) -> Prepare:
        fetch = info.data.get("fetch")  # absent if it is invalid itself
        if fetch and (card := card_of(fetch)) and card.train:
            prepare.sizes(card.train)
        return prepare


def check_params(path: Path = PATH) -> Params:
    """Return the parameters of a `params.yaml`; raises `InputError` with a line for each problem.

    Whether there is a GPU is not checked: a sweep checks parameters that its workers run elsewhere.
    """
    return load_params(Params, path=path)


def refuse_missing_code() -> None:
    """Raise `InputError` if a stage depends on code of ours that is not there.

    In the folder of `dvc exp run --temp` a file is missing that git does not know. DVC would notice
    it in the middle of the run.
    """
    if not (path := Path("dvc.yaml")).is_file():
        return
    definitions = read_yaml(path)
    stages = definitions.get("stages") if isinstance(definitions, dict) else None
    listed = [
        dep
        for stage in (stages.values() if isinstance(stages, dict) else [])
        for dep in (stage.get("deps") or [] if isinstance(stage, dict) else [])
    ]
    missing = [
        str(dep) for dep in listed if str(dep).endswith(".py") and not Path(str(dep)).exists()
    ]
    if missing:
        raise InputError(
            *(
                f"dvc.yaml: {dep} is not there; {NOT_IN_GIT.format(dep)}"
                for dep in sorted({*missing})
            )
        )


def main() -> None:
    try:
        refuse_missing_code()
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
