"""What tests of the tools share."""

import pytest

from stages.storage.tensors import PREPARED_LAYOUT, Array, read_split
from tests.helpers.project import Project


@pytest.fixture(scope="session")
def digits(reproduced: Project) -> tuple[Array, Array]:
    """Two hundred images of test, uint8 (200, 28, 28), and their labels."""
    split = read_split(reproduced.path / "data/prepared/test.safetensors", PREPARED_LAYOUT)
    return split["images"][:200, 0], split["labels"][:200]
