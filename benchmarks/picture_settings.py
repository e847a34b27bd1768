"""Settings for pictures of one's own, chosen by val over five sets that were made or are here.

Each set has colour images of 32 x 32 pixels (digits: grey), some for training and more for val than
a person would have, so that the choice is by the setting and less by chance. Prints the accuracy on
val, the mean over the seeds and then over the sets, of each setting.

    python benchmarks/picture_settings.py 40          # images of a class for training
    python benchmarks/picture_settings.py 400 epochs=30,60
"""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from anypictures.decoding import fit_picture
from anypictures.idx import Array
from stages.datasets.card_files import load_idx
from stages.datasets.cards import read_card
from stages.learning.models import predict
from stages.learning.training import Replicas, Split
from stages.params import load_params
from stages.params.train import Train
from tests.helpers.shapes import CLASSES, draw_shape

SEEDS = (0,)
OF_VAL = 100  # images of a class
LETTERS = "ADEFGHMR"
FONTS = sorted(Path("/usr/share/fonts").rglob("*.ttf"))
FIRST: dict[str, Any] = {
    "model": "cnn",
    "width": 16,
    "optimizer": "adam",
    "lr": 0.01,
    "schedule": "one_cycle",
    "augment": "affine",
    "batch_size": 32,
    "epochs": 100,
    "label_smoothing": 0.1,
}


def colours(random: np.random.Generator) -> list[tuple[int, ...]]:
    """Return a light and a dark colour, in any order."""
    both = [tuple(random.integers(*ends, 3).tolist()) for ends in ((150, 256), (0, 110))]
    return both[:: random.choice((1, -1))]


def draw_letter(name: str, random: np.random.Generator) -> Image.Image:
    background, colour = colours(random)
    picture = Image.new("RGB", (64, 64), background)
    font = ImageFont.truetype(str(random.choice(np.array(FONTS))), int(random.integers(28, 48)))
    x, y = random.uniform(26, 38, 2)
    ImageDraw.Draw(picture).text((float(x), float(y)), name, colour, font, anchor="mm")
    return picture.rotate(float(random.uniform(-12, 12)), fillcolor=background)


def draw_texture(name: str, random: np.random.Generator) -> Image.Image:
    """Return stripes, checks, dots or waves of any width, direction and colours, with noise."""
    y, x = np.mgrid[:48, :48] + random.uniform(0, 48, (2, 1, 1))
    angle, step = random.uniform(0, np.pi), random.uniform(5, 12)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    a, b = np.sin(2 * np.pi * u / step), np.sin(2 * np.pi * v / step)
    waves = np.sin(2 * np.pi * (u + 2 * np.sin(v / 4)) / step)
    mask = {"stripes": a > 0, "checks": a * b > 0, "dots": a + b > 1, "waves": waves > 0}[name]
    pixels = np.where(mask[..., None], *(np.array(colour) for colour in colours(random)))
    noisy = pixels + random.normal(0, 15, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def drawn(
    names: tuple[str, ...], draw: Callable[[str, np.random.Generator], Image.Image], size: int
) -> tuple[Array, Array]:
    random = np.random.default_rng(0)
    labels = np.tile(np.arange(len(names)), size)
    images = [fit_picture(draw(names[label], random), 32, "rgb") for label in labels]
    return np.stack(images), labels


def card(name: str) -> tuple[Array, Array]:
    splits = load_idx(read_card(Path(f"sources/{name}.yaml"))).values()
    images, labels = (np.concatenate([split[x] for split in splits]) for x in ("images", "labels"))
    order = np.random.RandomState(0).permutation(len(labels))
    return images[order], labels[order]


def make_sets(of_class: int) -> dict[str, tuple[Split, Split]]:
    """Return train and val of each set that has as many images of a class."""
    size = of_class + OF_VAL
    made = {
        "shapes": drawn(CLASSES, draw_shape, size),
        "textures": drawn(("stripes", "checks", "dots", "waves"), draw_texture, size),
        "letters": drawn(tuple(LETTERS), draw_letter, size),
        "digits": card("mnist-5k"),
        "digits-8x8": card("digits-8x8"),
    }
    sets = {}
    for name, (images, labels) in made.items():
        classes = int(labels.max()) + 1
        if np.bincount(labels).min() < of_class + OF_VAL // 2:
            continue
        train = np.concatenate([np.flatnonzero(labels == c)[:of_class] for c in range(classes)])
        val = np.concatenate([np.flatnonzero(labels == c)[of_class:size] for c in range(classes)])
        sets[name] = tuple(
            Split(torch.from_numpy(images[i]), torch.from_numpy(labels[i]), classes, False)
            for i in (train, val)
        )
    return sets  # type: ignore[return-value]


def accuracy(train: Split, val: Split, settings: dict[str, Any]) -> float:
    """Return the mean accuracy on val over the seeds."""
    params = load_params(Train, "train").model_copy(update=settings | {"score_every": 10**9})
    found = []
    for seed in SEEDS:
        first = val._replace(images=val.images[:1], labels=val.labels[:1])
        replicas = Replicas([0], [seed], train, first, params)  # which scores it after each epoch
        for _ in range(params.epochs):
            for _ in replicas.train_epoch():
                pass
        right = predict(replicas.models[0], val.images).argmax(1) == val.labels
        found.append(right.double().mean().item())
    return statistics.mean(found)


def main() -> None:
    torch.set_num_threads(1)
    of_class = int(sys.argv[1])
    choices: dict[str, list[Any]] = {}
    for argument in sys.argv[2:]:
        name, _, values = argument.partition("=")
        kind = type(FIRST[name])  # of a string, a whole number or a fraction
        choices[name] = [kind(value) for value in values.split(",")]
    sets = make_sets(of_class)
    print(f"| setting | {' | '.join(sets)} | mean | CPU s |\n|---|{'---|' * (len(sets) + 2)}")
    for chosen in itertools.product(*choices.values()):
        changes = dict(zip(choices, chosen, strict=True))
        start = time.process_time()
        found = [100 * accuracy(*split, FIRST | changes) for split in sets.values()]
        seconds = (time.process_time() - start) / len(SEEDS) / len(sets)
        name = " ".join(f"{k}={v}" for k, v in changes.items()) or "as it is"
        cells = " | ".join(f"{value:.1f}" for value in [*found, statistics.mean(found)])
        print(f"| {name} | {cells} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
