"""Preprocess pictures as the images were that a model was trained on.

A drawing becomes what MNIST has (LeCun et al. 1998, doi:10.1109/5.726791): its ink, without the
background, fits a box of 20 x 20 pixels, and has its centre of mass in the middle of 28 x 28.
Other pictures are scaled and padded as `fetch` does it.
"""

import os
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from anypictures.dataset import range_of
from anypictures.decoding import (
    MAX_BYTES,
    border_level,
    decode_picture,
    fit_picture,
    in_bytes,
    on_background,
    polarity,
)
from anypictures.errors import PicturesError
from anypictures.layouts import is_litter
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError, printable
from stages.storage.files import refuse_irregular
from stages.storage.tensors import Array

MAX_SIDE = 800  # pixels to which a larger drawing is reduced, for speed
MIN_CONTRAST = 8  # of 255: what differs less from the background is not ink
MAX_STROKE = 0.4  # of a side of the picture: what is wider is background
SPAN = 0.95  # of a side: what is longer is a line of the paper
SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"),
}


def list_pictures(paths: list[Path]) -> list[Path]:
    """Return the files, and in place of each folder the pictures in it and its sub-folders.

    Raises `InputError` if a folder has none, or cannot be read.
    """
    files: list[Path] = []
    for path in paths:
        # Path.is_dir raises an error for a path that it cannot look up; this returns False.
        if not os.path.isdir(path):  # noqa: PTH112
            files.append(path)
            continue
        walk = os.walk(path, onerror=_refuse_folder)
        found = sorted(Path(folder, name) for folder, _, names in walk for name in names)
        pictures = [
            file
            for file in found
            if file.suffix.lower() in SUFFIXES and not is_litter(str(file.relative_to(path)))
        ]
        if not pictures:
            raise InputError(f"{path}: no picture is in it; name a folder of pictures")
        files += pictures
    return files


def _refuse_folder(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions")


def label_of(path: Path, classes: tuple[str, ...]) -> str | None:
    """Return the class that a picture's folder is named after, or that its own name begins with.

    The name goes on after a `-`, `_`, point or white space: 7-second.jpg. A number alone, 7.png,
    only counts pictures.
    """
    if path.parent.name in classes:
        return path.parent.name
    if path.stem.isdecimal():
        return None
    begins = [name for name in classes if re.match(rf"{re.escape(name)}[-_.\s]", path.name)]
    return max(begins, key=len, default=None)


def to_image(path: Path, info: DatasetInfo) -> Array:
    """Return a picture as an image of a data set, uint8 (C, H, W).

    Prints a warning if several drawings are on it where one is expected, or if it looks unlike
    the pictures that the model was trained on.
    """
    channels, size, _ = info.shape
    picture = read_picture(path, info.range)
    if info.ink_box:
        ink = find_ink(picture, path)
        if are_side_by_side(ink):
            warn(path, "several drawings stand side by side, and are taken for one; cut them apart")
        return center_ink(ink, size, info.ink_box)[None]
    seen = on_background(picture, info.background or "white")
    image = polarity(fit_picture(seen, size, "rgb" if channels == 3 else "grey"), info.style)
    if info.border and not info.border[0] - 64 < border_level(image) < info.border[1] + 64:
        warn(
            path,
            f"its border is of brightness {border_level(image)} of 255, and in the pictures for "
            f"training from {info.border[0]:.0f} to {info.border[1]:.0f}",
        )
    return image


def warn(path: Path, warning: str) -> None:
    print(printable(f"{path}: {warning}"), file=sys.stderr)


def read_picture(path: Path, ends: tuple[float, float] | None = None) -> Image.Image:
    """Return the picture in a file as RGB or RGBA.

    ends: the values deeper than 8 bits that are black and white; without them the picture's own
    bits decide, and a warning says so.
    """
    remedy = "name a picture, or a folder of them"
    refuse_irregular(path, remedy)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    try:
        decoded = decode_picture(content, str(path))
    except PicturesError as error:
        raise InputError(*error.args) from None
    values = decoded.values
    if values is not None and ends is None:
        ends = range_of([(values.dtype.str, float(values.min()), float(values.max()))], "auto")
        warn(path, f"deeper than 8 bits: {ends[0]:g} is taken for black, {ends[1]:g} for white")
    return in_bytes(decoded, ends or (0, 255))


def find_ink(picture: Image.Image, path: Path) -> Array:
    """Return the ink on a picture RGB or RGBA as `measure_ink` does, at most `MAX_SIDE` wide.

    A transparent background becomes white, or black if the ink itself is white. Raises
    `InputError` if nothing is drawn on it.
    """
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    for background in ("white", "black"):
        sheet = Image.new("RGBA", picture.size, background)
        seen = Image.alpha_composite(sheet, picture.convert("RGBA")).convert("RGB")
        ink = measure_ink(np.asarray(seen))
        if ink.any():
            return ink
    raise InputError(f"{path}: nothing is drawn on it; draw it in a darker or lighter colour")


def measure_ink(pixels: Array) -> Array:
    """Return the amount of ink in each pixel of uint8 (H, W, 3), float32 (H, W) from 0 to 1.

    A stroke differs from what is around it, whatever the light there, and lines from side to side
    of the paper, noise and small specks are no ink.
    """
    height, width, channels = pixels.shape
    smooth = max(pixels.shape) / 250
    ink = np.maximum.reduce(
        [
            ink_of_channel(ndimage.gaussian_filter(pixels[..., c].astype(np.float32), smooth))
            for c in range(channels)
        ]
    )
    across = (1, int(SPAN * width) | 1), (int(SPAN * height) | 1, 1)
    ink -= np.maximum(*(ndimage.grey_opening(ink, size, mode="constant") for size in across))
    strong = float(np.median(ink[ink > ink.max() / 2])) if ink.any() else 0
    if strong < MIN_CONTRAST:
        return np.zeros_like(ink)
    ink = (ink / strong).clip(0, 1)
    parts, count = ndimage.label(ink > 0.2, np.ones((3, 3)))
    peaks, sums = (
        np.array(of(ink, parts, range(count + 1))) for of in (ndimage.maximum, ndimage.sum_labels)
    )
    is_ink = (peaks > 0.7) & (sums > 0.05 * sums[1:].max())
    is_ink[0] = False  # what is fainter
    return np.where(is_ink[parts], ink, 0)


def ink_of_channel(values: Array) -> Array:
    """Return how much each pixel (H, W) differs from its background, at least 0.

    The background is what a morphological closing makes of dark strokes, or an opening of light
    ones (Serra 1982, "top-hat"). The ink is the one of both whose outline follows more edges.
    """
    wide = int(MAX_STROKE * max(values.shape)) | 1
    dark = ndimage.grey_closing(values, (wide, wide), mode="nearest") - values
    light = values - ndimage.grey_opening(values, (wide, wide), mode="nearest")
    edges = ndimage.gaussian_gradient_magnitude(values, 1)

    def edges_explained(ink: Array) -> float:
        mask = ink > ink.max() / 2
        outline = ndimage.binary_dilation(mask, iterations=2)
        outline &= ~ndimage.binary_erosion(mask, iterations=2)
        return float(edges[outline].sum())

    return max(above_noise(dark), above_noise(light), key=edges_explained)


def above_noise(values: Array) -> Array:
    """Return how far values are above those of most pixels, by more than these vary."""
    middle = np.median(values)
    # Six median deviations are four standard deviations.
    above: Array = values - middle - 6 * np.median(np.abs(values - middle))
    return above.clip(0)


def are_side_by_side(ink: Array) -> bool:
    """Return whether a gap from top to bottom divides ink (H, W), a fifth of it on each side.

    It does in none of the digits of mnist-5k, and in 499 of 500 pairs of them three pixels apart.
    """
    columns = ink.sum(0)
    parts, count = ndimage.label(columns > 0)
    sums = np.sort(ndimage.sum_labels(columns, parts, range(1, count + 1)))
    return count > 1 and bool(sums[-2] >= 0.2 * sums.sum())


def center_ink(ink: Array, size: int, ink_box: int) -> Array:
    """Return ink (H, W) as MNIST has it, uint8 (size, size), light on black.

    It fits a box of `ink_box` pixels, and its centre of mass is the middle.
    """
    [box] = ndimage.find_objects((ink > 0).astype(int))
    drawing = Image.fromarray(ink[box])
    scale = ink_box / max(drawing.size)
    width, height = (max(1, round(scale * side)) for side in drawing.size)
    small = np.asarray(drawing.resize((width, height), Image.Resampling.BOX))
    image = np.zeros((size, size), np.uint8)
    image[:height, :width] = np.rint(255 * small / small.max())
    shift = np.rint(size / 2 - np.array(ndimage.center_of_mass(small))).astype(int)
    return np.roll(image, shift.clip(0, [size - height, size - width]), (0, 1))
