"""Train more replicas of two revisions, until it is known which of them is better.

  python -m fairtrial until-decided HEAD slower --max-replicas 20

Each revision is trained by `dvc repro` in a folder of its own under `.dvc/tmp`. It gets the data,
and what was trained before, from DVC's cache, and leaves there what it trains: the same command
again trains nothing twice. Nothing else of the project changes.
"""

import argparse
import contextlib
import io
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fairtrial.compare import add_output_arguments, print_result
from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import git_output, run_git
from fairtrial.project.scores import Array, Revision, load_scores
from fairtrial.project.scratch import run_command, scratch_folder, write_local_config
from fairtrial.project.seeds import derived_seed
from fairtrial.project.staleness import PARAMS
from fairtrial.statistics.comparison import (
    change_text,
    round_up,
    shared_metric,
    size_text,
)
from fairtrial.statistics.matching import has_same_examples
from fairtrial.statistics.sequential import MIN_DECISIVE, InterimResult, interim_results
from fairtrial.tables import params_table

MAX_REPLICAS = 100  # of each revision, unless the user says otherwise
MAX_BATCH = 100  # replicas that a project is asked for at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", metavar="A", help="a commit, branch, tag, experiment, workspace")
    parser.add_argument("other", metavar="B", help="is compared with A")
    parser.add_argument("--metric", metavar="NAME", help="(default: the first of the contract)")
    parser.add_argument(
        "--max-replicas",
        type=int,
        default=MAX_REPLICAS,
        metavar="N",
        help="of each revision (default: %(default)s)",
    )
    add_output_arguments(parser)


def main(args: argparse.Namespace) -> None:
    if args.max_replicas < MIN_DECISIVE:
        raise InputError(f"--max-replicas has to be {MIN_DECISIVE} or more: fewer decide nothing")
    first = load_scores(args.first)
    other = load_scores(args.other, first.split)
    name, metric = shared_metric([first, other], args.metric)
    result = train_until_decided(first, other, name, metric, args.max_replicas)
    verdict = describe(other.name, result, metric)
    low, high = result.interval
    values = {"first": first.name, "split": first.split, "metric": name, "name": other.name}
    values |= result._asdict() | {
        "low": low,
        "high": high,
        "outcome": result.outcome,
        "limited_by_examples": result.is_limited_by_examples,
        "required_examples": result.required_examples,
        "verdict": verdict,
    }
    print_result(args, values, [params_table([first, other], only_changed=True)], [verdict])
    if args.fail_if_worse and result.outcome == "worse":
        sys.exit(1)


def train_until_decided(
    first: Revision, other: Revision, name: str, metric: Metric, max_replicas: int
) -> InterimResult:
    """Return what is known about `other` minus `first` when no more replicas are trained.

    That is when one is better, when the examples are too noisy for more replicas to help, or when
    there are `max_replicas` of each. After each batch the result so far appears on stderr. The
    replicas of both have the same seeds, and begin with those of `first`. Raises `InputError` if
    a revision cannot be trained, or if the two are not scored on the same examples.
    """
    if not has_same_examples(first, other):
        raise InputError(
            f"{first.name} and {other.name} have other examples or labels in {first.split}, so "
            "their replicas cannot be pairs; `dvc exp run` one of them with the data of the other"
        )
    seed = first.seed
    if type(seed) is not int:
        raise InputError(f"{first.name}: {PARAMS}: {first.contract.seed} is not a whole number")
    scores: list[list[Array]] = [[], []]
    known: list[InterimResult] = []
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(exported(revision.name)) for revision in (first, other)]
        for batch_seed, size in batches(seed, first.replicas, max_replicas):
            for rows, revision, folder in zip(scores, (first, other), folders, strict=True):
                trained = train(revision, folder, batch_seed, size)
                if not has_same_examples(trained, first):
                    raise InputError(
                        f"{revision.name}: trained anew it has other examples in {first.split} "
                        "than its results; `dvc repro` there makes them again"
                    )
                rows.append(trained.scores[name])
            a, b = map(np.concatenate, scores)
            known = interim_results(a, b, metric.sign)
            decided = [result for result in known if result.outcome != "undecided"]
            last = decided[0] if decided else known[-1]
            shown = change_text(last.value, *last.interval, metric)
            print(f"{last.replicas} replicas of each: {shown}", file=sys.stderr, flush=True)
            if decided or last.is_limited_by_examples:
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
        yield derived_seed(seed, f"after {done}") if done else seed, size
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
    with scratch_folder("until-decided-") as folder:
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


def train(revision: Revision, folder: Path, seed: int, replicas: int) -> Revision:
    """Return the scores of a number of replicas of a revision, whose files are in `folder`.

    Raises `InputError` if it has no such parameters, or if a stage fails.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    contract = revision.contract
    overrides = [f"{contract.seed}={seed}", f"{contract.replicas}={replicas}"]
    try:
        apply_overrides(folder / PARAMS, overrides)
        run_command(sys.executable, "-m", "dvc", "repro", contract.stage, folder=folder)
        with contextlib.chdir(folder):
            return replace(load_scores("workspace", revision.split), name=revision.name)
    except (DvcException, InputError, RuntimeError) as error:
        message = str(error.__cause__ or error)
        raise InputError(f"{revision.name}, trained with {replicas} replicas: {message}") from None


def describe(name: str, result: InterimResult, metric: Metric) -> str:
    """Return in words whether the revision `name` is better, or why that is not known."""
    after = f"after {result.replicas} replicas of each"
    shown = change_text(result.value, *result.interval, metric)
    if result.outcome != "undecided":
        return f"{name} is {result.outcome} ({shown}), decided {after}"
    message = f"{name}: no difference shown {after} ({shown})"
    if result.is_identical:
        return f"{message}: each replica has the same scores in both"
    if not result.is_limited_by_examples:
        return f"{message}; a larger --max-replicas goes on from here"
    message += "; more replicas cannot help, because the examples are what limits"
    if result.required_examples is None:
        return message
    return (
        f"{message}: about {round_up(result.required_examples)} examples would be needed to see "
        f"{size_text(result.value, metric)}"
    )
