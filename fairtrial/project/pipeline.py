"""What a sweep has to know of the pipeline, read from `dvc.yaml` by DVC itself.

A worker of a sweep imports this module from its own clone.
"""

import os
import re
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from fairtrial.project.contract import DVC_YAML, Contract, path_from_root, stage_definitions
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import flatten
from fairtrial.project.staleness import PARAMS
from fairtrial.project.yaml_reader import read_yaml


class Stage(NamedTuple):
    """A stage to run for a point of a sweep."""

    name: str
    commands: list[str]
    folder: Path  # in which the commands run
    outs: list[str]  # paths of what it makes; without those that it continues
    cached: list[str]  # paths of what it makes for DVC's cache
    inputs: dict[str, Any]  # commands and parameters of the stage and of all upstream of it


class Pipeline(NamedTuple):
    """The stages of a point of a sweep, and the files that they begin with."""

    stages: list[Stage]  # each after those it depends on; first perhaps the contract's `data`
    sources: list[str]  # paths of the code and other files in git that all points depend on
    templates: list[str]  # paths with parameters in them, such as ${fetch.source}
    made_by_template: list[str]  # the paths with parameters in them that stages make
    tracked: list[str]  # paths of the .dvc files with data that no stage makes

    def sources_of(self, values: dict[str, Any]) -> list[str]:
        """Return the paths that only points with these parameters depend on.

        values: the parameters by dotted name.
        """
        made = {fill(out, values) for out in self.made_by_template}
        paths = {fill(template, values) for template in self.templates}
        # What is not filled is an item of a loop, which DVC itself has resolved for `sources`.
        return sorted(path for path in paths if "${" not in path and not is_within(path, made))


def fill(template: str, values: dict[str, Any]) -> str:
    """Return a path of `dvc.yaml` with the values of its parameters."""

    def value(match: re.Match[str]) -> str:
        return str(values.get(match[1].strip(), match[0]))

    return os.path.normpath(re.sub(r"\$\{([^{}]*)\}", value, template))


def is_within(path: str, paths: set[str]) -> bool:
    """Return whether a path is one of `paths`, or lies in one of them."""
    return not paths.isdisjoint([path, *map(str, Path(path).parents)])


def read_pipeline(contract: Contract) -> Pipeline:
    """Return the pipeline of this folder with the parameters of its `params.yaml`.

    Its stages are those that make the scores and all upstream of these, except those upstream of
    the contract's `data`. Raises `InputError` if `dvc.yaml` cannot be read, or if a stage is
    missing.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            graph = repo.index.graph  # its edges lead from a stage to what it depends on
            depends_on = {stage: list(graph.successors(stage)) for stage in graph}
            order = list(TopologicalSorter(depends_on).static_order())
    except DvcException as error:
        raise InputError(f"{DVC_YAML}: {' '.join(str(error).split())}") from None
    upstream: dict[Any, set[Any]] = {}  # of each stage, with itself
    for stage in order:
        upstream[stage] = {stage}.union(*(upstream[other] for other in depends_on[stage]))
    scores = set(contract.scores)
    required = set[Any]()
    for stage in order:
        if made := scores.intersection(_from_here(out.fs_path) for out in stage.outs):
            required |= upstream[stage]
            scores -= made
    if scores:
        raise InputError(f"{DVC_YAML}: no stage makes {', '.join(sorted(scores))}; add it to outs")
    by_name = {stage.addressing: stage for stage in order}
    if contract.data and contract.data not in by_name:
        raise InputError(f"{DVC_YAML}: there is no stage {contract.data}, the contract's data")
    data = by_name[contract.data] if contract.data else None
    run_here = required - (upstream[data] - {data} if data else set())
    values = read_yaml(Path(PARAMS))
    params = {stage: _params_of(stage, values) for stage in run_here}
    raw = _raw_paths()
    made_anywhere = {_from_here(out.fs_path) for stage in required for out in stage.outs}
    return Pipeline(
        [
            Stage(
                stage.addressing,
                [stage.cmd] if isinstance(stage.cmd, str) else list(stage.cmd),
                Path(stage.wdir),
                [_from_here(out.fs_path) for out in stage.outs if not out.persist],
                [_from_here(out.fs_path) for out in stage.outs if out.use_cache],
                {
                    other.addressing: [other.cmd, params[other]]
                    for other in order
                    if other in upstream[stage] and other in params
                },
            )
            for stage in order
            if stage in run_here and stage.cmd
        ],
        _sources_of(required, made_anywhere, raw["deps"], values),
        raw["deps"],
        raw["outs"],
        sorted(_from_here(stage.path) for stage in required if stage.is_data_source),
    )


def _from_here(path: object) -> str:
    return os.path.relpath(str(path))


def _params_of(stage: Any, values: Any) -> list[Any]:
    """Return the parameters that a stage depends on: some by their names, or the whole file."""
    return [
        dep.read_params() if hasattr(dep, "read_params") else values
        for dep in stage.deps
        if _from_here(dep.fs_path) == PARAMS
    ]


def _raw_paths() -> dict[str, list[str]]:
    """Return the paths with parameters in them that stages of `dvc.yaml` depend on and make."""
    found: dict[str, set[str]] = {"deps": set(), "outs": set()}
    for stage in stage_definitions(Path(DVC_YAML).read_bytes(), DVC_YAML).values():
        body = stage.get("do", stage)  # of a loop
        for key in ("deps", "outs", "metrics", "plots"):
            for entry in body.get(key) or []:
                path = entry if isinstance(entry, str) else next(iter(entry))
                if "${" in path and "://" not in path:
                    found["deps" if key == "deps" else "outs"].add(path_from_root(body, path))
    return {key: sorted(paths) for key, paths in found.items()}


def _sources_of(stages: set[Any], made: set[str], templates: list[str], values: Any) -> list[str]:
    """Return the files in the project that no stage makes, except parameters and templates.

    In the place of data that DVC tracks, such as by `dvc add`, it is the .dvc file with their hash.
    """
    needed = {_from_here(dep.fs_path) for stage in stages for dep in stage.deps if dep.is_in_repo}
    flat = dict(flatten(values))
    needed -= {fill(template, flat) for template in templates}
    needed = {path for path in needed if not is_within(path, made)}
    needed |= {_from_here(stage.path) for stage in stages if stage.is_data_source}
    return sorted(needed - {PARAMS})
