"""The digits in git are those that the script makes of their official files."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.cards import SOURCES, load
from tests.helpers.project import MNIST, needs_mnist

spec = importlib.util.spec_from_file_location("write_digits", SOURCES / "write_digits.py")
assert spec
assert spec.loader
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


@needs_mnist
def test_mnist_5k_is_what_the_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decompressed, because other versions of zlib compress in other ways."""
    monkeypatch.setattr(script, "HERE", tmp_path)
    script.write("mnist-5k", script.mnist_5k(MNIST))
    written = sorted((tmp_path / "mnist-5k").iterdir())
    assert len(written) == 4
    for path in written:
        committed = SOURCES / "mnist-5k" / path.name
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(committed.read_bytes())


def test_digits_8x8_is_what_the_script_makes_of_a_table(tmp_path: Path) -> None:
    """The table is made of the committed digits, in an order of the test's own."""
    digits = load("digits-8x8")
    images, labels = (
        np.concatenate([digits[name][key] for name in ("test", "train")])
        for key in ("images", "labels")
    )
    table = np.column_stack([np.rint(images.reshape(-1, 64) / 255 * 16), labels]).astype(int)
    np.savetxt(tmp_path / "optdigits.tes", table, fmt="%d", delimiter=",")
    made = script.digits_8x8(tmp_path / "optdigits.tes")
    assert {name: len(labels) for name, (_, labels) in made.items()} == {
        "train": 1_412,
        "test": 385,
    }
    for name, (images, labels) in made.items():
        np.testing.assert_array_equal(images, digits[name]["images"][:, 0])
        np.testing.assert_array_equal(labels, digits[name]["labels"])


@pytest.mark.parametrize("name", ["mnist-5k", "digits-8x8"])
def test_the_first_digits_are_of_all_classes(name: str) -> None:
    for split in load(name).values():
        assert set(split["labels"][:20]) == set(range(10))
