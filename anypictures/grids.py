"""Grids of images, drawn with their captions.

Pillow draws them, because it imports much faster than matplotlib. It draws in whole pixels and with
the font that it carries, so that the same images give the same bytes on every machine.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]
GRID_IMAGE_SIZE = 84  # screen pixels that an image may take
CAPTION_HEIGHT, GAP = 18, 8  # of a line of text; between two images
LINE_LENGTH, MAX_LINES = 16, 4  # characters of a caption in a line; and lines, of each of its lines


def png_grid(images: Array, captions: Sequence[str], columns: int = 6, empty: str = "") -> bytes:
    """Return images with their captions, as `image_grid` has them, as PNG without metadata."""
    buffer = io.BytesIO()
    image_grid(images, captions, columns, empty).save(buffer, "PNG")
    return buffer.getvalue()


def image_grid(
    images: Array, captions: Sequence[str], columns: int, empty: str = ""
) -> Image.Image:
    """Return images in rows of `columns`, each over its caption.

    images: uint8 (N, H, W, 1) or (N, H, W, 3), enlarged by a whole number. A caption that is too
    long for a line goes on in the next. empty: what is written if there is no image.
    """
    scale = max(1, GRID_IMAGE_SIZE // images.shape[1])
    image_height, image_width = (scale * side for side in images.shape[1:3])
    font = ImageFont.load_default(13)
    captions = ["\n".join(_lines(caption)) for caption in captions]
    lines = [line for caption in captions for line in caption.split("\n")]
    widths = [math.ceil(font.getlength(line)) for line in lines]
    height = CAPTION_HEIGHT * max((1 + caption.count("\n") for caption in captions), default=1)
    rows = max(1, -(-len(images) // columns))
    cell_width = max(image_width, GRID_IMAGE_SIZE, *widths) + GAP
    cell_height = image_height + height + GAP
    mode = "L" if images.shape[3] == 1 else "RGB"
    sheet = Image.new(mode, (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    if not len(images):
        draw.text((sheet.width // 2, sheet.height // 2), empty, "black", font, anchor="mm")
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left = GAP + column * cell_width + (cell_width - GAP - image_width) // 2
        top = GAP + row * cell_height
        picture = Image.fromarray(image[..., 0] if mode == "L" else image)
        enlarged = picture.resize((image_width, image_height), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left, top))
        middle = (left + image_width // 2, top + image_height + 2)
        draw.text(middle, caption, "black", font, anchor="ma", align="center")
    return sheet


def _lines(caption: str) -> list[str]:
    """Return a caption in short lines, with its own ends of lines kept."""
    wrap = textwrap.TextWrapper(LINE_LENGTH, max_lines=MAX_LINES, placeholder="...").wrap
    return [part for line in caption.split("\n") for part in wrap(line)] or [""]


def for_display(images: Array, style: str) -> Array:
    """Return images uint8 (N, C, H, W) as (N, H, W, C); light on black becomes dark on white.

    Photos in shades of grey get three channels: a page shows a file without colours as a drawing,
    light on dark where the page is dark.
    """
    channels_last = images.transpose(0, 2, 3, 1)
    if style == "natural":
        return np.broadcast_to(channels_last, (*channels_last.shape[:3], 3))
    return 255 - channels_last


def heatmap(values: Array) -> Array:
    """Return values (N, H, W) as RGB uint8 (N, H, W, 3): 0 is white, above red, below blue.

    All images share one scale, on which the largest magnitude has the full colour.
    """
    strength = values / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    fade = np.rint(255 * (1 - np.abs(strength))).astype(np.uint8)
    full = np.full_like(fade, 255)
    red, green, blue = np.where(strength < 0, fade, full), fade, np.where(strength > 0, fade, full)
    return np.stack([red, green, blue], axis=-1)
