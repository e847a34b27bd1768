"""What a sweep has to know of the pipeline, read from `dvc.yaml` by DVC itself.

A worker of a sweep imports this module from its own clone.
"""

import os
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.yaml_reader import read_yaml

FETCH = "fetch"  # the stage that gets the data: DVC runs it, with the stages that it depends on
TRAIN = "train"  # the stage whose outputs, and the metrics after it, are the result of a point
PARAMS = "params.yaml"


class Stage(NamedTuple):
    """A stage to run for a point of a sweep."""

    name: str
    commands: list[str]
    folder: Path  # in which the commands run
    inputs: dict[str, Any]  # commands and parameters of the stage and of all upstream of it


class Pipeline(NamedTuple):
    """The stages of a point of a sweep, and the files that are its result."""

    stages: list[Stage]  # each after those it depends on
    metrics: dict[str, str]  # paths of the metrics of `train` and of the stages downstream of it
    checkpoints: dict[str, str]  # paths of the outputs of `train` in DVC's cache, by their stems
    sources: list[str]  # paths of the code and other files in git that the stages depend on
    tracked: list[str]  # paths of the .dvc files with data that no stage makes


def read_pipeline() -> Pipeline:
    """Return the pipeline of this folder with the parameters of its `params.yaml`.

    Its stages are `fetch`, `train`, all stages downstream of `train`, and all upstream of these,
    except those upstream of `fetch`. Raises `InputError` if `dvc.yaml` cannot be read, or has
    no such stage, or metrics that are not JSON.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph  # its edges lead from a stage to what it depends on
            depends_on = {stage: list(graph.successors(stage)) for stage in graph}
            order = list(TopologicalSorter(depends_on).static_order())
    except DvcException as error:
        raise InputError(f"dvc.yaml: {' '.join(str(error).split())}") from None
    by_name = {stage.addressing: stage for stage in order}
    for name in (FETCH, TRAIN):
        if name not in by_name:
            raise InputError(f"dvc.yaml: there is no stage {name}, which a sweep needs; add one")
    upstream: dict[Any, set[Any]] = {}  # of each stage, with itself
    for stage in order:
        upstream[stage] = {stage}.union(*(upstream[other] for other in depends_on[stage]))
    measured = [stage for stage in order if by_name[TRAIN] in upstream[stage]]
    required = set[Any]().union(*(upstream[stage] for stage in measured))
    run_by_dvc = upstream[by_name[FETCH]] - {by_name[FETCH]}
    values = read_yaml(Path(PARAMS))
    params = {stage: _params_of(stage, values) for stage in required - run_by_dvc}
    stages = [
        Stage(
            stage.addressing,
            [stage.cmd] if isinstance(stage.cmd, str) else list(stage.cmd or []),
            Path(stage.wdir),
            {
                other.addressing: [other.cmd, params[other]]
                for other in order
                if other in upstream[stage] and other in params
            },
        )
        for stage in order
        if stage in params
    ]
    return Pipeline(
        stages,
        _metrics_of(measured),
        {
            Path(out.fs_path).stem: _relative(out)
            for out in by_name[TRAIN].outs
            if out.use_cache and not out.metric and not out.plot
        },
        _sources_of(required),
        sorted(_dvc_file(stage) for stage in required if stage.is_data_source),
    )


def _relative(out: Any) -> str:
    """Return the path of an output or dependency, from here."""
    return os.path.relpath(str(out.fs_path))


def _params_of(stage: Any, values: Any) -> dict[str, Any]:
    """Return the parameters that a stage depends on, by dotted name."""
    params = {}
    for dependency in stage.deps:
        if _relative(dependency) != PARAMS:
            continue
        # A stage depends on some parameters, or on the whole file.
        for name in getattr(dependency, "params", None) or [""]:
            value = values
            for key in filter(None, name.split(".")):
                value = value.get(key) if isinstance(value, dict) else None
            params[name] = value
    return params


def _metrics_of(stages: list[Any]) -> dict[str, str]:
    metrics: dict[str, str] = {}
    for path in [_relative(out) for stage in stages for out in stage.outs if out.metric]:
        name = Path(path).stem
        if Path(path).suffix != ".json":
            raise InputError(f"dvc.yaml: the metrics {path} are not JSON; a sweep reads no others")
        if name in metrics:
            raise InputError(
                f"dvc.yaml: {metrics[name]} and {path} have the same name; rename one of them"
            )
        metrics[name] = path
    return metrics


def _dvc_file(stage: Any) -> str:
    """Return the path of the file that defines a stage, from here."""
    return os.path.relpath(str(stage.path))


def _sources_of(stages: set[Any]) -> list[str]:
    """Return the files in the project that no stage makes, except the parameters.

    In the place of data that DVC tracks, such as by `dvc add`, it is the .dvc file with their hash.
    """
    made = {Path(_relative(out)) for stage in stages for out in stage.outs}
    needed = {_relative(dep) for stage in stages for dep in stage.deps if dep.is_in_repo}
    needed = {path for path in needed if made.isdisjoint([Path(path), *Path(path).parents])}
    needed |= {_dvc_file(stage) for stage in stages if stage.is_data_source}
    return sorted(needed - {PARAMS})
