"""What tests of the tools share."""

import pytest

from stages.storage.dataset_info import DatasetInfo
from stages.storage.split_files import read_split
from stages.storage.tensors import Array
from tests.helpers.project import Project


@pytest.fixture(scope="session")
def dataset(reproduced: Project) -> DatasetInfo:
    """What the digits are."""
    return read_split(reproduced.path / "data/prepared/test.safetensors")[0]


@pytest.fixture(scope="session")
def digits(reproduced: Project) -> tuple[Array, Array]:
    """Two hundred images of test, uint8 (200, 28, 28), and their labels."""
    _, split = read_split(reproduced.path / "data/prepared/test.safetensors")
    return split["images"][:200, 0], split["labels"][:200]
