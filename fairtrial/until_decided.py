"""Train more replicas of two revisions, until it is known which of them is better.

Each revision is trained by `dvc repro` in a folder of its own under `.dvc/tmp`. It gets the data,
and what was trained before, from DVC's cache, and leaves there what it trains: the same command
again trains nothing twice. Nothing else of the project changes.
"""

import contextlib
import hashlib
import io
import json
import math
import shutil
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import has_same_images, round_up
from fairtrial.project.results import Revision, load_results
from fairtrial.project.revisions import git_output, run_git
from fairtrial.statistics.sequential import MIN_DECISIVE, Look, looks
from fairtrial.project.scratch import scratch_folder
from fairtrial.cluster.worker import run_command, write_local_config

SPLIT = "val"  # whoever chooses by test has no unbiased estimate left
MAX_BATCH = 100  # the largest train.replicas


def train_until_known(first: Revision, other: Revision, max_replicas: int) -> Look:
    """Return what is known about `other` minus `first` when no more replicas are trained.

    That is when one is better, when the images are too noisy for more replicas to help, or when
    there are `max_replicas` of each. How far it is appears on stderr after each batch. The
    replicas of both have the same seeds, and begin with those of `first`. Raises `InputError` if
    a revision cannot be trained, or if the two are not scored on the same images.
    """
    if not has_same_images(first, other):
        raise InputError(
            f"{first.name} and {other.name} have other images or labels in {SPLIT}, so their "
            "replicas cannot be pairs; `dvc exp run` one of them with sections fetch and prepare "
            "of the other"
        )
    seed = first.params.get("train.seed")
    if not isinstance(seed, int):
        raise InputError(f"{first.name}: params.yaml has no whole number train.seed; add it")
    correct: list[list[Any]] = [[], []]
    known: list[Look] = []
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(exported(revision.name)) for revision in (first, other)]
        for batch_seed, size in batches(seed, len(first.correct), max_replicas):
            results = [
                train(revision.name, folder, batch_seed, size)
                for revision, folder in zip((first, other), folders, strict=True)
            ]
            for rows, result in zip(correct, results, strict=True):
                if not np.array_equal(result.images, first.images):
                    raise InputError(
                        f"{result.name}: trained anew it has other images in {SPLIT} than its "
                        "results; `dvc repro` there makes them again"
                    )
                rows.append(result.correct)
            known = looks(*(np.concatenate(rows) for rows in correct))
            decided = [look for look in known if look.outcome != "undecided"]
            last = decided[0] if decided else known[-1]
            print(f"{last.replicas} replicas of each: {points(last)}", file=sys.stderr, flush=True)
            if decided or last.is_limited_by_images:
                return last
    return known[-1]


def batches(seed: int, first_size: int, total: int) -> Iterator[tuple[int, int]]:
    """Yield the seed and the number of replicas of each batch, `total` replicas in all.

    The first batch has `first_size` replicas, or as many as can be decisive: these are there
    already if nothing has changed. Each other is half of what was trained before it: DVC costs
    seconds a batch, and a batch that turns out to be larger than necessary costs trainings.
    """
    done, size = 0, max(first_size, MIN_DECISIVE)
    while done < total:
        size = min(size, total - done, MAX_BATCH)
        # Replicas of another seed are other replicas.
        digest = hashlib.sha256(f"{seed} after {done}".encode()).digest()
        yield int.from_bytes(digest[:4], "big") if done else seed, size
        done += size
        size = done // 2


@contextlib.contextmanager
def exported(revision: str) -> Iterator[Path]:
    """Yield a folder with the files that git has of a revision, and with the project's DVC cache.

    Of `workspace` it has the files as they are now, also those that are new.
    """
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    with Repo() as repo:
        cache = repo.cache.local_cache_dir
        commit = None if revision == "workspace" else resolve_rev(repo.scm, revision)
    with scratch_folder("until-known-") as folder:
        if commit:
            try:
                with tarfile.open(fileobj=io.BytesIO(git_output("archive", commit))) as files:
                    files.extractall(folder, filter="data")
            except tarfile.TarError as error:
                raise InputError(f"{revision}: {error}; remove that file or link there") from None
        else:
            listed = run_git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
            for path in map(Path, filter(None, listed.split("\0"))):
                if path.is_file():
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, folder / path)
        # To DVC the folder is in no git repository, so that it stages nothing in the user's.
        write_local_config(folder, folder / ".dvc/site-cache", cache, no_scm=True)
        # Data that the user tracks with `dvc add` is made by no stage.
        run_command(sys.executable, "-m", "dvc", "checkout", "--allow-missing", folder=folder)
        yield folder


def train(name: str, folder: Path, seed: int, replicas: int) -> Revision:
    """Return the results of so many replicas of the revision `name`, whose files are in `folder`.

    Raises `InputError` if it has no such parameters, or if a stage fails.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    try:
        apply_overrides(
            folder / "params.yaml", [f"train.seed={seed}", f"train.replicas={replicas}"]
        )
        run_command(sys.executable, "-m", "dvc", "repro", folder=folder)
        with contextlib.chdir(folder):
            return load_results("workspace", SPLIT)._replace(name=name)
    except (DvcException, InputError, RuntimeError) as error:
        message = str(error.__cause__ or error)
        raise InputError(f"{name}, trained with {replicas} replicas: {message}") from None


def points(look: Look) -> str:
    """Return the difference and its interval in percentage points."""
    low, high = look.interval
    return f"{100 * look.value:+.2f} points, 95 % CI {100 * low:.2f} to {100 * high:.2f}"


def describe(name: str, look: Look) -> str:
    """Return in words whether the revision `name` is better, or why that is not known."""
    after = f"after {look.replicas} replicas of each"
    if look.outcome != "undecided":
        return f"{name} is {look.outcome} ({points(look)}), decided {after}"
    message = f"{name}: no difference shown {after} ({points(look)})"
    if look.is_identical:
        return f"{message}: each replica gets the same images right in both"
    if not look.is_limited_by_images:
        return f"{message}; a larger --max-replicas goes on from here"
    message += "; more replicas cannot help, because the images are what limits"
    if look.required_images is None:
        return message
    return (
        f"{message}: about {round_up(look.required_images)} images would be needed to see "
        f"{100 * abs(look.value):.2g} points"
    )


def to_json(first: str, other: str, look: Look) -> str:
    """Return what is known as JSON; an infinite limit is null."""
    numbers = {
        key: None if isinstance(value, float) and math.isinf(value) else value
        for key, value in look._asdict().items()
    }
    low, high = look.interval
    return json.dumps(
        {
            "first": first,
            "split": SPLIT,
            "name": other,
            **numbers,
            "low": low,
            "high": high,
            "outcome": look.outcome,
            "limited_by_images": look.is_limited_by_images,
            "required_images": look.required_images,
            "verdict": describe(other, look),
        },
        indent=2,
    )
