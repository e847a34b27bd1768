"""Values of pictures as they are meant: bits, floats, transparency, orientation, colours."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torchvision.io import decode_image

from anypictures.decoding import decode_picture, in_bytes, on_background, to_bytes
from anypictures.errors import PicturesError
from anypictures.idx import Array
from anypictures.reading import identity
from tests.helpers.sources import (
    RANDOM,
    images_by_file,
    load,
    noise,
    png16,
    refusal,
    save,
    tiff,
    two_classes,
)

# What turns an upright picture into one that EXIF says how to turn back, by its orientation.
STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, -1),
}


def deep_folder(folder: Path, make: Callable[[int], bytes], name: str) -> Path:
    for i in range(12):
        path = folder / "ab"[i % 2] / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make(i))
    return folder


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("{}.png", png16),
        ("{}.tif", tiff),
        ("{}.tif", lambda values: tiff(values, ">")),
    ],
)
@pytest.mark.parametrize(("bits", "shape"), [(12, (8, 8)), (16, (8, 8)), (12, (8, 8, 3))])
def test_as_many_bits_as_all_pictures_use_become_black_to_white(
    tmp_path: Path, name: str, write: Callable[[Array], bytes], bits: int, shape: tuple[int, ...]
) -> None:
    """12-bit pictures in 16-bit files were read as almost black."""
    pixels = RANDOM.integers(0, 2**bits, (12, *shape)).astype(np.uint16)
    pixels[0, 0, 0] = 2**bits - 1
    pixels[1:] //= 2  # darker ones stay darker: it is not decided for each picture
    folder = deep_folder(tmp_path / "data", lambda i: write(pixels[i]), name)
    fetched = load(folder, mode="rgb" if len(shape) == 3 else "grey")
    assert fetched.appearance["range"] == (0, 2**bits - 1)
    assert any(f"values from 0 (black) to {2**bits - 1} " in line for line in fetched.remarks)
    for file, image in images_by_file(fetched).items():
        values = pixels[int(Path(file).stem)].reshape(8, 8, -1)
        expected = np.round(values / (2**bits - 1) * 255).transpose(2, 0, 1)
        assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_sixteen_bits_are_read_as_torchvision_reads_them() -> None:
    for shape in ((5, 7), (5, 7, 3), (5, 7, 4)):
        values = RANDOM.integers(0, 65_536, shape).astype(np.uint16)
        if shape[2:] == (4,):
            values[..., 3] = 65_535
        content = png16(values)
        oracle = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), "UNCHANGED")
        expected = oracle.numpy().transpose(1, 2, 0)[..., :3].squeeze()
        decoded = decode_picture(content, "x.png")
        assert decoded.values is not None
        assert (decoded.values == expected).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1, 64, dtype=np.float32), (0, 1)),
        (np.linspace(-1, 1, 64, dtype=np.float32), (-1, 1)),
        (np.linspace(0, 255, 64, dtype=np.float32), (0, 255)),
        (np.linspace(0, 254, 64).astype(np.int32), (0, 255)),
        (np.linspace(-500, 2_000, 64).astype(np.int32), (-500, 2_000)),
    ],
)
def test_floats_and_integers_of_32_bits_keep_their_meaning(
    tmp_path: Path, values: Array, expected: tuple[float, float]
) -> None:
    folder = deep_folder(
        tmp_path / "data", lambda i: tiff(np.roll(values, i).reshape(8, 8)), "{}.tif"
    )
    fetched = load(folder)
    assert fetched.appearance["range"] == expected
    low, high = expected
    for file, image in images_by_file(fetched).items():
        right = np.roll(values, int(Path(file).stem)).reshape(8, 8).astype(float)
        assert np.abs(image[0] - (right - low) / (high - low) * 255).max() <= 1


def test_a_range_may_be_named(tmp_path: Path) -> None:
    pixels = RANDOM.integers(100, 900, (12, 8, 8)).astype(np.uint16)
    folder = deep_folder(tmp_path / "data", lambda i: png16(pixels[i]), "{}.png")
    assert load(folder).appearance["range"] == (0, 1023)
    assert load(folder, range="0..800").appearance["range"] == (0, 800)
    assert any("12 have others beyond" in line for line in load(folder, range="0..800").remarks)
    dark = load(folder, range="dtype")
    assert dark.appearance["range"] == (0, 65_535)
    assert any("12 pictures use less than 5 % of the range" in line for line in dark.remarks)
    assert to_bytes(np.array([0, 400, 800, 900]), (0, 800)).tolist() == [0, 128, 255, 255]


def test_pictures_of_one_colour_are_refused_or_said(tmp_path: Path) -> None:
    pixels = two_classes(tmp_path)
    save(tmp_path / "a/blank.png", np.full((8, 8), 7, np.uint8))
    assert "1 pictures are of one colour: a/blank.png" in load(tmp_path).remarks
    for name in pixels:
        save(tmp_path / name, np.full((8, 8), int(Path(name).stem) + 20 * (name[0] == "a"), "u1"))
    assert "21 of 21 pictures are of one colour, such as " in refusal(tmp_path)


def test_a_white_logo_on_transparency_is_seen(tmp_path: Path) -> None:
    alphas = {f"{name}/{i}.png": noise() for name in "ab" for i in range(6)}
    for name, alpha in alphas.items():
        save(tmp_path / name, Image.fromarray(np.dstack([np.full((8, 8, 3), 255, "u1"), alpha])))
    fetched = load(tmp_path)
    assert fetched.appearance["background"] == "black"
    assert any("on white 12 pictures would vanish" in line for line in fetched.remarks)
    for file, image in images_by_file(fetched).items():
        assert np.abs(image[0].astype(int) - alphas[file]).max() <= 1
    for name, alpha in alphas.items():  # black ones need white, which is what the default is
        save(tmp_path / name, Image.fromarray(np.dstack([np.zeros((8, 8, 3), "u1"), alpha])))
    fetched = load(tmp_path)
    assert fetched.appearance["background"] is None
    for file, image in images_by_file(fetched).items():
        assert np.abs(255 - image[0].astype(int) - alphas[file]).max() <= 1


@pytest.mark.parametrize("kind", ["TIFF", "TIFF tiff_lzw", "PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_turned_once(kind: str, orientation: int) -> None:
    """A TIFF was turned twice: Pillow turns it itself."""
    upright = np.kron(np.array([[0, 60, 120], [180, 220, 255]], np.uint8), np.ones((16, 16), "u1"))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    form, _, compression = kind.partition(" ")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    choices: dict[str, dict[str, Any]] = {
        "TIFF": {"tiffinfo": {274: orientation}, "compression": compression or None},
        "WEBP": {"lossless": True, "exif": exif},
    }
    options = choices.get(form, {"exif": exif})
    buffer = io.BytesIO()
    stored.save(buffer, form, **options)
    seen = np.asarray(decode_picture(buffer.getvalue(), "x").picture)[..., 0]
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).mean() < 3


def test_other_kinds_of_pictures_show_what_they_mean() -> None:
    """Palettes, grey with alpha, CMYK, 1 bit, white that is low, PGM of 12 bits."""
    grey, colours = noise(), noise(8, 8, 3)

    def seen(content: bytes) -> Array:
        return np.asarray(
            on_background(in_bytes(decode_picture(content, "x"), (0, 65_535)), "white")
        )

    def saved(picture: Image.Image, form: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        return buffer.getvalue()

    few = Image.fromarray(colours // 64 * 64).quantize(256)
    assert (seen(saved(few, "PNG")) == np.asarray(few.convert("RGB"))).all()
    assert (seen(saved(few, "GIF")) == np.asarray(few.convert("RGB"))).all()
    with_alpha = Image.fromarray(np.dstack([grey, np.full((8, 8), 255, "u1")]), "LA")
    assert (seen(saved(with_alpha, "PNG"))[..., 0] == grey).all()
    bits = Image.fromarray(grey > 127)
    for form in ("PNG", "TIFF", "PPM", "BMP"):
        assert (seen(saved(bits, form))[..., 0] == 255 * (grey > 127)).all()
    big = Image.fromarray(np.kron(colours // 128 * 200, np.ones((16, 16, 1), "u1")))
    ink = Image.frombytes("CMYK", big.size, big.convert("CMYK").tobytes())
    inverted = saved(ink, "JPEG", quality=95, subsampling=0)  # Pillow writes Adobe's marker
    assert np.abs(seen(inverted).astype(int) - np.asarray(big)).mean() < 5
    assert (seen(tiff(grey, photometric=0))[..., 0] == 255 - grey).all()
    deep = grey.astype(np.uint16) * 257
    assert (seen(tiff(deep, photometric=0))[..., 0] == 255 - grey).all()
    values = np.array([[0, 4_095], [2_048, 100]])
    pgm = b"P5\n2 2\n4095\n" + values.astype(">u2").tobytes()
    assert seen(pgm)[..., 0].tolist() == [[0, 255], [128, 6]]
    ppm = b"P6\n8 8\n255\n" + colours.tobytes()
    assert (seen(ppm) == colours).all()


def test_the_first_of_several_pages_is_read_and_it_is_said(tmp_path: Path) -> None:
    two_classes(tmp_path)
    pages = [Image.fromarray(noise()) for _ in range(3)]
    for suffix in ("tif", "gif", "webp"):
        options = {"lossless": True} if suffix == "webp" else {}
        save(
            tmp_path / f"a/x.{suffix}", pages[0], save_all=True, append_images=pages[1:], **options
        )
    fetched = load(tmp_path)
    assert any(
        line.startswith("3 pictures have several pages, of which the first is read")
        for line in fetched.remarks
    )
    assert (images_by_file(fetched)["a/x.tif"][0] == np.asarray(pages[0])).all()


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        (b"\0\0\0\x1cftypheic", "a HEIC picture; convert it"),
        (b"\0\0\0\x1cftypavif", "an AVIF picture; convert it"),
        (b"\0" * 128 + b"DICM", "a DICOM file; convert it"),
        (b"<svg xmlns=", "an SVG or XML file; convert it"),
        (b"<!DOCTYPE html>", "a web page; download the picture itself"),
        (b"%PDF-1.7", "a PDF file; convert it"),
        (b"", "not a picture; save it as PNG"),
        (b"hello", "not a picture; save it as PNG"),
    ],
)
def test_a_foreign_file_is_recognised_by_its_first_bytes(start: bytes, sentence: str) -> None:
    with pytest.raises(PicturesError, match=rf"^x\.jpg: {sentence}"):
        decode_picture(start, "x.jpg")


def test_equal_pixels_are_the_same_picture_whatever_the_file(tmp_path: Path) -> None:
    pixels = noise(8, 8, 3)
    files = [
        save(tmp_path / "1.png", pixels, compress_level=1),
        save(tmp_path / "2.png", pixels, compress_level=9),
        save(tmp_path / "3.tif", pixels, compression="tiff_lzw"),
        save(tmp_path / "4.bmp", pixels),
        save(tmp_path / "5.webp", pixels, lossless=True),
        save(tmp_path / "6.png", np.dstack([pixels, np.full((8, 8), 255, "u1")])),
    ]
    names = set()
    for path in files:
        decoded = decode_picture(path.read_bytes(), path.name)
        names.add(identity(on_background(decoded.picture, "white")))
    assert len(names) == 1
    pixels[0, 0, 0] ^= 1
    assert identity(Image.fromarray(pixels)) not in names


def test_thin_and_colourful_pictures_and_small_classes_are_said(tmp_path: Path) -> None:
    two_classes(tmp_path)
    for i in range(3):
        save(tmp_path / f"word/{i}.png", noise(16, 200))
    remarks = load(tmp_path).remarks
    assert any(
        line.startswith("3 pictures are more than 4 times as long as they are wide")
        and "of 8 rows remain" in line
        for line in remarks
    )
    assert "classes with fewer than 10 pictures: word (3)" in remarks
    for name, colour in (("red", (200, 20, 20)), ("green", (20, 160, 20))):
        for i in range(30):
            picture = (noise(8, 8, 1) // 8 + np.array(colour)).astype(np.uint8)
            save(tmp_path / f"{name}/{i}.png", picture)
    hint = "60 pictures are in colour; mode=rgb keeps it"
    assert hint in load(tmp_path).remarks
    assert hint not in load(tmp_path, mode="rgb").remarks


def test_strokes_are_light_on_black_and_their_box_is_measured(tmp_path: Path) -> None:
    for i in range(12):
        digit = np.zeros((28, 28), np.uint8)
        digit[4:24, 8:20] = noise(20, 12) // 2 + 128
        save(tmp_path / f"{i % 2}/{i}.png", digit if i % 3 else 255 - digit)
    fetched = load(tmp_path, size=28, style="strokes")
    assert (fetched.appearance["style"], fetched.appearance["ink_box"]) == ("strokes", 20)
    for image in images_by_file(fetched).values():
        assert image[0, 0].max() == 0
        assert image[0, 4:24, 8:20].min() >= 128 - 1
