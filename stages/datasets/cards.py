"""Data cards: what a data set is, and where its files are, in `sources/NAME.yaml`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from stages.params import Section, Size, load_params, short_repr
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo

Md5 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]


class File(Section):
    """A file to download: the MD5 of its bytes, and perhaps of what they are decompressed to.

    Where that is known, a file that was compressed again is accepted.
    """

    name: str
    md5: Md5 | None = None
    decompressed_md5: Md5 | None = None


class IdxFiles(Section):
    """Four compressed files in MNIST's format, http://yann.lecun.com/exdb/mnist/."""

    format: Literal["idx"]
    # Of folders that have the files; or one folder of this project.
    addresses: list[str] = Field(min_length=1)
    train_images: File
    train_labels: File
    test_images: File
    test_labels: File

    @model_validator(mode="after")
    def _check_hashes(self) -> Self:
        files = [self.train_images, self.train_labels, self.test_images, self.test_labels]
        for file in files:
            if not (file.md5 or file.decompressed_md5):
                raise ValueError(f"{file.name} has no md5; add it, so that other data are noticed")
        return self


class Card(DatasetInfo):
    """A data set, and where its files are."""

    licence: str
    source: str  # who made it, and where it is described
    train: Size  # images in the training pool
    test: Size
    files: IdxFiles

    @property
    def info(self) -> DatasetInfo:
        """What the splits of the data set say of it."""
        return DatasetInfo(**{name: getattr(self, name) for name in DatasetInfo.model_fields})


def is_local(address: str) -> bool:
    return "://" not in address


def find_card(params: Fetch) -> Card | None:
    """Return the data card that `fetch.source` names; None if it names pictures.

    Raises `ValueError` if nothing is there, or if the parameters are not those of the card, and
    `InputError` as `read_card`.
    """
    path = Path(params.source)
    try:
        path.stat()  # `exists` hides some errors, and from Python 3.14 on all of them
    # A name that is too long, a folder that may not be entered, or a null character.
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or error
        raise ValueError(
            f"source: {short_repr(params.source)}: {problem}; name a data card of sources/, or a "
            "folder of pictures with a sub-folder for each class"
        ) from None
    if path.suffix != ".yaml":
        return None
    card = read_card(path)
    params.check_card(card.info)
    return card


def read_card(path: Path) -> Card:
    """Return a data card; raises `InputError` with a line for each problem."""
    return load_params(Card, path=path)
