"""Read the scores of a revision: a number for each example, metric and replica.

The tables that the contract names are CSV with a header and a row for each example and split:

    split,example,label,accuracy.0,accuracy.1,squared_error.0,squared_error.1

`example` identifies the example within its split. `group` and `label` are optional.
"""

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairtrial.project.contract import (
    DVC_YAML,
    Contract,
    parse_contract,
    path_from_root,
    stage_definitions,
)
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import flatten, locked_outputs, read_files
from fairtrial.project.yaml_reader import parse_yaml

Array = np.ndarray[Any, Any]

PARAMS = "params.yaml"
LOCK = "dvc.lock"
TEXTS = "split", "example", "group", "label"  # the columns that are not numbers
MAX_NAMED = 10  # splits or columns in a message


@dataclass(frozen=True, eq=False)
class Revision:
    """The scores of a revision on a split of N examples, in the order of their identities."""

    name: str
    split: str
    examples: Array  # object (N,): their identities
    labels: Array | None  # object (N,)
    groups: Array | None  # object (N,)
    scores: dict[str, Array]  # float64 (R, N) for each metric: by replica and example
    params: dict[str, Any]  # by dotted name
    contract: Contract

    @property
    def replicas(self) -> int:
        """R."""
        return len(next(iter(self.scores.values())))

    @property
    def seed(self) -> Any:
        """The parameter that, with its number, decides what a replica is."""
        return self.params.get(self.contract.seed)


def default_revisions() -> list[str]:
    """Return HEAD and the workspace, or only one: if they are equal, or if HEAD has no scores."""
    [definition] = read_files("workspace", DVC_YAML)
    paths = DVC_YAML, PARAMS, LOCK, *parse_contract(definition, "workspace").scores
    current = read_files("workspace", *paths)
    try:
        committed = read_files("HEAD", *paths)
    except InputError:
        return ["workspace"]
    return ["HEAD"] if committed == current else ["HEAD", "workspace"]


def load_scores(name: str, split: str | None = None, contract: Contract | None = None) -> Revision:
    """Return the scores of a revision on a split, by default that of the contract.

    contract: the revision's own unless given.

    Raises `InputError` if a file is missing or broken, or if the scores were not made with the
    parameters, the code and the results of earlier stages that the revision has.
    """
    if name == "workspace" and (pids := sorted(locked_outputs().values())):
        raise InputError(
            f"workspace: DVC is running a stage here (process {pids[0]}); wait for its end"
        )
    definition, *texts = read_files(name, DVC_YAML, PARAMS, LOCK)
    contract = contract or parse_contract(definition, name)
    params, lock = (
        _parse_mapping(text, f"{name}: {path}")
        for text, path in zip(texts, (PARAMS, LOCK), strict=True)
    )
    values = dict(flatten(params))
    contents = read_files(name, *contract.scores)
    try:
        locked = _Lock(contract.stage, stage_definitions(definition, DVC_YAML), lock)
        locked.refuse_half_run(name)
        locked.refuse_other_params(name, values)
        locked.refuse_other_scores(name, dict(zip(contract.scores, contents, strict=True)))
        if name == "workspace":
            locked.refuse_other_code()
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{name}: {LOCK} does not say what the scores of stage {contract.stage} were made of; "
            "`dvc repro` there records it"
        ) from None
    tables = [
        parse_scores(content, f"{name}: {path}", contract, values)
        for path, content in zip(contract.scores, contents, strict=True)
    ]
    return _select(name, split or contract.split, tables, contract, values)


def parse_scores(
    content: bytes, place: str, contract: Contract, params: dict[str, Any]
) -> pd.DataFrame:
    """Return a table of scores, a row for each example and split.

    place: the revision and the path, for messages; params: by dotted name.

    Raises `InputError` if the table has another number of replicas than `params`, or another value
    than a finite number in a column of scores.
    """
    remedy = "`dvc repro` there makes it again"
    replicas = params.get(contract.replicas)
    if type(replicas) is not int or replicas < 1:
        raise InputError(
            f"{place}: {contract.replicas} in {PARAMS} has to be a whole number from 1, "
            f"and is {replicas!r}; it is the number of replicas"
        )
    header = _check_rows(content, place)
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise InputError(f"{place} has several columns {', '.join(repeated)}; {remedy}")
    if missing := [column for column in TEXTS[:2] if column not in header]:
        raise InputError(f"{place} has no column {', '.join(missing)}; {remedy}")
    numbers: list[str] = []
    for metric in contract.metrics:
        columns = [name for name in header if name.rpartition(".")[0] == metric]
        # The number first: that in params.yaml may be anything.
        if len(columns) != replicas or any(f"{metric}.{r}" not in columns for r in range(replicas)):
            found = ", ".join(columns[:MAX_NAMED]) or "none of them"
            raise InputError(
                f"{place} needs the columns {metric}.0 to {metric}.{replicas - 1}, because "
                f"{contract.replicas} is {replicas}, and it has {found}; {remedy}"
            )
        numbers += columns
    texts = [column for column in header if column in TEXTS]
    try:
        table = pd.read_csv(
            io.BytesIO(content),
            usecols=[*texts, *numbers],
            dtype={**dict.fromkeys(texts, str), **dict.fromkeys(numbers, np.float64)},
            na_filter=False,  # so that an example may be called NA
            index_col=False,
            encoding="utf-8-sig",
        )
    except ValueError as error:
        problem = _not_a_number(content, place, numbers) or _unreadable(place, error)
        raise InputError(problem) from None
    if not np.isfinite(table[numbers].to_numpy()).all():
        raise InputError(str(_not_a_number(content, place, numbers)))
    return table


def _check_rows(content: bytes, place: str) -> list[str]:
    """Return the header; raises `InputError` if a row has another number of values than it."""
    try:
        rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))
        header = next(rows, [])
        for row in rows:
            if row and len(row) != len(header):
                raise InputError(
                    f"{place}: line {rows.line_num}: has {len(row)} values for {len(header)} "
                    "columns; `dvc repro` there makes it again"
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(_unreadable(place, error)) from None
    return header


def _not_a_number(content: bytes, place: str, columns: list[str]) -> str | None:
    """Return a sentence about the first value in these columns that is not a finite number."""
    rows = csv.DictReader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))
    for row in rows:
        for column in columns:
            try:
                is_finite = bool(np.isfinite(float(row[column])))
            except ValueError:
                is_finite = False
            if not is_finite:
                return (
                    f"{place}: line {rows.line_num}: {row[column]!r} in column {column} is not "
                    "a finite number; `dvc repro` there makes it again"
                )
    return None


def _unreadable(place: str, error: Exception) -> str:
    problem = " ".join(str(error).split())
    return f"{place} cannot be read ({problem}); `dvc repro` there makes it again"


def _select(
    name: str,
    split: str,
    tables: list[pd.DataFrame],
    contract: Contract,
    params: dict[str, Any],
) -> Revision:
    """Return the scores on one split; raises `InputError` if it has no example, or one twice."""
    paths = " and ".join(contract.scores)
    if len({tuple(sorted(set(table) & set(TEXTS))) for table in tables}) > 1:
        raise InputError(f"{name}: {paths} have other columns; write the same into all of them")
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    splits = table["split"].unique()
    table = table[table["split"] == split].sort_values("example", kind="stable")
    if table.empty:
        known = ", ".join(map(str, splits[:MAX_NAMED])) or "none"
        raise InputError(f"{name}: {paths} has no example of split '{split}'; it has {known}")
    if (repeated := table["example"].duplicated()).any():
        example = table.loc[repeated, "example"].iloc[0]
        raise InputError(
            f"{name}: {paths} has example {example} of {split} twice; give each an identity of its "
            "own"
        )
    scores = {
        metric: np.ascontiguousarray(
            table[[f"{metric}.{r}" for r in range(params[contract.replicas])]].to_numpy().T
        )
        for metric in contract.metrics
    }
    examples, labels, groups = (
        table[column].to_numpy(dtype=object) if column in table else None
        for column in ("example", "label", "group")
    )
    assert examples is not None  # `parse_scores` has seen the column
    return Revision(name, split, examples, labels, groups, scores, params, contract)


class _Lock:
    """What `dvc.lock` says about a stage and all stages upstream of it."""

    def __init__(
        self, stage: str, definitions: dict[str, dict[str, Any]], lock: dict[str, Any]
    ) -> None:
        """Raise `KeyError` if the lock does not have the stage; paths become those from the root.

        definitions: of the stages in `dvc.yaml`, which has the folders that they run in.
        """
        # By the names of stages: the MD5s of what each read and made, and its parameters.
        self.read: dict[str, dict[str, str | None]] = {}
        self.made: dict[str, dict[str, str | None]] = {}
        self.params: dict[str, dict[str, Any]] = {}
        for name, entry in lock["stages"].items():
            definition = definitions.get(name.partition("@")[0], {})
            for key, hashes in (("deps", self.read), ("outs", self.made)):
                hashes[name] = {
                    path_from_root(definition, one["path"]): one.get("md5")
                    for one in entry.get(key, [])
                }
            files = entry.get("params", {}).items()
            used = [values for path, values in files if path_from_root(definition, path) == PARAMS]
            self.params[name] = dict(flatten(used[0])) if used else {}
        self.stage = stage
        self.makers = {path: name for name, made in self.made.items() for path in made}
        self.upstream = {stage}
        todo = [stage]
        while todo:
            makers = {self.makers.get(path) for path in self.read[todo.pop()]} - self.upstream
            todo += [maker for maker in makers if maker]
            self.upstream.update(todo)

    def refuse_half_run(self, name: str) -> None:
        """Raise `InputError` if a stage ran again and one after it did not, as by `dvc repro X`."""
        for stage in sorted(self.upstream):
            for path, md5 in self.read[stage].items():
                if path in self.makers and self.made[self.makers[path]][path] != md5:
                    raise InputError(
                        f"{name}: {LOCK} has another {path} than its stage {stage} read; "
                        "`dvc repro` there runs that stage again"
                    )

    def refuse_other_params(self, name: str, values: dict[str, Any]) -> None:
        """Raise `InputError` if parameters have changed since the scores were made."""
        changed = {
            key
            for stage in self.upstream
            for key, value in self.params[stage].items()
            if values.get(key, value) != value
        }
        if changed:
            raise InputError(
                f"{name}: {PARAMS} has another {', '.join(sorted(changed))} than its results were "
                "made with; `dvc repro` there makes them again"
            )

    def refuse_other_scores(self, name: str, contents: dict[str, bytes]) -> None:
        """Raise `InputError` if a table is not the one that the stage made."""
        for path, content in contents.items():
            if (
                hashlib.md5(content, usedforsecurity=False).hexdigest()
                != self.made[self.stage][path]
            ):
                raise InputError(
                    f"{name}: {path} is not the table that {LOCK} says stage {self.stage} made; "
                    "`dvc repro` there makes it again"
                )

    def refuse_other_code(self) -> None:
        """Raise `InputError` if a file of the workspace that no stage makes has changed."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo() as repo:
                # Parameters are compared value by value, since a comment changes no result.
                made = {str(out.fs_path) for stage in repo.index.stages for out in stage.outs}
                made.add(str(Path(repo.root_dir, PARAMS)))
                changed = [
                    path
                    for stage in repo.index.stages
                    if stage.addressing in self.upstream
                    for dependency in stage.deps
                    if not made.intersection(
                        map(str, [dependency.fs_path, *Path(dependency.fs_path).parents])
                    )
                    for path in dependency.workspace_status()
                ]
        except DvcException as error:
            raise InputError(f"{DVC_YAML}: {' '.join(str(error).split())}") from None
        if changed:
            raise InputError(
                f"workspace: {changed[0]} has changed since its results were made; "
                "`dvc repro` makes them again"
            )


def _parse_mapping(content: bytes, place: str) -> dict[str, Any]:
    """Return the value of a YAML file; raises `InputError` if it is not a mapping."""
    value = parse_yaml(content, place)
    if not isinstance(value, dict):
        raise InputError(f"{place} has no sections; restore it by `git checkout` and `dvc repro`")
    return value
