"""Whether results belong to the parameters, the code and the data beside them: ask `dvc.lock`."""

import hashlib
from pathlib import Path
from typing import Any

from fairtrial.project.contract import DVC_YAML, path_from_root
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import flatten

PARAMS = "params.yaml"
LOCK = "dvc.lock"


class Lock:
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
