"""What two revisions have in common: examples, replicas, classes, and how they were chosen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fairtrial.project.chosen import Chosen, settings_key
from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision
from fairtrial.statistics.significance import Array, Pairing

MAX_CLASSES = 1_000  # distinct labels; more are no classes
MIN_SHARED = 0.5  # of all classes of two revisions; those that share no more are two tasks


class Choice(NamedTuple):
    """How one of two revisions was chosen as the best of a number of settings."""

    settings: int
    same_examples: bool  # whether it was chosen by the examples of this comparison
    same_seeds: bool  # whether it was chosen by the replicas of this comparison

    @property
    def remark(self) -> str:
        used = [
            text
            for text, is_same in (
                ("on the same examples", self.same_examples),
                ("with the same seeds", self.same_seeds),
            )
            if is_same
        ]
        return (
            "p and the interval are corrected for the choice of the best of "
            f"{self.settings:,} {' and '.join(used)}"
        )


class Numbers(NamedTuple):
    """The examples of a revision, their groups and their classes, as whole numbers (N,).

    In all revisions that are numbered together, equal numbers are the same one.
    """

    examples: Array
    groups: Array | None
    classes: Array | None  # None unless the means of the classes count the same


def number_all(revisions: Sequence[Revision], balanced: bool = False) -> list[Numbers]:
    """Return the numbers of the examples, groups and classes of revisions.

    Examples are the same if their identities and labels are. balanced: whether the means of the
    classes count the same. Raises `InputError` if there are no classes then.
    """
    if balanced and any(one.labels is None for one in revisions):
        raise InputError(
            "--balanced: the tables of scores have no column label; leave --balanced out"
        )
    columns = (
        _numbers([identities(one) for one in revisions]),
        _numbers([one.groups for one in revisions]),
        _numbers([one.labels if balanced else None for one in revisions]),
    )
    return [Numbers(*of_one) for of_one in zip(*columns, strict=True)]


def match(first: Revision, other: Revision, numbers_a: Numbers, numbers_b: Numbers) -> Pairing:
    """Return which examples, groups and replicas of two revisions belong together.

    numbers_a, numbers_b: as `number_all` returns them. Raises `InputError` if the means of classes
    count the same, and the two have none in common.
    """
    groups = classes = None
    if numbers_a.groups is not None and numbers_b.groups is not None:
        groups = numbers_a.groups, numbers_b.groups
    if numbers_a.classes is not None and numbers_b.classes is not None:
        classes = numbers_a.classes, numbers_b.classes
        if not np.isin(*classes).any():
            raise InputError(
                f"--balanced: {first.name} and {other.name} have no class in common; leave it out"
            )
    examples = numbers_a.examples, numbers_b.examples
    return Pairing(common_replicas(first, other) > 0, examples, groups, classes)


def number_seeds(revisions: Sequence[Revision]) -> list[Array]:
    """Return the numbers of the replicas of revisions (R,); those that are pairs have the same."""
    known: dict[tuple[Any, int], int] = {}
    numbers = []
    for position, one in enumerate(revisions):
        seed = f"unknown {position}" if one.seed is None else one.seed
        keys = [(seed, replica) for replica in range(one.replicas)]
        numbers.append(np.array([known.setdefault(key, len(known)) for key in keys]))
    return numbers


def identities(revision: Revision) -> list[Any]:
    """Return for each of N examples what makes it itself: its name, and its label if any."""
    if revision.labels is None:
        return list(revision.examples)
    return list(zip(revision.examples, revision.labels, strict=True))


def _numbers(columns: list[Any]) -> list[Any]:
    """Return columns as whole numbers from 0; equal values have equal numbers. None stays."""
    known: dict[Any, int] = {}
    return [
        None if column is None else np.array([known.setdefault(x, len(known)) for x in column])
        for column in columns
    ]


def common_replicas(first: Revision, other: Revision) -> int:
    """Return how many replicas are pairs: those of the same number, if the seeds are the same."""
    same_seed = first.seed == other.seed and first.seed is not None
    return min(first.replicas, other.replicas) if same_seed else 0


def has_same_examples(first: Revision, other: Revision) -> bool:
    """Return whether two revisions are scored on the same examples with the same labels."""
    columns = (first.examples, other.examples), (first.labels, other.labels)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in columns)


class OtherTaskError(InputError):
    """Two revisions are of data with other classes."""


def refuse_other_task(first: Revision, other: Revision, remedy: str) -> None:
    """Raise `OtherTaskError`, with a remedy, if two revisions share few of their classes."""
    known = [classes(revision) for revision in (first, other)]
    if known[0] and known[1]:
        shared, all_classes = known[0] & known[1], known[0] | known[1]
        if len(shared) <= MIN_SHARED * len(all_classes):
            raise OtherTaskError(
                f"{first.name} and {other.name} have other classes ({_sample(known[0])}; and "
                f"{_sample(known[1])}): these are two tasks; {remedy}"
            )


def find_choice(first: Revision, other: Revision, chosen: dict[str, Chosen]) -> Choice | None:
    """Return how one of two revisions was chosen, by the larger number of settings if both were.

    chosen: as `load_chosen` returns it. None if neither was chosen with the seeds or the examples
    of this comparison.
    """
    choices = []
    for revision in (first, other):
        if found := chosen.get(settings_key(revision.params, revision.contract)):
            choice = Choice(
                found.settings, revision.split in found.splits, revision.seed in found.seeds
            )
            choices += [choice] if choice.same_examples or choice.same_seeds else []
    return max(choices, default=None)


def classes(revision: Revision) -> set[str]:
    """Return the distinct labels of a revision, or nothing if they are no classes."""
    labels = set() if revision.labels is None else set(revision.labels)
    is_class = len(labels) <= min(MAX_CLASSES, len(revision.examples) / 2)
    return labels if is_class else set()


def _sample(names: set[str]) -> str:
    """Return some of the names, in their order."""
    shown = sorted(names)[:5]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
