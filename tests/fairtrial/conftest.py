"""A second project to try fairtrial on: a regression in NumPy, with git and DVC."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project

SOURCE = Path(__file__).parent / "project"


@pytest.fixture(scope="session")
def reproduced_regression(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The second project with committed results; for looking only.

    It has experiments: `slow` is worse by both metrics, `near` and `seed` hardly differ.
    """
    folder = tmp_path_factory.mktemp("regression") / "project"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__", "points.csv"))
    project = Project(folder)
    project.env["PYTHONPATH"] = str(ROOT)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Somebody")
    project.run("git", "config", "user.email", "somebody@example.org")
    project.run("dvc", "init", "-q")
    project.run("dvc", "repro", "-q")
    project.commit("start")
    for name, setting in (("slow", "lr=0.0005"), ("near", "lr=0.06"), ("seed", "seed=100")):
        project.run("dvc", "exp", "run", "-q", "-n", name, "-S", f"fit.{setting}")
        project.run("git", "checkout", "-q", ".")
        project.run("dvc", "checkout", "-q")
    return project


@pytest.fixture
def regression(reproduced_regression: Project, tmp_path: Path) -> Project:
    """The second project, a copy of the test's own."""
    project = Project(shutil.copytree(reproduced_regression.path, tmp_path / "project"))
    project.env["PYTHONPATH"] = str(ROOT)
    return project
