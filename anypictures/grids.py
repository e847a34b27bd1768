"""Grids of images, drawn with their captions.

Pillow draws them, because it imports much faster than matplotlib. It draws in whole pixels and with
the font that it carries, so that the same images give the same bytes on every machine.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]
GRID_IMAGE_SIZE = 84  # screen pixels that an image may take
CAPTION_HEIGHT, GAP = 18, 8  # of a line of text; between two images
MAX_CAPTION_WIDTH = 180


def png_grid(images: Array, captions: Sequence[str], columns: int = 6) -> bytes:
    """Return images with their captions, as `image_grid` has them, as PNG without metadata."""
    buffer = io.BytesIO()
    image_grid(images, captions, columns).save(buffer, "PNG")
    return buffer.getvalue()


def image_grid(images: Array, captions: Sequence[str], columns: int) -> Image.Image:
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
    """Return images uint8 (N, C, H, W) as (N, H, W, C); light on black becomes dark on white."""
    channels_last = images.transpose(0, 2, 3, 1)
    return channels_last if style == "natural" else 255 - channels_last


def heatmap(values: Array) -> Array:
    """Return values (N, H, W) as RGB uint8 (N, H, W, 3): 0 is white, above red, below blue.

    All images share one scale, on which the largest magnitude has the full colour.
    """
    strength = values / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    fade = np.rint(255 * (1 - np.abs(strength))).astype(np.uint8)
    full = np.full_like(fade, 255)
    red, green, blue = np.where(strength < 0, fade, full), fade, np.where(strength > 0, fade, full)
    return np.stack([red, green, blue], axis=-1)
