"""Data cards: what a data set is, and where its files are, in `sources/NAME.yaml`."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from stages.params import Section, Size, read_model, short_repr
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo

Md5 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


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
    addresses: list[str] = Field(min_length=1)  # of folders that have the files, or the archive
    archive: File | None = None  # a zip file that holds the four
    train_images: File
    train_labels: File
    test_images: File
    test_labels: File
    transposed: bool = False  # the columns of an image are stored before its rows
    first_label: int = Field(default=0, ge=0)  # the label of the first class


class CsvFile(Section):
    """A compressed table in an installed package, a row an image: its pixels, then its label."""

    format: Literal["csv"]
    package: str
    path: str  # in the package
    max_value: int = Field(gt=0, le=255)  # of a pixel
    sha256: Sha256  # of all images and labels, by `stages.storage.tensors.digest`
    # So many images of each class, the first ones, are the training pool, and the others the test
    # split. Without it the split is by `fetch.test_share`.
    train_per_class: int | None = Field(default=None, gt=0)


class Card(DatasetInfo):
    """A data set, and where its files are."""

    licence: str
    source: str  # who made it, and where it is described
    train: Size | None = None  # images in the training pool, if a test split belongs to the data
    test: Size | None = None
    files: Annotated[IdxFiles | CsvFile, Field(discriminator="format")]

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        has_split = self.files.format == "idx" or self.files.train_per_class is not None
        if has_split != (self.train is not None) or has_split != (self.test is not None):
            raise ValueError("train and test are given just where the files have a test split")
        return self

    @property
    def info(self) -> DatasetInfo:
        """What the splits of the data set say of it."""
        return DatasetInfo(**{name: getattr(self, name) for name in DatasetInfo.model_fields})


def find_card(params: Fetch) -> Card | None:
    """Return the data card that `fetch.source` names; None if it names pictures.

    Raises `ValueError` if nothing is there, or if the parameters are not those of the card, and
    `InputError` as `read_card`.
    """
    path = Path(params.source)
    problem = ""
    try:
        path.stat()  # `exists` hides some errors, and from Python 3.14 on all of them
    except FileNotFoundError:
        problem = f"{path} not found"
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        problem = f"{short_repr(params.source)}: {error.strerror}"
    except ValueError:  # YAML writes it as "\0"
        problem = f"{short_repr(params.source)} has a null character"
    if problem:
        raise ValueError(
            f"source: {problem}; name a data card of sources/, or a folder of pictures with a "
            "sub-folder for each class"
        )
    if path.suffix != ".yaml":
        return None
    card = read_card(path)
    params.check_card(card.info, has_split=card.train is not None)
    return card


def read_card(path: Path) -> Card:
    """Return a data card; raises `InputError` with a line for each problem."""
    return read_model(Card, path)
