"""Pictures: files that are read as a person sees them, and grids of images that are drawn.

Pillow does both, since it imports much faster than matplotlib. It draws in whole pixels and with
the font that it carries, and it decodes and resizes with whole numbers, so that the same pictures
give the same bytes on every machine.
"""

import io
import math
import re
import struct
import warnings
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, UnidentifiedImageError

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

GRID_IMAGE_SIZE = 84  # screen pixels that an image may take
CAPTION_HEIGHT, GAP = 18, 8  # of a line of text; between two images
MAX_CAPTION_WIDTH = 180


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


def image_grid(images: Array, captions: Sequence[str], columns: int = 6) -> Image.Image:
    """Return images in rows of `columns`, each over its caption.

    images: uint8 (N, H, W, 1) or (N, H, W, 3), enlarged by a whole number. A caption that is too
    long for its image is cut.
    """
    scale = max(1, GRID_IMAGE_SIZE // images.shape[1])
    image_height, image_width = (scale * side for side in images.shape[1:3])
    font = ImageFont.load_default(13)
    captions = [_cut(caption, font) for caption in captions]
    widths = [math.ceil(font.getlength(caption)) for caption in captions]
    rows = max(1, -(-len(images) // columns))
    cell_width = max(image_width, GRID_IMAGE_SIZE, *widths) + GAP
    cell_height = image_height + CAPTION_HEIGHT + GAP
    mode = "L" if images.shape[3] == 1 else "RGB"
    sheet = Image.new(mode, (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left = GAP + column * cell_width + (cell_width - GAP - image_width) // 2
        top = GAP + row * cell_height
        picture = Image.fromarray(image[..., 0] if mode == "L" else image)
        enlarged = picture.resize((image_width, image_height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left, top))
        middle = (left + image_width // 2, top + image_height + 2)
        draw.text(middle, caption, "black", font, anchor="ma")
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text that is at most `MAX_CAPTION_WIDTH` wide, if need be without its end."""
    while font.getlength(text) > MAX_CAPTION_WIDTH:
        text = f"{text.removesuffix('...')[:-1]}..."
    return text


def for_display(images: Array, style: str) -> Array:
    """Return images uint8 (N, C, H, W) as (N, H, W, C): those that are light on black inverted."""
    channels_last = images.transpose(0, 2, 3, 1)
    return channels_last if style == "natural" else 255 - channels_last


def heatmap(values: Array) -> Array:
    """Return values (N, H, W) as RGB uint8 (N, H, W, 3): 0 is white, above red, below blue.

    All images share one scale, on which the largest magnitude has the full colour.
    """
    share = values / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    fade = np.rint(255 * (1 - np.abs(share))).astype(np.uint8)
    full = np.full_like(fade, 255)
    red, green, blue = np.where(share < 0, fade, full), fade, np.where(share > 0, fade, full)
    return np.stack([red, green, blue], axis=-1)


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as PNG, without metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
