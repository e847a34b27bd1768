"""What is known of a picture beside its pixels, and which pictures belong together."""

from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """What is known of a picture, beside its pixels and its label."""

    file: str  # and of a table or an array the row: `train-images.gz[3]`
    example: str  # a hash of its pixels
    group: str = ""  # as the user's own table says, such as a patient
    is_val: bool = False  # in the training pool, but of the source's own validation split


def units_of(rows: Sequence[Row]) -> list[str]:
    """Return for each row the name of its unit: the pictures that have to be in the same split.

    These are copies, and those of one group, and whatever is linked by both.
    """
    parents: dict[str, str] = {}

    def root(key: str) -> str:
        while (parent := parents.get(key, key)) != key:
            parents[key] = key = parents.get(parent, parent)
        return key

    examples = {row.example for row in rows}
    keys = [(row.example, f"group {row.group}" if row.group else row.example) for row in rows]
    for key, other in keys:
        # The first name is the unit's, so that neither the order of the rows nor a new one matters.
        first, second = sorted((root(key), root(other)), key=lambda name: (name in examples, name))
        parents[second] = first
    return [root(key) for key, _ in keys]
