"""How often a model reads made photos of digits: pencil, shadows, lined paper, noise and others.

Draws test digits as a phone would see them, eleven of each of ten kinds, and classifies them by a
checkpoint. Prints for each kind how many were read right, and how many were refused.

    python benchmarks/photos.py data/checkpoints/model.safetensors [FOLDER]
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage

from anypictures.idx import Array
from stages.datasets.card_files import load_idx
from stages.datasets.cards import read_card
from stages.learning.checkpoints import read_checkpoint
from stages.learning.models import predict
from stages.storage.errors import InputError
from tools.preprocessing import to_image

OF_KIND = 11
SIDE = 480  # pixels of a photo
INK, PAPER = np.array((45, 50, 80)), np.array((225, 220, 210))


def write(digit: Array, scale: float, place: tuple[float, float] = (0.5, 0.5)) -> Array:
    """Return the ink of a digit 28 x 28 on a sheet, float (SIDE, SIDE) from 0 to 1.

    scale: of the digit, as a fraction of the sheet. place: of its centre, down and to the right.
    """
    side = int(SIDE * scale)
    big = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    sharp = (np.asarray(big.filter(ImageFilter.GaussianBlur(side / 60)), float) / 255 - 0.25) / 0.3
    sheet = np.zeros((SIDE, SIDE))
    top, left = (int(SIDE * p - side / 2) for p in place)
    rows, columns = (slice(max(0, at), min(SIDE, at + side)) for at in (top, left))
    sheet[rows, columns] = sharp.clip(0, 1)[
        rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
    ]
    return sheet


def photograph(ink: Array, random: np.random.Generator, darkness: float = 1.0) -> Array:
    """Return paper with ink, lit a little from a side, float (SIDE, SIDE, 3)."""
    alpha = darkness * ink[..., None]
    left, right = random.uniform(0.85, 1.05, 2)
    light = np.linspace(left, right, SIDE)[None, :, None]
    seen = (PAPER * (1 - alpha) + INK * alpha) * light
    noisy: Array = seen + random.normal(0, 4, seen.shape)
    return noisy


def grey(digit: Array, random: np.random.Generator) -> Array:
    seen = photograph(write(digit, 0.7), random)
    without_colour: Array = seen.mean(2, keepdims=True).repeat(3, 2)
    return without_colour * 0.75


def faint(digit: Array, random: np.random.Generator) -> Array:
    """Pencil, hardly darker than the paper."""
    return photograph(write(digit, 0.7), random, darkness=random.uniform(0.12, 0.22))


def shadow(digit: Array, random: np.random.Generator) -> Array:
    """A shadow with a soft edge lies over a part of the page."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    angle, where = random.uniform(0, 2 * np.pi), random.uniform(-0.5, 0.5)
    edge = 1 / (1 + np.exp((x * np.cos(angle) + y * np.sin(angle) - where) / 0.05))
    shade: Array = 1 - random.uniform(0.35, 0.6) * edge[..., None]
    return photograph(write(digit, 0.7), random) * shade


def lined(digit: Array, random: np.random.Generator) -> Array:
    seen = photograph(write(digit, 0.7), random)
    seen[:: int(random.integers(35, 60))] *= (0.82, 0.86, 0.95)
    return seen


def noisy(digit: Array, random: np.random.Generator) -> Array:
    seen = photograph(write(digit, 0.7), random)
    return seen + random.normal(0, 22, seen.shape)


def off_centre(digit: Array, random: np.random.Generator) -> Array:
    return photograph(write(digit, 0.4, tuple(random.uniform(0.25, 0.75, 2))), random)


def small(digit: Array, random: np.random.Generator) -> Array:
    return photograph(write(digit, 0.18, tuple(random.uniform(0.3, 0.7, 2))), random)


def thick(digit: Array, random: np.random.Generator) -> Array:
    return photograph(ndimage.grey_dilation(write(digit, 0.7), 15), random)


def thin(digit: Array, random: np.random.Generator) -> Array:
    return photograph(ndimage.grey_erosion(write(digit, 0.7), 11), random)


def tilted(digit: Array, random: np.random.Generator) -> Array:
    angle = random.uniform(8, 18) * random.choice((-1, 1))
    return photograph(ndimage.rotate(write(digit, 0.7), angle, reshape=False, order=1), random)


KINDS: tuple[Callable[[Array, np.random.Generator], Array], ...] = (
    *(grey, faint, shadow, lined, noisy, off_centre, small, thick, thin, tilted),
)


def main() -> None:
    model, info = read_checkpoint(Path(sys.argv[1]))
    test = load_idx(read_card(Path("sources/mnist-5k.yaml")))["test"]
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(name)
        folder.mkdir(exist_ok=True)
        print("| kind | read right | refused | of |\n|---|---|---|---|")
        total = 0
        for kind in KINDS:
            right = refused = 0
            for number in random.choice(len(test["labels"]), OF_KIND, replace=False):
                pixels = kind(test["images"][number, 0], random).clip(0, 255).astype(np.uint8)
                path = folder / f"{test['labels'][number]}-{kind.__name__}-{number}.jpg"
                Image.fromarray(pixels).save(path, quality=85)
                try:
                    image = torch.from_numpy(to_image(path, info)[None])
                except InputError as error:
                    print(error, file=sys.stderr)
                    refused += 1
                    continue
                right += int(predict(model, image).argmax()) == test["labels"][number]
            total += right
            print(f"| {kind.__name__} | {right} | {refused} | {OF_KIND} |")
        print(f"| all | {total} | | {OF_KIND * len(KINDS)} |")


if __name__ == "__main__":
    main()
