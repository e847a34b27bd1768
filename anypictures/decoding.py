"""Picture files, read as a person sees them.

Pillow decodes and resizes with whole numbers, so that the same pictures give the same bytes on
every machine. What is deeper than 8 bits is mapped to them by elementwise arithmetic, which is
exact on every machine, too.
"""

import io
import math
import re
import struct
import warnings
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from anypictures.errors import PicturesError
from anypictures.idx import Array

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
ADVICE = "save it as PNG, JPEG, BMP, GIF, TIFF or WebP"
# Others, by what stands in them, and where. What converts them is in the sentence.
FOREIGN = (
    (4, rb"ftyp(hei|hev|mif|msf)", "a HEIC picture; convert it, as by `heif-convert`"),
    (4, rb"ftypavi[fs]", "an AVIF picture; convert it, as by `avifdec`"),
    (128, rb"DICM", "a DICOM file; convert it, as by `dcm2pnm` or pydicom"),
    (0, rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture; convert it, as by `djxl`"),
    (0, rb"\0\0\0\x0cjP  ", "a JPEG 2000 picture; convert it, as by `opj_decompress`"),
    (0, rb"8BPS", "a file of Photoshop; export it as PNG"),
    (0, rb"%PDF", "a PDF file; convert it, as by `pdftoppm`"),
    (0, rb"\s*<(\?xml|svg)", "an SVG or XML file; convert it, as by `rsvg-convert`"),
    (0, rb"\s*<(!DOCTYPE|html)", "a web page; download the picture itself"),
    (0, rb"version https://git-lfs", "a pointer of Git LFS; `git lfs pull` brings the picture"),
)
# A small file may stand for a picture that takes minutes or all memory. Within these bounds the
# costliest known takes two seconds of CPU time and 600 MB. (Pillow's own bound, 89 million
# pixels, is for JPEGs: they are reduced while they are decoded.)
MAX_BYTES = 100_000_000
MAX_PIXELS = 40_000_000  # to hold in memory
MAX_SCANS = 30  # of a JPEG, each of which goes over the whole picture; the usual number is 10
MAX_SIDE = 512  # to which a JPEG is reduced while it is decoded, but not below
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
# Pillow reads the upper bytes of 16-bit colours; in the opposite order, these are the lower.
LOWER_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}


class Decoded(NamedTuple):
    """A picture upright, with the values that its file has."""

    format: str  # as Pillow calls it
    mode: str
    picture: Image.Image  # RGB or RGBA; what is deeper than 8 bits is in `values`
    values: Array | None = None  # (H, W) or (H, W, 3): deeper than 8 bits
    white_is_low: bool = False  # in `values`
    pages: bool = False  # whether the file has more than this one


def decode_picture(content: bytes, name: str) -> Decoded:
    """Return the picture in a file's content.

    name: of the file, for messages. Raises `PicturesError` if the content is no whole picture, or
    one that takes too much time or memory.
    """
    if len(content) > MAX_BYTES:
        raise PicturesError(f"{name}: more than {MAX_BYTES:,} bytes; save it smaller")
    if content.startswith(b"\xff\xd8") and _count_scans(content) > MAX_SCANS:
        raise PicturesError(f"{name}: a JPEG of more than {MAX_SCANS} scans; save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about details that do not prevent the reading
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as file:
                file.draft("RGB", (MAX_SIDE, MAX_SIDE))  # reads a large JPEG faster
                if math.prod(file.size) > MAX_PIXELS:
                    raise PicturesError(f"{name}: more than {MAX_PIXELS:,} pixels; save it smaller")
                return _decode(file, content, name)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PicturesError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
        ) from None
    except UnidentifiedImageError:
        raise PicturesError(f"{name}: {_foreign(content)}") from None
    # Of Pillow: a broken PNG is a SyntaxError, a broken number in EXIF one of the last two.
    except (OSError, SyntaxError, ValueError, ArithmeticError, struct.error) as error:
        raise PicturesError(f"{name}: not a whole picture ({error}); save it again") from None


def _foreign(content: bytes) -> str:
    """Return what a file is that is none of `FORMATS`, and what to do."""
    for start, pattern, sentence in FOREIGN:
        if re.match(pattern, content[start : start + 200]):
            return sentence
    return f"not a picture; {ADVICE}"


def _decode(file: ImageFile.ImageFile, content: bytes, name: str) -> Decoded:
    lower = _lower_bytes(file, content)  # before `file` is loaded, and forgets how it is stored
    # ImageOps.exif_transpose writes EXIF anew, where broken entries raise anything. Pillow turns
    # a TIFF itself.
    orientation = None if file.format == "TIFF" else file.getexif().get(ExifTags.Base.Orientation)
    transposition = TRANSPOSITIONS.get(orientation)
    deep = file.mode.startswith(("I", "F"))
    white_is_low = deep and getattr(file, "tag_v2", {}).get(262) == 0
    form, mode = str(file.format), file.mode if lower is None else f"{file.mode};16"
    maximum = None
    if form == "PPM" and file.mode == "I":
        maximum = 65_535  # to which Pillow has scaled what the header says
    picture: Image.Image = file if transposition is None else file.transpose(transposition)
    values = None
    if deep:
        values = np.asarray(picture)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise PicturesError(f"{name}: has values that are no numbers; leave it out or mend it")
        if maximum:
            values = to_bytes(values, (0, maximum))
            picture, values = Image.fromarray(values).convert("RGB"), None
        else:
            picture = Image.new("RGB", picture.size)
    elif lower is not None:
        if transposition is not None:
            lower = lower.transpose(transposition)
        values = np.asarray(picture).astype(np.int32) * 256 + np.asarray(lower)
        if picture.mode == "RGBA" and (values[..., 3] < 65_535).any():
            values = None  # the upper bytes do
        else:
            values = values[..., :3]
    picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    return Decoded(form, mode, picture, values, white_is_low, _has_pages(file))


def _lower_bytes(file: ImageFile.ImageFile, content: bytes) -> Image.Image | None:
    """Return the lower bytes of a picture with 16 bits a colour, or None if it has 8."""
    stored = [str(a[0] if isinstance(a := tile.args, tuple) and a else a) for tile in file.tile]
    if not stored or not all(raw in LOWER_BYTES for raw in stored):
        return None
    with Image.open(io.BytesIO(content), formats=[str(file.format)]) as again:
        again.tile = [
            tile._replace(
                args=(LOWER_BYTES[raw], *tile.args[1:])
                if isinstance(tile.args, tuple)
                else LOWER_BYTES[raw]
            )
            for tile, raw in zip(again.tile, stored, strict=True)
        ]
        again.load()
        return again.copy()


def _has_pages(file: ImageFile.ImageFile) -> bool:
    if file.format not in ("GIF", "TIFF", "WEBP", "PNG"):
        return False
    try:
        file.seek(1)
    # There is no second page, or it is broken, and the first is all that is wanted.
    except (EOFError, OSError, SyntaxError, ValueError, ArithmeticError, LookupError, TypeError):
        return False
    return True


def to_bytes(values: Array, ends: tuple[float, float]) -> Array:
    """Return values as uint8: `ends` become 0 and 255, and what is beyond them does, too."""
    low, high = ends
    scaled = (values.astype(np.float64).clip(low, high) - low) * 255 / (high - low)
    return np.rint(scaled).astype(np.uint8)


def in_bytes(decoded: Decoded, ends: tuple[float, float]) -> Image.Image:
    """Return a decoded picture as RGB or RGBA; `ends` of deeper values become black and white."""
    if decoded.values is None:
        return decoded.picture
    pixels = to_bytes(decoded.values, ends)
    return Image.fromarray(255 - pixels if decoded.white_is_low else pixels).convert("RGB")


def on_background(picture: Image.Image, colour: str) -> Image.Image:
    """Return a picture RGB or RGBA as RGB: what is transparent shows a colour."""
    if picture.mode == "RGB":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture).convert("RGB")


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


def fit_picture(picture: Image.Image, size: int, mode: str) -> Array:
    """Return a picture RGB in a square, uint8 (C, size, size), with its aspect.

    mode: `grey` (C = 1) or `rgb` (C = 3). The rest of the square has the median colour of the
    picture's border.
    """
    if mode == "grey":
        picture = picture.convert("L")
    longest = max(picture.size)
    # As whole numbers, rounded half up.
    width, height = (max(1, (2 * size * side + longest) // (2 * longest)) for side in picture.size)
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels.reshape(height, width, -1)
    if width == height:
        return pixels.transpose(2, 0, 1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    result = np.empty((size, size, pixels.shape[2]), np.uint8)
    result[:] = np.sort(border, axis=0)[len(border) // 2]
    top, left = (size - height) // 2, (size - width) // 2
    result[top : top + height, left : left + width] = pixels
    return result.transpose(2, 0, 1)


def border_level(image: Array) -> int:
    """Return the median of the outermost pixels of an image uint8 (C, H, W)."""
    border = np.concatenate([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], axis=1)
    return int(np.sort(border, axis=None)[border.size // 2])


def polarity(image: Array, style: str) -> Array:
    """Return an image light on black, where the style says so."""
    is_light = style in ("light_on_black", "strokes") and border_level(image) > 127
    return 255 - image if is_light else image
