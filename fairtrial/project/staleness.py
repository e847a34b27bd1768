"""Whether results belong to the parameters, the code and the data beside them: ask `dvc.lock`."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from fairtrial.project.contract import DVC_YAML, Contract, path_from_root
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import NO_GIT, flatten

PARAMS = "params.yaml"
LOCK = "dvc.lock"


def locked_hashes(
    lock: dict[str, Any], definitions: dict[str, dict[str, Any]], key: str
) -> dict[str, dict[str, str | None]]:
    """Return the MD5s of what each stage read or made, by their paths.

    definitions: of the stages in `dvc.yaml`; key: `deps` or `outs`.
    """
    return {
        stage: {path_from_root(folder, one["path"]): one.get("md5") for one in entry.get(key, [])}
        for stage, entry in lock["stages"].items()
        for folder in [definitions.get(stage.partition("@")[0], {})]
    }


def refuse_stale(
    name: str,
    contract: Contract,
    definitions: dict[str, dict[str, Any]],
    lock: dict[str, Any],
    params: dict[str, Any],
    tables: dict[str, bytes],
) -> None:
    """Raise `InputError` if tables of scores were not made of what a revision has.

    definitions: of the stages in `dvc.yaml`; params: by dotted name; tables: by their paths.
    """

    def refuse(problem: str) -> NoReturn:
        raise InputError(f"{name}: {problem}; `dvc repro` there makes its results again")

    try:
        read, made = (locked_hashes(lock, definitions, key) for key in ("deps", "outs"))
        used: dict[str, Any] = {}  # the parameters of each stage
        makers: dict[str, set[str]] = {}  # of each path, and of what lies in it
        for stage, entry in lock["stages"].items():
            folder = definitions.get(stage.partition("@")[0], {})
            for path in made[stage]:
                for place in (path, *map(str, PurePosixPath(path).parents)):
                    makers.setdefault(place, set()).add(stage)
            for path, values in entry.get("params", {}).items():
                if path_from_root(folder, path) == PARAMS:
                    used[stage] = values
        upstream = [contract.stage]
        changed: set[str] = set()
        for stage in upstream:  # which grows
            for path, md5 in read[stage].items():
                sources = set(makers.get(path, ()))
                for place in (path, *map(str, PurePosixPath(path).parents)):
                    sources |= {maker for maker in makers.get(place, ()) if place in made[maker]}
                if any(made[maker].get(path, md5) != md5 for maker in sources):
                    refuse(f"{LOCK} has another {path} than its stage {stage} read")
                upstream += sorted(sources.difference(upstream))
            locked = flatten(used.get(stage, {}))
            changed |= {key for key, value in locked if params.get(key, value) != value}
        if changed:
            refuse(
                f"{PARAMS} has another {', '.join(sorted(changed))} than its results were made with"
            )
        for path, content in tables.items():
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if made[contract.stage][path] != md5:
                refuse(f"{path} is not the table that {LOCK} says stage {contract.stage} made")
        if name == "workspace":
            for path in _changed_files(upstream):
                refuse(f"{path} has changed since its results were made")
    except (AttributeError, KeyError, TypeError, ValueError):
        refuse(f"{LOCK} does not say what the scores of stage {contract.stage} were made of")


def _changed_files(stages: list[str]) -> list[str]:
    """Return the files of the workspace that these stages read, no stage made, and have changed."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo() as repo:
            # Parameters are compared value by value, since a comment changes no result.
            known = {Path(out.fs_path) for stage in repo.index.stages for out in stage.outs}
            known.add(Path(repo.root_dir, PARAMS))
            return [
                path
                for stage in repo.index.stages
                if stage.addressing in stages
                for file in stage.deps
                if not known.intersection([Path(file.fs_path), *Path(file.fs_path).parents])
                for path in file.workspace_status()
            ]
    except SCMError:
        raise InputError(NO_GIT) from None
    except DvcException as error:
        raise InputError(f"{DVC_YAML}: {' '.join(str(error).split())}") from None
