"""Refuse a bad `params.yaml` before DVC removes the outputs of any stage.

Reads the whole of `params.yaml`. Writes `data/params.ok`, always the same, so that the
stages that wait for it run again only when something of their own changes.

    python -m stages.check
"""

from pathlib import Path

from pydantic import ValidationInfo, field_validator

from stages.errors import run
from stages.files import write
from stages.params import Section, load
from stages.params.evaluate import Evaluate
from stages.params.fetch import POOL_SIZES, Fetch
from stages.params.prepare import Prepare
from stages.params.train import Train


class Params(Section):
    fetch: Fetch
    prepare: Prepare
    train: Train
    evaluate: Evaluate

    @field_validator("prepare")
    @classmethod
    def _fits_the_pool(cls, prepare: Prepare, info: ValidationInfo) -> Prepare:
        fetch = info.data.get("fetch")  # absent when it has problems of its own
        wanted = prepare.train_size + prepare.val_size
        if fetch and wanted > POOL_SIZES[fetch.dataset]:
            raise ValueError(
                f"train_size {prepare.train_size} + val_size {prepare.val_size} is more than "
                f"the {POOL_SIZES[fetch.dataset]} training images of {fetch.dataset}"
            )
        return prepare


def main() -> None:
    load(Params)
    write(Path("data/params.ok"), b"params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
