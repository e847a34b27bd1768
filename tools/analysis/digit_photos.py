"""Bring pictures of digits to the form of MNIST.

In MNIST (LeCun et al. 1998, doi:10.1109/5.726791) the ink of a digit, without its background,
fits a box of 20 x 20 pixels, and its centre of mass is the middle of 28 x 28.
"""

import io
import math
import os
import re
import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from scipy import ndimage

from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular
from stages.storage.tensors import Array

MAX_SIDE = 800  # pixels; a larger picture is reduced to it, for speed
# A small file may stand for a picture that takes minutes or all memory. Within these bounds the
# costliest known takes two seconds of CPU time and 800 MB. (Pillow's own bound, 89 million
# pixels, is for JPEGs: they are reduced while they are decoded.)
MAX_BYTES = 100_000_000
MAX_PIXELS = 40_000_000  # to hold in memory
MAX_SCANS = 30  # of a JPEG, each of which goes over the whole picture; the usual number is 10
MIN_CONTRAST = 30  # of 255: what differs less from the background is not ink
SUFFIXES = (".png", ".jpg", ".jpeg")
# How to turn a picture upright, by its orientation in EXIF (JEITA CP-3451, 4.6.4).
TRANSPOSITIONS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def list_pictures(paths: list[Path]) -> list[Path]:
    """Return the files, and in place of each folder the pictures in it and its sub-folders."""
    files = []
    for path in paths:
        # Path.is_dir raises an error for a path that it cannot look up; this returns False.
        files += _walk(path) if os.path.isdir(path) else [path]  # noqa: PTH112
    return files


def _walk(folder: Path) -> list[Path]:
    """Return the pictures below a folder; raises `InputError` if there is none to read."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}); give permission to read it"
        )

    files = []
    for parent, _, names in os.walk(folder, onerror=refuse):
        files += [Path(parent, name) for name in names if name.lower().endswith(SUFFIXES)]
    if not files:
        raise InputError(f"{folder}: no picture is in it; name a folder of PNGs or JPEGs")
    return sorted(files)


def label_of(path: Path) -> int | None:
    """Return the label that the name of a picture's folder or file begins with, if any."""
    match = re.fullmatch(r"\d", path.parent.name) or re.match(r"\d(?!\d)", path.name)
    return int(match[0]) if match else None


def load_digits(paths: list[Path]) -> Array:
    """Return the digits in pictures in the form of MNIST, uint8 (N, 1, 28, 28).

    Raises `InputError` with a line for each picture that cannot be read.
    """
    images: list[Array] = []
    problems: list[str] = []
    for path in paths:
        try:
            images.append(to_mnist_form(read_picture(path)))
        except InputError as error:
            problems += error.args
    if problems:
        raise InputError(*problems)
    return np.stack(images)[:, None]


def read_picture(path: Path) -> Image.Image:
    """Return a picture upright and in RGB; raises `InputError` if nothing is drawn on it."""
    refuse_irregular(path, "name a PNG or JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about details that do not prevent the reading
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(_read_bounded(path), formats=["PNG", "JPEG"]) as file:
                file.draft("RGB", (MAX_SIDE, MAX_SIDE))  # reads a large JPEG faster
                if math.prod(file.size) > MAX_PIXELS:
                    raise InputError(f"{path}: more than {MAX_PIXELS:,} pixels; save it smaller")
                # ImageOps.exif_transpose writes EXIF anew, where broken entries raise anything.
                orientation = file.getexif().get(ExifTags.Base.Orientation)
                transposition = TRANSPOSITIONS.get(orientation)
                picture = file if transposition is None else file.transpose(transposition)
                if picture.mode == "I;16":  # Pillow would convert the lower 8 of its 16 bits
                    picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
                picture = picture.convert("RGBA")
    except FileNotFoundError:
        raise InputError(f"{path}: not found; name a PNG or JPEG, or a folder of them") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
        ) from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a PNG or JPEG; save it as one") from None
    # Of Pillow: a broken PNG is a SyntaxError, a broken number in EXIF one of the last two.
    except (OSError, SyntaxError, ValueError, ArithmeticError, struct.error) as error:
        if isinstance(error, OSError) and error.strerror:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check its name and permissions"
            ) from None
        raise InputError(f"{path}: not a whole picture ({error}); save it again") from None
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    # A transparent background becomes white, or black if the ink itself is white.
    for background in ("white", "black"):
        canvas = Image.new("RGBA", picture.size, background)
        opaque = Image.alpha_composite(canvas, picture).convert("RGB")
        if extract_ink(np.asarray(opaque)).any():
            return opaque
    raise InputError(f"{path}: nothing is drawn on it; draw a digit in a darker or lighter colour")


def _read_bounded(path: Path) -> io.BytesIO:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: more than {MAX_BYTES:,} bytes; save it smaller")
    if content.startswith(b"\xff\xd8") and _count_scans(content) > MAX_SCANS:
        raise InputError(f"{path}: a JPEG of more than {MAX_SCANS} scans; save it again")
    return io.BytesIO(content)


def _count_scans(content: bytes) -> int:
    """Return how often a JPEG goes over its picture.

    Its markers are those of ITU-T T.81, B.1.1: a length follows each that the pattern finds.
    """
    marker = re.compile(rb"\xff+([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
    scans = position = 0
    while (match := marker.search(content, position)) and match[1] != b"\xd9":
        scans += match[1] == b"\xda"
        position = match.end() + int.from_bytes(content[match.end() : match.end() + 2])
    return scans


def extract_ink(pixels: Array) -> Array:
    """Return the amount of ink in each pixel, float32 (H, W) from 0 to 1.

    pixels: uint8 (H, W, 3).

    The background is the median colour of the border. Pixels that differ from it no more than
    most of the border does have no ink, nor have small specks.
    """
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, 0).astype(np.float32)
    deviations = np.abs(border - background).max(1)
    threshold = np.median(deviations)
    threshold += 6 * np.median(np.abs(deviations - threshold))  # four standard deviations
    ink = np.maximum(np.abs(pixels - background).max(2) - threshold, 0)
    ink /= max(ink.max(), MIN_CONTRAST)
    components, count = ndimage.label(ink > 0.1, np.ones((3, 3)))
    if ink.max() < 1:
        return np.zeros_like(ink)
    sizes = ndimage.sum_labels(ink, components, np.arange(1, count + 1))
    is_digit = np.concatenate([[False], sizes > 0.05 * sizes.max()])
    return np.where(is_digit[components], ink, 0)


def to_mnist_form(picture: Image.Image) -> Array:
    """Return the digit in a picture as MNIST has it, uint8 (28, 28), light on black."""
    ink = extract_ink(np.asarray(picture))
    [box] = ndimage.find_objects((ink > 0).astype(int))
    digit = Image.fromarray(ink[box])
    scale = 20 / max(digit.size)
    width, height = (max(1, round(scale * side)) for side in digit.size)
    small = np.asarray(digit.resize((width, height), Image.Resampling.BOX))
    image = np.zeros((28, 28), np.uint8)
    top, left = (
        min(max(round(14 - centre), 0), 28 - side)
        for centre, side in zip(ndimage.center_of_mass(small), small.shape, strict=True)
    )
    image[top : top + height, left : left + width] = np.rint(255 * small / small.max())
    return image
