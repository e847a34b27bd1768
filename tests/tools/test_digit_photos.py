"""Pictures of digits are brought to the form of MNIST."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.storage.tensors import Array
from tests.helpers.pictures import on_green, on_nothing, photographed, shifted
from tools.analysis.digit_photos import label_of, read_picture, to_mnist_form


@pytest.mark.parametrize("make", [shifted, on_green, on_nothing, photographed])
def test_a_picture_becomes_what_mnist_has(
    digits: tuple[Array, Array], tmp_path: Path, make: Callable[[Array], Image.Image]
) -> None:
    """MNIST's own digits come back from it, their strokes not far from where they were."""
    suffix = ".jpg" if make is photographed else ".png"
    for image in digits[0][:20]:
        make(image).save(tmp_path / f"digit{suffix}")
        result = to_mnist_form(read_picture(tmp_path / f"digit{suffix}"))
        assert result.dtype == np.uint8
        assert result.max() == 255
        rows, columns = (np.flatnonzero(result.any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) == 19  # a box of 20 x 20
        centre = [(np.arange(28) @ result.sum(axis)) / result.sum() for axis in (1, 0)]
        assert np.abs(np.array(centre) - 14).max() <= 0.51
        if make is not on_green:  # which stretches them
            moved = [np.roll(result, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            assert max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in moved) > 0.8


def test_sixteen_bits_and_a_rotation_in_exif_are_read(
    digits: tuple[Array, Array], tmp_path: Path
) -> None:
    image = digits[0][0]
    plain, deep, rotated = (tmp_path / f"{name}.png" for name in ("plain", "deep", "rotated"))
    Image.fromarray(image).save(plain)
    Image.fromarray(image.astype(np.uint16) * 200).save(deep)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate it clockwise to display it
    Image.fromarray(np.rot90(image).copy()).save(rotated, exif=exif)
    expected = to_mnist_form(read_picture(plain)).astype(int)
    for path in (deep, rotated):
        assert np.abs(to_mnist_form(read_picture(path)) - expected).max() <= 2


def test_specks_are_not_part_of_the_digit(digits: tuple[Array, Array], tmp_path: Path) -> None:
    clean = shifted(digits[0][0])
    speckled = clean.copy()
    speckled.putpixel((3, 3), 0)
    speckled.putpixel((255, 250), 0)
    clean.save(tmp_path / "clean.png")
    speckled.save(tmp_path / "speckled.png")
    one, other = (to_mnist_form(read_picture(tmp_path / f"{n}.png")) for n in ("clean", "speckled"))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("7.png", 7),
        ("7-b.png", 7),
        ("3/x.png", 3),
        ("3/7.png", 3),
        ("17.png", None),
        ("b7.png", None),
    ],
)
def test_the_label_is_in_the_name(path: str, label: int | None) -> None:
    assert label_of(Path("photos", path)) == label
