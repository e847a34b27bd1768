"""The project as it stands in the working tree, with its own parameters, stages and results."""

import contextlib
import subprocess
from typing import Any

import pytest
from ruamel.yaml import YAML

from fairtrial.project import errors
from fairtrial.project.scores import load_scores
from tests.helpers.project import ROOT, Project, copy_of_the_working_tree


def read(name: str) -> Any:
    return YAML(typ="safe").load(ROOT / name)


STAGES: dict[str, dict[str, Any]] = read("dvc.yaml")["stages"]


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of the working tree, committed, with the data that DVC tracks."""
    project = copy_of_the_working_tree(tmp_path_factory.mktemp("own") / "project")
    project.commit("as it is")
    if tracked := project.run("git", "ls-files", "*.dvc").stdout.split("\n")[:-1]:
        cache = subprocess.check_output(["dvc", "cache", "dir"], cwd=ROOT, text=True).strip()
        project.run("dvc", "remote", "add", "--local", "--default", "cache-here", cache)
        try:
            project.run("dvc", "pull", "--quiet", *tracked)
        except AssertionError as error:
            pytest.skip(f"the data of {', '.join(tracked)} are not here; `dvc pull` ({error})")
    return project


@pytest.fixture(scope="session")
def stale(own: Project) -> str:
    """Why the results are not those of the parameters, code and data; empty if they are."""
    with contextlib.chdir(own.path):
        try:
            load_scores("workspace")
        except errors.InputError as error:
            return str(error)
    return ""


@pytest.fixture(scope="session")
def reproduced_own(own: Project, stale: str) -> Project:
    """The same after a run of all stages from nothing."""
    if stale:
        pytest.skip("the results are not those of the parameters, as another test says")
    own.run("dvc", "repro")
    return own
