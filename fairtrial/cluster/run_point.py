"""Run the stages of a point in the folder of a worker, and read its scores."""

import contextlib
import functools
import gc
import hashlib
import io
import json
import os
import re
import runpy
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairtrial.project.contract import DVC_YAML, Contract, parse_contract
from fairtrial.project.pipeline import Pipeline, Stage, read_pipeline
from fairtrial.project.revisions import flatten
from fairtrial.project.scores import parse_scores, splits_of
from fairtrial.project.scratch import run_captured, run_command
from fairtrial.project.staleness import PARAMS
from fairtrial.project.yaml_reader import read_yaml

STATES = "FAIRTRIAL_STATES"  # names the folder in which a training keeps its states
REFUSED = 2  # the exit status of a stage that refuses its input


class RefusedError(Exception):
    """A stage refuses the parameters; the message says why."""


def run_point(params: str, pull: bool, states: str | None) -> dict[str, Any]:
    """Run the stages of this folder that are not up to date; return metrics and MD5s.

    params, states: as `fairtrial.cluster.worker.compute` takes them.
    pull: whether to ask the DVC remote for data.

    Raises `RefusedError` if a stage refuses the parameters, and `RuntimeError` if one fails.
    """
    contract, pipeline = prepare_data(params, pull)
    os.environ.pop(STATES, None)
    if states:
        os.environ[STATES] = str(Path(states).absolute())
    results = set(contract.scores)
    for stage in pipeline.stages:
        if stage.name != contract.data:
            _run_if_changed(stage.name, stage.inputs, functools.partial(_run_stage, stage))
            results |= set(stage.cached)
    return {
        "metrics": _summaries(contract),
        "md5": {
            path: hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()
            for path in sorted(results)
            if Path(path).is_file()
        },
    }


def prepare_data(params: str, pull: bool) -> tuple[Contract, Pipeline]:
    """Write params.yaml and get the data of a point; return its contract and its pipeline.

    The data are what .dvc files track and what the contract's `data` stage makes. They come from
    DVC's cache, or with `pull` from the DVC remote, if there is one. The arguments are those of
    `run_point`. Raises `RuntimeError` if there are none.
    """
    from dvc.repo import Repo

    Path(PARAMS).write_text(params, encoding="utf-8")
    contract = parse_contract(Path(DVC_YAML).read_bytes(), "workspace")
    pipeline = read_pipeline(contract)
    inputs = [stage.inputs for stage in pipeline.stages if stage.name == contract.data]

    def run() -> None:
        with Repo() as repo:
            has_remote = pull and bool(repo.config["core"].get("remote"))
        dvc = sys.executable, "-m", "dvc"
        if pipeline.tracked:
            run_command(*dvc, "pull" if has_remote else "checkout", *pipeline.tracked)
        if contract.data:
            command = *dvc, "repro", *(["--pull"] if has_remote else []), contract.data
            try:
                run_command(*command)
            except RuntimeError as error:
                # Workers share DVC's cache of runs. One that reads an entry while another writes it
                # takes it for a broken one, and removes it under the other's hands.
                if not re.search(r"No such file or directory: '\S+/runs/\S+\.tmp'", str(error)):
                    raise
                run_command(*command)

    if inputs or pipeline.tracked:
        _run_if_changed("data", [pipeline.tracked, inputs], run)
    return contract, pipeline


def _summaries(contract: Contract) -> dict[str, dict[str, dict[str, Any]]]:
    """Return mean, standard deviation and counts of the scores, by split and metric."""
    params = dict(flatten(read_yaml(Path(PARAMS))))
    tables = {path: Path(path).read_bytes() for path in contract.scores}
    summaries: dict[str, dict[str, dict[str, Any]]] = {}
    for split in splits_of(tables):
        revision = parse_scores("workspace", split, tables, params, contract)
        summaries[split] = {}
        for metric, scores in revision.scores.items():
            means = scores.mean(1)
            summaries[split][metric] = {
                "mean": float(means.mean()),
                "sd": float(means.std(ddof=1)) if len(means) > 1 else None,
                "replicas": len(means),
                "n": scores.shape[1],
            }
    return summaries


def _run_if_changed(name: str, inputs: Any, run: Callable[[], None]) -> None:
    """Call `run`, unless its last call in this folder succeeded with the same inputs."""
    marker = Path(".dvc/tmp", f"{name.replace('/', ':')}.done")
    text = json.dumps(inputs, sort_keys=True, default=str)
    if not marker.exists() or marker.read_text(encoding="utf-8") != text:
        marker.unlink(missing_ok=True)
        run()
        marker.write_text(text, encoding="utf-8")


def _run_stage(stage: Stage) -> None:
    """Run a stage as DVC does; a Python module runs in this process and keeps its imports."""
    for path in map(Path, stage.outs):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for command in stage.commands:
        module = re.fullmatch(r"(?:exec )?python3? -m ([\w.]+)((?: [\w./=:,@%+-]+)*)", command)
        if module and stage.folder.samefile(Path.cwd()):
            status, out, err = _run_module(module[1], shlex.split(module[2]))
        else:
            done = run_captured(["sh", "-c", command], stage.folder)
            status, out, err = done.returncode, done.stdout, done.stderr
        refusals = [line for line in err.splitlines() if line.startswith(f"{PARAMS}: ")]
        if status == REFUSED and refusals:
            raise RefusedError("\n".join(refusals))
        if status != 0:
            lines = [*out.splitlines(), *err.splitlines()][-3:]
            raise RuntimeError("\n".join([f"stage {stage.name} failed", *lines]))


def _run_module(name: str, arguments: list[str]) -> tuple[int, str, str]:
    """Run a module as `python -m` does; return its exit status and what it has printed."""
    out, err = io.StringIO(), io.StringIO()
    argv, sys.argv = sys.argv, [name, *arguments]
    status = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            err.write(error.code)
    except Exception as error:
        status = 1
        err.write("".join(traceback.format_exception_only(error)))
    finally:
        sys.argv = argv
        # A module that was the only one of its process may have stopped the collection of garbage.
        gc.unfreeze()
        gc.enable()
    return status, out.getvalue(), err.getvalue()
