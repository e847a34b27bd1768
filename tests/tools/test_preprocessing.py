"""Pictures of digits are brought to the form of MNIST."""

import itertools
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import ExifTags, Image

from benchmarks.photos import KINDS
from stages.storage.dataset_info import DatasetInfo, Style
from stages.storage.errors import InputError
from stages.storage.tensors import Array
from tests.helpers.pictures import on_green, on_nothing, photographed, shifted
from tests.helpers.sources import load
from tools.preprocessing import (
    center_ink,
    find_ink,
    label_of,
    read_picture,
    to_image,
)


def mnist_form(path: Path) -> Array:
    """Return the picture of a digit as MNIST would have it, uint8 (28, 28)."""
    return center_ink(find_ink(read_picture(path), path), 28, 20)


@pytest.mark.parametrize("make", [shifted, on_green, on_nothing, photographed])
def test_a_picture_becomes_what_mnist_has(
    digits: tuple[Array, Array], tmp_path: Path, make: Callable[[Array], Image.Image]
) -> None:
    """MNIST's own digits come back from it, their strokes not far from where they were."""
    suffix = ".jpg" if make is photographed else ".png"
    for image in digits[0][:8]:
        make(image).save(tmp_path / f"digit{suffix}")
        result = mnist_form(tmp_path / f"digit{suffix}")
        assert result.dtype == np.uint8
        assert result.max() == 255
        rows, columns = (np.flatnonzero(result.any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) == 19  # a box of 20 x 20
        centre = [(np.arange(28) @ result.sum(axis)) / result.sum() for axis in (1, 0)]
        assert np.abs(np.array(centre) - 14).max() <= 0.51
        if make is not on_green:  # which stretches them
            moved = [np.roll(result, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            assert max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in moved) > 0.8


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_made_photo_becomes_what_mnist_has(
    digits: tuple[Array, Array], tmp_path: Path, kind: Callable[..., Array]
) -> None:
    """`benchmarks/photos.py` says how many of these the best model reads right."""
    random = np.random.default_rng(0)
    for image in digits[0][:2]:
        pixels = kind(image, random).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "digit.jpg", quality=85)
        result = mnist_form(tmp_path / "digit.jpg")
        moved = [np.roll(result, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        assert max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in moved) > 0.6


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
    expected = mnist_form(plain).astype(int)
    for path in (deep, rotated):
        assert np.abs(mnist_form(path) - expected).max() <= 2


@pytest.mark.parametrize(
    ("tag", "kind", "count", "value"),
    [
        (ExifTags.Base.StripByteCounts, 5, 1, 8),  # a fraction where a whole number has to be
        (ExifTags.Base.Artist, 11, 1, 8),  # a number where text has to be
        (ExifTags.Base.SubIFDs, 6, 1, 2**32 - 1),  # a negative number where a place has to be
    ],
)
def test_a_broken_entry_of_exif_is_no_matter(
    digits: tuple[Array, Array], tmp_path: Path, tag: int, kind: int, count: int, value: int
) -> None:
    good = struct.pack("<HHII", ExifTags.Base.Orientation, 3, 1, 6)
    broken = struct.pack("<HHII", tag, kind, count, value)
    image = Image.fromarray(np.rot90(digits[0][0]).copy())
    upright, other = tmp_path / "upright.png", tmp_path / "other.png"
    for path, entries in ((upright, [good]), (other, [good, broken])):
        directory = struct.pack("<H", len(entries)) + b"".join(entries) + b"\xff" * 12
        image.save(path, exif=b"Exif\0\0II*\0\x08\0\0\0" + directory)
    assert np.array_equal(mnist_form(other), mnist_form(upright))


def test_specks_are_not_part_of_the_digit(digits: tuple[Array, Array], tmp_path: Path) -> None:
    clean = shifted(digits[0][0])
    speckled = clean.copy()
    speckled.putpixel((3, 3), 0)
    speckled.putpixel((255, 250), 0)
    clean.save(tmp_path / "clean.png")
    speckled.save(tmp_path / "speckled.png")
    one, other = (mnist_form(tmp_path / f"{n}.png") for n in ("clean", "speckled"))
    assert np.array_equal(one, other)


def test_two_digits_side_by_side_are_noticed(
    digits: tuple[Array, Array],
    dataset: DatasetInfo,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = []
    for number, (first, second) in enumerate(zip(digits[0][:20], digits[0][20:40], strict=True)):
        gap = np.zeros((28, 3), np.uint8)
        for name, image in (("one", first), ("two", np.hstack([first, gap, second]))):
            paths.append(tmp_path / f"{name}-{number}.png")
            Image.fromarray(np.pad(image, 4)).save(paths[-1])
    for path in paths:
        to_image(path, dataset)
    lines = capsys.readouterr().err.splitlines()
    assert [Path(line.partition(":")[0]) for line in lines] == paths[1::2]
    assert lines[0].endswith(
        ": several drawings stand side by side, and are taken for one; cut them apart"
    )


def test_a_small_file_of_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    Image.new("1", (8_000, 8_000)).save(path)
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match=r"huge.png: more than 40,000,000 pixels; save it smaller"):
        read_picture(path)


def test_a_large_jpeg_is_reduced_while_it_is_read(
    digits: tuple[Array, Array], tmp_path: Path
) -> None:
    path = tmp_path / "large.jpg"
    Image.fromarray(255 - digits[0][0]).resize((6_400, 6_400)).save(path)
    assert max(read_picture(path).size) == 800


def test_a_jpeg_of_many_scans_is_refused(digits: tuple[Array, Array], tmp_path: Path) -> None:
    """Each scan is a few bytes and costs as much as the whole picture."""
    path = tmp_path / "scans.jpg"
    picture = Image.fromarray(255 - digits[0][0]).resize((1_000, 1_000)).convert("RGB")
    # What follows the end, such as a film, and what the comment holds, are no scans.
    picture.save(path, progressive=True, comment=b"\xff\xda" * 100)
    content = path.read_bytes()
    path.write_bytes(content + b"\xff\xda\x00\x02" * 100)
    read_picture(path)
    last = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + last * 20 + b"\xff\xd9")
    read_picture(path)
    path.write_bytes(content[:-2] + last * 21 + b"\xff\xd9")
    with pytest.raises(InputError, match=r"scans.jpg: a JPEG of more than 30 scans; save it again"):
        read_picture(path)


def test_a_file_of_many_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    path.touch()
    os.truncate(path, 100_000_001)
    with pytest.raises(InputError, match=r"long.png: more than 100,000,000 bytes; save it smaller"):
        read_picture(path)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("7.png", None),  # the seventh of many
        ("7 b.png", "7"),
        ("7-b.png", "7"),
        ("3/x.png", "3"),
        ("3/7.png", "3"),
        ("17-x.png", "17"),
        ("71.png", None),
        ("b7.png", None),
        ("Ankle boot 2.jpg", "Ankle boot"),
        ("T-shirt.jpg", "T-shirt"),
        ("T.jpg", "T"),
        ("a+ (1).jpg", "a+"),
        ("a+/7.jpg", "a+"),
    ],
)
def test_the_label_is_in_the_name(path: str, label: str | None) -> None:
    classes = ("3", "7", "17", "T", "T-shirt", "Ankle boot", "a+")
    assert label_of(Path("photos", path), classes) == label


def natural(style: Style, channels: Literal[1, 3]) -> DatasetInfo:
    return DatasetInfo(title="things", shape=(channels, 16, 16), classes=("a", "b"), style=style)


def test_pictures_of_things_are_prepared_as_fetch_does(tmp_path: Path) -> None:
    """With their aspect, padded by the colour of their border, and not cut out."""
    path = tmp_path / "wide.png"
    picture = Image.new("RGB", (64, 32), (200, 30, 90))
    picture.paste((20, 220, 40), (16, 8, 48, 24))
    picture.save(path)
    image = to_image(path, natural("natural", 3))
    expected = np.full((3, 16, 16), [[[200]], [[30]], [[90]]], np.uint8)
    assert np.array_equal(image[:, :4], expected[:, :4])
    assert np.array_equal(image[:, 12:], expected[:, 12:])
    assert np.abs(image[:, 8, 8].astype(int) - [20, 220, 40]).max() <= 2


def test_a_picture_that_the_model_was_trained_on_has_the_same_pixels(tmp_path: Path) -> None:
    """Also a photo of many pixels, which is reduced while it is read."""
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for split, name, class_name in itertools.product(("train", "test"), "12", "ab"):
        path = tmp_path / split / class_name / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.roll(noise, len(list(tmp_path.rglob("*.jpg"))), 0))
        picture.resize((1_800, 1_200)).save(path)
    dataset = load(tmp_path, size=16, mode="rgb")
    fetched = [image.tobytes() for one in dataset.splits.values() for image in one["images"]]
    info = DatasetInfo(title="", shape=(3, 16, 16), classes=("a", "b"), **dataset.appearance)
    images = [to_image(path, info) for path in sorted(tmp_path.rglob("*.jpg"))]
    assert sorted(image.tobytes() for image in images) == sorted(fetched)
    assert len(set(fetched)) == 8


@pytest.mark.parametrize(("style", "inverted"), [("natural", False), ("light_on_black", True)])
def test_things_on_white_are_inverted_where_the_data_are_light_on_black(
    tmp_path: Path, style: Style, inverted: bool
) -> None:
    dark_on_light, light_on_dark = tmp_path / "paper.png", tmp_path / "board.png"
    picture = Image.new("L", (32, 32), 255)
    picture.paste(50, (8, 8, 24, 24))
    picture.save(dark_on_light)
    Image.eval(picture, lambda value: 255 - value).save(light_on_dark)
    paper, board = (to_image(one, natural(style, 1)) for one in (dark_on_light, light_on_dark))
    assert (paper.shape, paper.dtype) == ((1, 16, 16), np.uint8)
    assert np.array_equal(paper, board) == inverted
    assert board[0, 0, 0] == 0 and board[0, 8, 8] == 205
