"""Picture files, read as a person sees them.

Pillow decodes and resizes with whole numbers, so that the same pictures give the same bytes on
every machine.
"""

import io
import math
import re
import struct
import warnings

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from stages.storage.errors import InputError
from stages.storage.tensors import Array

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# A small file may stand for a picture that takes minutes or all memory. Within these bounds the
# costliest known takes two seconds of CPU time and 600 MB. (Pillow's own bound, 89 million
# pixels, is for JPEGs: they are reduced while they are decoded.)
MAX_BYTES = 100_000_000
MAX_PIXELS = 40_000_000  # to hold in memory
MAX_SCANS = 30  # of a JPEG, each of which goes over the whole picture; the usual number is 10
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


def decode_picture(content: bytes, name: str, max_side: int) -> Image.Image:
    """Return the picture in a file's content, upright, as RGB or with transparency as RGBA.

    name: of the file, for messages. A JPEG that is larger than `max_side` pixels is reduced while
    it is decoded, but not below that. Raises `InputError` if the content is no whole picture, or
    one that takes too much time or memory.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{name}: more than {MAX_BYTES:,} bytes; save it smaller")
    if content.startswith(b"\xff\xd8") and _count_scans(content) > MAX_SCANS:
        raise InputError(f"{name}: a JPEG of more than {MAX_SCANS} scans; save it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about details that do not prevent the reading
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as file:
                file.draft("RGB", (max_side, max_side))  # reads a large JPEG faster
                if math.prod(file.size) > MAX_PIXELS:
                    raise InputError(f"{name}: more than {MAX_PIXELS:,} pixels; save it smaller")
                # ImageOps.exif_transpose writes EXIF anew, where broken entries raise anything.
                orientation = file.getexif().get(ExifTags.Base.Orientation)
                transposition = TRANSPOSITIONS.get(orientation)
                picture = file if transposition is None else file.transpose(transposition)
                if picture.mode.startswith("I"):  # Pillow would convert the lower 8 of its 16 bits
                    wide = np.asarray(picture).clip(0, 65_535)
                    picture = Image.fromarray((wide // 256).astype(np.uint8))
                return picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(
            f"{name}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
        ) from None
    except UnidentifiedImageError:
        raise InputError(
            f"{name}: not a picture; save it as PNG, JPEG, BMP, GIF, TIFF or WebP"
        ) from None
    # Of Pillow: a broken PNG is a SyntaxError, a broken number in EXIF one of the last two.
    except (OSError, SyntaxError, ValueError, ArithmeticError, struct.error) as error:
        raise InputError(f"{name}: not a whole picture ({error}); save it again") from None


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
    """Return a picture RGB or RGBA in a square, uint8 (C, size, size), with its aspect.

    mode: `grey` (C = 1) or `rgb` (C = 3). What is transparent becomes white. The rest of the
    square has the median colour of the picture's border.
    """
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    opaque = picture.convert("L" if mode == "grey" else "RGB")
    longest = max(opaque.size)
    # As whole numbers, rounded half up.
    width, height = (max(1, (2 * size * side + longest) // (2 * longest)) for side in opaque.size)
    pixels = np.asarray(opaque.resize((width, height), Image.Resampling.BICUBIC))
    pixels = pixels.reshape(height, width, -1)
    if width == height:
        return pixels.transpose(2, 0, 1)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    result = np.empty((size, size, pixels.shape[2]), np.uint8)
    result[:] = np.sort(border, axis=0)[len(border) // 2]
    top, left = (size - height) // 2, (size - width) // 2
    result[top : top + height, left : left + width] = pixels
    return result.transpose(2, 0, 1)
