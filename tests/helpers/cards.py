"""Data sets that need no network, and their cards."""

import contextlib
from pathlib import Path

from stages.datasets.card_files import load_idx
from stages.datasets.cards import Card, read_card
from stages.storage.tensors import Array

SOURCES = Path(__file__).parents[2] / "sources"


def card(name: str) -> Card:
    return read_card(SOURCES / f"{name}.yaml")


def load(name: str) -> dict[str, dict[str, Array]]:
    """Return the splits of a data set: images uint8 (N, C, H, W), labels uint8 (N,)."""
    with contextlib.chdir(SOURCES.parent):  # where a card finds the files of this project
        return load_idx(card(name))


DIGITS = card("mnist-5k").info
