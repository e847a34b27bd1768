"""Pictures of digits, as a phone or a scanner takes them."""

import numpy as np
from PIL import Image

from stages.storage.tensors import Array

RANDOM = np.random.default_rng(0)


def shifted(image: Array) -> Image.Image:
    """Return a digit enlarged to 200 x 200, dark on light, somewhere on a larger sheet."""
    sheet = Image.new("L", (260, 260), "white")
    big = Image.fromarray(255 - image).resize((200, 200), Image.Resampling.BICUBIC)
    sheet.paste(big, (int(RANDOM.integers(61)), int(RANDOM.integers(61))))
    return sheet


def on_green(image: Array) -> Image.Image:
    """Return a red digit, small and stretched, on green: as bright as its background."""
    share = image[..., None] / 255
    colours = (1 - share) * (40, 140, 40) + share * (200, 60, 40)
    return Image.fromarray(colours.astype(np.uint8)).resize((90, 110))


def on_nothing(image: Array) -> Image.Image:
    """Return a white digit on a transparent background."""
    return Image.fromarray(np.dstack([np.full((28, 28, 3), 255, np.uint8), image]))


def photographed(image: Array) -> Image.Image:
    """Return blue ink on paper that is lit from a side, with the noise of a camera."""
    ink = np.asarray(Image.fromarray(image).resize((560, 560)), float)[..., None] / 255
    ink = np.pad(ink, ((100, 60), (40, 120), (0, 0)))
    light = 160 + 50 * np.linspace(0, 1, ink.shape[1])[None, :, None] + np.zeros(3)
    seen = (1 - ink) * light + ink * (40, 60, 140)
    seen += RANDOM.normal(0, 6, ink.shape)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))
