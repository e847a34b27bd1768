"""Data sets that need no network, and their cards."""

from pathlib import Path

from stages.datasets.cards import Card, read_card
from stages.fetch import load_card
from stages.params.fetch import DEFAULT_TEST_SHARE
from stages.storage.tensors import Array

SOURCES = Path(__file__).parents[2] / "sources"


def card(name: str) -> Card:
    return read_card(SOURCES / f"{name}.yaml")


def load(name: str) -> dict[str, dict[str, Array]]:
    """Return the splits of a data set: images uint8 (N, C, H, W), labels uint8 (N,)."""
    return load_card(card(name), DEFAULT_TEST_SHARE)


DIGITS = card("mnist-5k").info
