"""Pictures of images in a grid, drawn with Pillow, which imports much faster than matplotlib.

They are drawn in whole pixels and with the font that Pillow carries, so that the same images
give the same bytes on every machine.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.storage.tensors import Array

SCALE = 3  # screen pixels for a pixel of an image
IMAGE_SIZE = 28 * SCALE
CAPTION_HEIGHT, GAP = 18, 8  # of a line of text; between two images


def image_grid(images: Array, captions: Sequence[str], columns: int = 6) -> Image.Image:
    """Return images in rows of `columns`, each over its caption.

    images: uint8 (N, 28, 28), drawn dark on light; or uint8 RGB (N, 28, 28, 3), drawn as it is.
    """
    rows = max(1, -(-len(images) // columns))
    cell_width, cell_height = IMAGE_SIZE + GAP, IMAGE_SIZE + CAPTION_HEIGHT + GAP
    mode = "L" if images.ndim == 3 else "RGB"
    sheet = Image.new(mode, (columns * cell_width + GAP, rows * cell_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, columns)
        left, top = GAP + column * cell_width, GAP + row * cell_height
        picture = Image.fromarray(255 - image if mode == "L" else image)
        enlarged = picture.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST)
        sheet.paste(enlarged, (left, top))
        middle = (left + IMAGE_SIZE // 2, top + IMAGE_SIZE + 2)
        draw.text(middle, caption, "black", font, anchor="ma")
    return sheet


def heatmap(values: Array) -> Array:
    """Return values (N, 28, 28) as RGB uint8 (N, 28, 28, 3): 0 is white, above red, below blue.

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
