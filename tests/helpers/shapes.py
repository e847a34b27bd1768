"""Coloured pictures of shapes, to train on: a folder with a sub-folder for each class."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "cross", "square", "triangle")


def draw_shape(name: str, random: np.random.Generator) -> Image.Image:
    """Return a shape of a random colour, size and place on a light background, as RGB."""
    width, height = (int(side) for side in random.integers(40, 70, 2))
    background, colour = (
        tuple(int(value) for value in random.integers(*ends, 3)) for ends in ((190, 256), (0, 130))
    )
    picture = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(picture)
    radius = int(random.integers(12, 18))
    x = int(random.integers(radius, width - radius))
    y = int(random.integers(radius, height - radius))
    box = (x - radius, y - radius, x + radius, y + radius)
    match name:
        case "circle":
            draw.ellipse(box, fill=colour)
        case "square":
            draw.rectangle(box, fill=colour)
        case "triangle":
            corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
            draw.polygon(corners, fill=colour)
        case _:
            draw.line((box[0], box[1], box[2], box[3]), fill=colour, width=6)
            draw.line((box[0], box[3], box[2], box[1]), fill=colour, width=6)
    return picture


def make_shapes(folder: Path, count: int = 60, seed: int = 0) -> None:
    """Write `count` pictures of each shape; other seeds give others, with other names."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw_shape(name, random).save(folder / name / f"{seed + number}.png")
