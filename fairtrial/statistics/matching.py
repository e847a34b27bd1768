"""What two revisions have in common: examples, replicas, classes, and how they were chosen."""

from typing import NamedTuple

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


def match(first: Revision, other: Revision, balanced: bool = False) -> Pairing:
    """Return which examples, groups and replicas of two revisions belong together.

    Examples are the same if their identities and labels are. balanced: whether the means of the
    classes count the same. Raises `InputError` if they have none in common then.
    """
    examples = _numbers(*(identities(revision) for revision in (first, other)))
    groups = classes = None
    if first.groups is not None and other.groups is not None:
        groups = _numbers(first.groups, other.groups)
    if balanced:
        if first.labels is None or other.labels is None:
            raise InputError(
                "--balanced: the tables of scores have no column label; leave --balanced out"
            )
        if not {*first.labels} & {*other.labels}:
            raise InputError(
                f"--balanced: {first.name} and {other.name} have no class in common; leave it out"
            )
        classes = _numbers(first.labels, other.labels)
    return Pairing(common_replicas(first, other) > 0, examples, groups, classes)


def identities(revision: Revision) -> Array:
    """Return for each example what makes it itself, object (N,): its name, and its label if any."""
    if revision.labels is None:
        return revision.examples
    pairs = zip(revision.examples, revision.labels, strict=True)
    return np.array([f"{example}\0{label}" for example, label in pairs], dtype=object)


def _numbers(a: Array, b: Array) -> tuple[Array, Array]:
    """Return two columns of texts as whole numbers; equal texts have equal numbers."""
    _, numbers = np.unique(np.concatenate([a, b]), return_inverse=True)
    return numbers[: len(a)], numbers[len(a) :]


def common_replicas(first: Revision, other: Revision) -> int:
    """Return how many replicas are pairs: those of the same number, if the seeds are the same."""
    same_seed = first.seed == other.seed and first.seed is not None
    return min(first.replicas, other.replicas) if same_seed else 0


def has_same_examples(first: Revision, other: Revision) -> bool:
    """Return whether two revisions are scored on the same examples with the same labels."""
    columns = (first.examples, other.examples), (first.labels, other.labels)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in columns)


def refuse_other_task(first: Revision, other: Revision) -> None:
    """Raise `InputError` if the labels of two revisions are mostly other classes."""
    known = [classes(revision) for revision in (first, other)]
    if known[0] and known[1]:
        shared, all_classes = known[0] & known[1], known[0] | known[1]
        if len(shared) <= MIN_SHARED * len(all_classes):
            raise InputError(
                f"{first.name} and {other.name} have other classes ({_sample(known[0])}; and "
                f"{_sample(known[1])}): these are two tasks; --other-task compares them all the "
                "same"
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
