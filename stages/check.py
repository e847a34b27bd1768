"""Refuse a bad `params.yaml` before DVC removes the outputs of any stage.

Reads all sections of `params.yaml`. Writes `data/params.ok`, whose content is always the same:
the stages that depend on it run again only when something of their own changes.

    python -m stages.check
"""

import contextlib
import os
import time
from pathlib import Path

from pydantic import ValidationInfo, field_validator

from stages.params import PATH, Section, load_params
from stages.params.evaluate import Evaluate
from stages.params.fetch import POOL_SIZES, Fetch
from stages.params.prepare import Prepare
from stages.params.train import Train
from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes


class Params(Section):
    fetch: Fetch
    prepare: Prepare
    train: Train
    evaluate: Evaluate

    @field_validator("prepare")
    @classmethod
    def _check_pool(cls, prepare: Prepare, info: ValidationInfo) -> Prepare:
        if fetch := info.data.get("fetch"):  # absent if it is invalid itself
            prepare.check_pool(POOL_SIZES[fetch.dataset])
        return prepare


def main() -> None:
    try:
        load_params(Params)
    except InputError:
        with contextlib.suppress(OSError):
            # `dvc exp run -S` may have written the file within the second in which git last looked
            # at it, without changing its size. Git would then take it for unchanged and never
            # restore it, unless its modification time moves on.
            modified = time.time() + 1
            os.utime(PATH, (modified, modified))
        raise
    write_bytes(Path("data/params.ok"), b"params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
