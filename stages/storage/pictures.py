"""Small pictures of digits, drawn with Pillow, which imports much faster than matplotlib.

In whole pixels and with the font that Pillow carries, they are the same on every machine.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.storage.tensors import Array

SCALE = 3  # screen pixels a pixel of a digit
CELL = 28 * SCALE
CAPTION, GAP = 18, 8  # height of a line of text, space between two digits


def image_grid(images: Array, captions: Sequence[str], columns: int = 6) -> Image.Image:
    """Return a grid of digits in rows of `columns`, each over its caption.

    images: uint8 (N, 28, 28), drawn dark on light, or in colour (N, 28, 28, 3), drawn as
    they are.
    """
    rows = max(1, -(-len(images) // columns))
    width, height = CELL + GAP, CELL + CAPTION + GAP
    mode = "L" if images.ndim == 3 else "RGB"
    sheet = Image.new(mode, (columns * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * width, GAP + row * height
        picture = Image.fromarray(255 - image if mode == "L" else image)
        sheet.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), (left, top))
        draw.text((left + CELL // 2, top + CELL + 2), caption, "black", font, anchor="ma")
    return sheet


def heatmap(values: Array) -> Array:
    """Return values (N, 28, 28) as colours uint8 (N, 28, 28, 3): white at 0, red above, blue below.

    The scale is common to all: the largest magnitude is the full colour.
    """
    share = values / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    fade = np.rint(255 * (1 - np.abs(share))).astype(np.uint8)
    full = np.full_like(fade, 255)
    return np.stack(
        [np.where(share < 0, fade, full), fade, np.where(share > 0, fade, full)], axis=-1
    )


def encode_png(picture: Image.Image) -> bytes:
    """Return the picture as PNG, without metadata."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
