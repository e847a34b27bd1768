"""Read the scores of a revision: a number for each example, metric and replica.

The tables that the contract names are CSV with a header and a row for each example and split:

    split,example,label,accuracy.0,accuracy.1,squared_error.0,squared_error.1

`example` identifies the example within its split. `group` and `label` are optional.
"""

import contextlib
import csv
import io
import math
from array import array
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fairtrial.project.contract import DVC_YAML, Contract, parse_contract, stage_definitions
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import flatten, read_files, refuse_locked
from fairtrial.project.staleness import LOCK, PARAMS, refuse_stale
from fairtrial.project.yaml_reader import parse_mapping

Array = np.ndarray[Any, Any]

REMEDY = "`dvc repro` there makes it again"
TEXTS = "split", "example", "label", "group"  # the columns that are not numbers
MAX_REPLICAS = 10_000
MAX_SCORE = 1e100  # whose square is finite
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
        return len(self.scores[self.contract.default_metric])

    @property
    def seed(self) -> Any:
        """The parameter that makes, together with its number, a replica what it is."""
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
    if name == "workspace":
        refuse_locked()
    definition, values, lock_file = read_files(name, DVC_YAML, PARAMS, LOCK)
    contract = contract or parse_contract(definition, name)
    params = dict(flatten(parse_mapping(values, f"{name}: {PARAMS}")))
    lock = parse_mapping(lock_file, f"{name}: {LOCK}")
    tables = dict(zip(contract.scores, read_files(name, *contract.scores), strict=True))
    refuse_stale(name, contract, stage_definitions(definition, DVC_YAML), lock, params, tables)
    return parse_scores(name, split or contract.split, tables, params, contract)


def select(revision: Revision, condition: str) -> Revision:
    """Return the scores on the examples with one label or group, such as label=7.

    Raises `InputError` if there is no such column or example.
    """
    column, _, value = condition.partition("=")
    values = {"label": revision.labels, "group": revision.groups}.get(column)
    if values is None:
        raise InputError(
            f"{revision.name}: --slice {condition}: the table of scores has no column '{column}' "
            "to select by; write label=VALUE or group=VALUE"
        )
    mask = values == value
    if not mask.any():
        known = sorted(set(values))
        shown = ", ".join(known[:MAX_NAMED]) + (" ..." if len(known) > MAX_NAMED else "")
        raise InputError(
            f"{revision.name}: --slice {condition}: no example has that {column}; known: {shown}"
        )
    return replace(
        revision,
        examples=revision.examples[mask],
        labels=None if revision.labels is None else revision.labels[mask],
        groups=None if revision.groups is None else revision.groups[mask],
        scores={name: scores[:, mask] for name, scores in revision.scores.items()},
    )


def parse_scores(
    name: str, split: str, tables: dict[str, bytes], params: dict[str, Any], contract: Contract
) -> Revision:
    """Return the scores on a split from the contents of tables, by their paths.

    Raises `InputError` if a table cannot be read, has another number of replicas than `params`, or
    another value than a number in a column of scores; or if the split has no example, or
    one twice.
    """
    replicas = params.get(contract.replicas)
    if type(replicas) is not int or not 1 <= replicas <= MAX_REPLICAS:
        raise InputError(
            f"{name}: {PARAMS}: {contract.replicas}, the number of replicas, has to be a whole "
            f"number from 1 to {MAX_REPLICAS:,}, and is {replicas!r}"
        )
    texts: list[list[str | None]] = []  # for each example: its identity, label and group
    numbers = array("d")  # and its scores, metric by metric
    splits: dict[str, None] = {}
    for path, content in tables.items():
        place = f"{name}: {path}"
        try:
            rows = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""))
            header = next(rows, [])
            of_scores = _score_positions(header, place, replicas, contract)
            of_split = header.index("split")
            of_texts = [header.index(name) if name in header else None for name in TEXTS[1:]]
            for row in filter(None, rows):
                if len(row) != len(header):
                    raise InputError(
                        f"{place}: line {rows.line_num}: has {len(row)} values for {len(header)} "
                        f"columns; {REMEDY}"
                    )
                if len(splits) < MAX_NAMED:
                    splits[row[of_split]] = None
                if row[of_split] == split:
                    texts.append([None if at is None else row[at] for at in of_texts])
                    numbers.extend(_number(row[at], place, rows.line_num) for at in of_scores)
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{place}: cannot be read ({error}); {REMEDY}") from None
    paths = " and ".join(tables)
    if not texts:
        known = ", ".join(splits) or "none"
        raise InputError(f"{name}: {paths}: no example of split '{split}'; known splits: {known}")
    examples, labels, groups = np.array(texts, dtype=object).T
    order = np.argsort(examples, kind="stable")
    same = np.flatnonzero(examples[order][1:] == examples[order][:-1])
    if len(same):
        raise InputError(
            f"{name}: {paths}: example {examples[order][same[0]]} of {split} is there twice; give "
            "each example an identity of its own"
        )
    table = np.array(numbers).reshape(len(texts), len(contract.metrics), replicas)
    scores = dict(zip(contract.metrics, table[order].transpose(1, 2, 0).copy(), strict=True))
    labels, groups = (None if None in one else one[order] for one in (labels, groups))
    return Revision(name, split, examples[order], labels, groups, scores, params, contract)


def _score_positions(header: list[str], place: str, replicas: int, contract: Contract) -> list[int]:
    """Return where the scores are in a row, metric by metric and replica by replica.

    Raises `InputError` if the header lacks a column, or has one twice.
    """
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise InputError(f"{place}: several columns {', '.join(repeated)}; {REMEDY}")
    if missing := [column for column in TEXTS[:2] if column not in header]:
        raise InputError(f"{place}: no column {', '.join(missing)}; {REMEDY}")
    positions: list[int] = []
    for metric in contract.metrics:
        columns = [f"{metric}.{replica}" for replica in range(replicas)]
        found = [name for name in header if name.rpartition(".")[0] == metric]
        if sorted(found) != sorted(columns):
            raise InputError(
                f"{place}: needs the columns {columns[0]} to {columns[-1]}, because "
                f"{contract.replicas} is {replicas}, and has "
                f"{', '.join(found[:MAX_NAMED]) or 'none of them'}; {REMEDY}"
            )
        positions += map(header.index, columns)
    return positions


def _number(text: str, place: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_SCORE:
        raise InputError(
            f"{place}: line {line}: {text!r} is not a number of at most {MAX_SCORE}; {REMEDY}"
        )
    return value


def splits_of(tables: dict[str, bytes]) -> list[str]:
    """Return the names of the splits in tables of scores, in their order."""
    splits: dict[str, None] = {}
    for content in tables.values():
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="", errors="replace")
        with contextlib.suppress(csv.Error):  # `parse_scores` says what is wrong
            splits.update((row["split"], None) for row in csv.DictReader(text) if row.get("split"))
    return list(splits)
