"""Read the results of a revision from its files."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fairtrial.project.errors import InputError
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.project.revisions import flatten, read_files
from fairtrial.statistics.significance import Array

PREDICTIONS = "metrics/predictions.csv"
METRICS = "metrics/evaluate.json"
CHECKPOINT = "data/checkpoints/model.safetensors"  # of `stages.learning`, which imports torch


class Revision(NamedTuple):
    """The results of a revision on a split of N images, for its model and the R - 1 others."""

    name: str
    images: Array  # object (N, 2): the image's index in its raw split, and the name of its class
    correct: Array  # bool (R, N): whether each replica gets each image right; first the model
    params: dict[str, Any]  # by dotted name
    data_md5: str  # of the split's tensor file


def default_revisions() -> list[str]:
    """Return HEAD and the workspace, or only one: if they are equal, or if HEAD has no results."""
    paths = "params.yaml", "dvc.lock", PREDICTIONS
    current = read_files("workspace", *paths)
    try:
        committed = read_files("HEAD", *paths)
    except InputError:
        return ["workspace"]
    return ["HEAD"] if committed == current else ["HEAD", "workspace"]


def load_results(name: str, split: str) -> Revision:
    """Return the results of a revision on a split, `val` or `test`.

    Raises `InputError` if a file is missing or broken, or if the results were made with other
    parameters than those of the revision, or of another model than that of its `dvc.lock`.
    """
    if name == "workspace":
        _refuse_running()
    paths = PREDICTIONS, METRICS, "params.yaml", "dvc.lock"
    predictions, metrics, *texts = read_files(name, *paths)
    table = parse_predictions(predictions, parse_classes(metrics, name), name)
    table = table[table["split"] == split].sort_values("index")
    if table.empty:
        raise InputError(
            f"{name}: {PREDICTIONS} has no image of {split}; `dvc repro` there makes it again"
        )
    params, lock = (
        _parse_mapping(text, f"{name}: {path}")
        for text, path in zip(texts, ("params.yaml", "dvc.lock"), strict=True)
    )
    path = f"data/prepared/{split}.safetensors"
    try:
        outs = lock["stages"]["prepare"]["outs"]
        [data_md5] = [out["md5"] for out in outs if out["path"] == path]
        used = _used_params(lock)
        _refuse_half_run(name, lock)
        if name == "workspace":
            _refuse_stale(lock)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{name}: dvc.lock does not say which {path} its results are of; "
            "`dvc repro` there records it"
        ) from None
    values = dict(flatten(params))
    if changed := [key for key, value in used.items() if values.get(key, value) != value]:
        raise InputError(
            f"{name}: params.yaml has another {', '.join(changed)} than its results were made "
            "with; `dvc repro` there makes them again"
        )
    replicas = [column for column in table if column.startswith("replica_")]
    correct = table["label"].to_numpy() == table[["predicted", *replicas]].to_numpy().T
    return Revision(name, table[["index", "label"]].to_numpy(), correct, values, data_md5)


def _refuse_half_run(name: str, lock: dict[str, Any]) -> None:
    """Raise `InputError` if a stage ran again and one after it did not, as by `dvc repro train`."""
    made: dict[str, str | None] = {}
    for stage in lock["stages"].values():
        made |= {out["path"]: out.get("md5") for out in stage.get("outs", [])}
    for name_of_stage, stage in lock["stages"].items():
        for dep in stage.get("deps", []):
            if dep.get("md5") != made.get(dep["path"], dep.get("md5")):
                raise InputError(
                    f"{name}: dvc.lock has another {dep['path']} than its stage {name_of_stage} "
                    "read; `dvc repro` there runs that stage again"
                )


def _refuse_stale(lock: dict[str, Any]) -> None:
    """Raise `InputError` if code or data card of the folder are not those of the results."""
    for stage in lock["stages"].values():
        for dep in stage.get("deps", []):
            path = Path(dep["path"])
            # params.yaml is compared value by value, since a comment changes no result.
            if path.suffix not in (".py", ".yaml") or path == Path("params.yaml"):
                continue
            content = path.read_bytes() if path.is_file() else b""
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != dep["md5"]:
                raise InputError(
                    f"workspace: {path} has changed since its results were made; "
                    "`dvc repro` makes them again"
                )


def _refuse_running() -> None:
    """Raise `InputError` if DVC runs a stage in this folder, whose results are half old."""
    if pids := sorted(locked_outputs().values()):
        raise InputError(
            f"workspace: DVC is running a stage here (process {pids[0]}); wait for its end"
        )


def locked_outputs() -> dict[str, int]:
    """Return the process that DVC lets write each output of the stage that it runs in this folder.

    The keys are paths from the root. Without such a stage there is none.
    """
    try:
        locks = json.loads(Path(".dvc/tmp/rwlock").read_text(encoding="utf-8"))["write"]
        pids = {path: int(lock["pid"]) for path, lock in locks.items()}
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return {}  # DVC has not locked anything
    return {path: pid for path, pid in pids.items() if Path(f"/proc/{pid}").exists()}


def load_predictions(name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the predictions of a revision, as `parse_predictions` does, and its classes."""
    predictions, metrics = read_files(name, PREDICTIONS, METRICS)
    classes = parse_classes(metrics, name)
    return parse_predictions(predictions, classes, name), classes


def parse_classes(content: bytes, name: str) -> list[str]:
    """Return the names of the classes in `metrics/evaluate.json` of the revision `name`.

    Raises `InputError` if it has none.
    """
    try:
        recall = json.loads(content)["val"]["recall"]
        # Before classes had names, it was a list.
        return list(map(str, range(len(recall)))) if isinstance(recall, list) else list({**recall})
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {METRICS} names no classes ({error!r}); `dvc repro` there makes it again"
        ) from None


def parse_predictions(content: bytes, classes: list[str], name: str) -> pd.DataFrame:
    """Return the table `metrics/predictions.csv` of the revision `name`, a row an image.

    classes: their names. The columns are split (str), index (int64), the names of classes label,
    predicted, replica_1, replica_2, ... (str) and confidence (float64, from 0 to 1). Raises
    `InputError` if one of them is missing or has another value, or if an image has several rows.
    """
    remedy = "`dvc repro` there makes it again"
    try:
        # As text, so that a class may be called NA or 007.
        table = pd.read_csv(io.BytesIO(content), dtype=str, na_filter=False)
    except ValueError as error:
        problem = " ".join(str(error).split())
        raise InputError(f"{name}: {PREDICTIONS} cannot be read ({problem}); {remedy}") from None
    if missing := sorted({"split", "index", "label", "predicted"} - set(table)):
        raise InputError(f"{name}: {PREDICTIONS} has no column {', '.join(missing)}; {remedy}")
    replicas = [column for column in table if column.startswith("replica_")]
    for column in ("label", "predicted", *replicas):
        if not table[column].isin(classes).all():
            raise InputError(
                f"{name}: {PREDICTIONS} has another value than a class in its column {column}; "
                f"{remedy}"
            )
    table["index"] = pd.to_numeric(table["index"], errors="coerce")
    if not pd.api.types.is_integer_dtype(table["index"]):
        raise InputError(
            f"{name}: {PREDICTIONS} has another value than a whole number in its column index; "
            f"{remedy}"
        )
    if (repeated := table.duplicated(["split", "index"])).any():
        split, index = table.loc[repeated, ["split", "index"]].iloc[0]
        raise InputError(f"{name}: {PREDICTIONS} has image {index} of {split} twice; {remedy}")
    confidence = pd.to_numeric(table.get("confidence", pd.Series()), errors="coerce")
    if "confidence" not in table or not confidence.between(0, 1).all():
        raise InputError(f"{name}: {PREDICTIONS} has no confidences from 0 to 1; {remedy}")
    return table.assign(confidence=confidence)


def _parse_mapping(content: bytes, name: str) -> dict[str, Any]:
    """Return the value of a YAML file; raises `InputError` if it is not a mapping."""
    try:
        value = parse_yaml(content.decode(), name)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text ({error}); `dvc repro` needs it so") from None
    if not isinstance(value, dict):
        raise InputError(f"{name} has no sections; restore it by `git checkout` and `dvc repro`")
    return value


def _used_params(lock: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that dvc.lock says the results were made with, by dotted name."""
    used: dict[str, Any] = {}
    for stage in lock["stages"].values():
        used |= stage.get("params", {}).get("params.yaml", {})
    return dict(flatten(used))
