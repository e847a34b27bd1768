"""Trainings for `benchmarks/compare.py`, and draws of their replicas and images.

Each setting is trained on the first 2,000 images of MNIST from many seeds, and scores 25,000 other
images.
"""

import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in a stage; read when torch is imported

import numpy as np
import torch

from benchmarks import previous
from fairtrial.statistics.significance import Array, Difference, Pairing, difference
from stages.datasets.card_files import load_idx
from stages.datasets.cards import read_card
from stages.learning.models import predict
from stages.learning.training import Replicas, Split
from stages.params import load_params
from stages.params.train import Train

TRIALS = 400  # of each cell
FIRST_SEED = 5_000
GROUP = 5  # images that depend on one another
DIGIT = 3  # whose recall is compared
MLP = {"model": "mlp", "width": 32, "optimizer": "adam", "epochs": 5}
SMOOTH = {**MLP, "width": 48, "label_smoothing": 0.1}
CNN = {"model": "cnn", "width": 2, "optimizer": "adam", "epochs": 2}
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {  # how many replicas, and their parameters
    "linear, lr 0.01": (400, {}),
    "linear, lr 0.0101": (400, {"lr": 0.0101}),
    "linear, lr 0.012": (400, {"lr": 0.012}),
    "linear, lr 0.3": (200, {"lr": 0.3}),
    "linear, lr 1.0": (200, {"lr": 1.0}),
    "mse, lr 0.01": (200, {"loss": "mse"}),
    "mse, lr 0.012": (200, {"loss": "mse", "lr": 0.012}),
    "mlp 32, lr 0.001": (200, {**MLP, "lr": 0.001}),
    "mlp 32, lr 0.0012": (200, {**MLP, "lr": 0.0012}),
    "mlp 48, lr 0.001": (200, {**SMOOTH, "lr": 0.001}),
    "mlp 48, lr 0.0011": (200, {**SMOOTH, "lr": 0.0011}),
    "cnn, lr 0.01": (60, {**CNN, "lr": 0.01}),
    "cnn, lr 0.012": (60, {**CNN, "lr": 0.012}),
}
DEFAULT = "linear, lr 0.01"
GRID = {  # their gains are from 0 to one point
    f"linear, lr {lr:g}": (60, {"lr": lr})
    for lr in (round(0.01 + 0.00013 * step, 5) for step in range(1, 21))
}


def train_replicas(changes: dict[str, Any], first: int, count: int) -> tuple[Array, Array, Array]:
    """Return which of 25,000 images the replicas classify correctly, their losses, the labels."""
    card = read_card(Path("sources/mnist.yaml"))
    splits, classes = load_idx(card), len(card.classes)
    images, labels = (torch.from_numpy(splits["train"][x].copy()) for x in ("images", "labels"))
    others = [torch.from_numpy(splits["test"][x].copy()) for x in ("images", "labels")]
    train = Split(images[:2_000], labels[:2_000].long(), classes)
    val = Split(images[2_000:2_500], labels[2_000:2_500].long(), classes)
    scored = torch.cat([images[2_500:17_500], others[0]])
    truth = torch.cat([labels[2_500:17_500], others[1]]).long()
    base = load_params(Train, "train")
    correct, losses = [], []
    for seed in range(first, first + count):
        params = base.model_copy(update={**changes, "seed": seed})
        trained = Replicas([0], [seed], train, val, params)
        while trained.epochs_done < params.epochs:
            for _ in trained.train_epoch():
                pass
        logits = predict(trained.model, scored).double()
        correct.append((logits.argmax(1) == truth).numpy())
        loss = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
        losses.append(loss.float().numpy())
    return np.array(correct), np.array(losses), truth.numpy()


def train_all(pool: ProcessPoolExecutor, folder: Path) -> None:
    """Write the scores of all settings to a folder, where `load` finds them."""
    jobs = {
        name: [
            pool.submit(train_replicas, changes, FIRST_SEED + start, min(50, replicas - start))
            for start in range(0, replicas, 50)
        ]
        for name, (replicas, changes) in {**SETTINGS, **GRID}.items()
    }
    for name, parts in jobs.items():
        correct, losses, labels = zip(*(part.result() for part in parts), strict=True)
        np.save(folder / f"{name}.accuracy.npy", np.concatenate(correct))
        np.save(folder / f"{name}.cross_entropy.npy", np.concatenate(losses))
        np.save(folder / "labels.npy", labels[0])


def load(folder: Path, name: str, metric: str = "accuracy") -> Array:
    """Return the scores of a setting, (R, 25000)."""
    file = "cross_entropy" if metric == "cross_entropy" else "accuracy"
    scores: Array = np.load(folder / f"{name}.{file}.npy", mmap_mode="r")
    return scores


class Cell(NamedTuple):
    """What is compared: replicas of two settings that are pairs by their seeds, or strangers."""

    like: str  # what these settings are like
    a: str
    b: str
    kind: str  # "pairs", "strangers", or "null", which are strangers of one setting
    seeds: tuple[int, int]
    images: int
    metric: str = "accuracy"
    overlap: float = 1.0  # the share of images that both sides have
    in_groups: bool = False


class Draws:
    """The replicas and images of a cell, and draws of them."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self.cell = cell
        self.random = np.random.default_rng(zlib.crc32(repr(cell).encode()))
        self.a, self.b = (load(folder, name, cell.metric) for name in (cell.a, cell.b))
        self.labels = np.load(folder / "labels.npy")
        effects = self.b.mean(0, dtype=float) - self.a.mean(0, dtype=float)
        of_class = [effects[self.labels == digit].mean() for digit in np.unique(self.labels)]
        self.truth = float(effects.mean())
        if cell.metric == "balanced accuracy":
            self.truth = float(np.mean(of_class))
        if cell.metric.startswith("recall"):
            self.truth = float(of_class[DIGIT])
        # An effect plus those of two other images tells a third of its variance, by symmetry; so
        # neighbours in the order of these sums have a correlation of a third.
        sums = effects + sum(self.random.permutation(effects) for _ in range(2))
        self.groups = np.argsort(sums).reshape(-1, GROUP)

    def draw(self) -> tuple[Array, Array, Pairing]:
        (ra, rb), images, random = self.cell.seeds, self.cell.images, self.random
        is_paired = self.cell.kind == "pairs"
        number = max(ra, rb) if is_paired else ra + rb
        rows = random.choice(min(len(self.a), len(self.b)), number, replace=False)
        common = round(images * self.cell.overlap)
        drawn = random.integers(self.a.shape[1], size=2 * images - common)
        if self.cell.in_groups:
            drawn = self.groups[random.integers(len(self.groups), size=images // GROUP)].ravel()
        if self.cell.metric.startswith("recall"):
            drawn = drawn[self.labels[drawn] == DIGIT]
            images = common = len(drawn)
        of_a, of_b = np.arange(images), np.r_[:common, images : 2 * images - common]
        pairing = Pairing(is_paired, (of_a, of_b))
        if self.cell.in_groups:
            pairing = pairing._replace(groups=(of_a // GROUP, of_b // GROUP))
        if self.cell.metric == "balanced accuracy":
            pairing = pairing._replace(classes=(self.labels[drawn[of_a]], self.labels[drawn[of_b]]))
        rows_b = rows[:rb] if is_paired else rows[ra:]
        a = self.a[np.ix_(rows[:ra], drawn[of_a])].astype(float)
        return a, self.b[np.ix_(rows_b, drawn[of_b])].astype(float), pairing

    def compare(self) -> tuple[Difference, Difference]:
        """Return a comparison, and the previous one of the same draw."""
        a, b, pairing = self.draw()
        pairs = min(self.cell.seeds) if pairing.same_seeds else 0
        return difference(a, b, pairing), previous.difference(a, b, self.cell.overlap == 1, pairs)
