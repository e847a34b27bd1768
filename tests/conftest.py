"""Projects to try things in: real clones of the working tree, with the real git and dvc."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.browser import browser, show_page  # noqa: F401
from tests.helpers.project import (
    SMALL,
    STAGES,
    Project,
    copy_of_the_working_tree,
    make_default,
    problems_of_default,
)

# As in a stage: with small tensors several threads only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time, and however slow the machine is.
settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("same")


@pytest.fixture(scope="session")
def valid_default() -> None:
    """Skip what needs the project of `tests/default` if that does not fit the code any more.

    So that one test fails, `tests/test_default.py`, and says what to write there.
    """
    if problems_of_default():
        pytest.skip("tests/default does not fit the code; tests/test_default.py says why")


@pytest.fixture(scope="session")
def clone(valid_default: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make a clone with the code of the working tree, committed, and the project of the tests."""

    def make() -> Project:
        project = copy_of_the_working_tree(tmp_path_factory.mktemp("clone") / "project")
        make_default(project)
        project.commit("start")
        return project

    return make


@pytest.fixture(scope="session")
def reproduced(clone: Callable[[], Project]) -> Project:
    """A clone in which `dvc repro` has run, with committed results; for looking only."""
    project = clone()
    assert project.ran("repro") == STAGES
    project.commit("results")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A reproduced clone of the test's own."""
    return Project(shutil.copytree(reproduced.path, tmp_path / "project"))


@pytest.fixture(scope="session")
def small_reproduced(clone: Callable[[], Project]) -> Project:
    """A clone whose committed parameters are small, and in which `dvc repro` has run.

    It is for looking only, and for tests to which the size of the data does not matter. Every
    worker of xdist makes its own: they need it at the same time, so that waiting for one that is
    shared would take as long.
    """
    project = clone()
    project.set_params(*SMALL)
    assert project.ran("repro") == STAGES
    project.commit("small")
    return project


@pytest.fixture
def small_project(small_reproduced: Project, tmp_path: Path) -> Project:
    """A small reproduced clone of the test's own."""
    return Project(shutil.copytree(small_reproduced.path, tmp_path / "project"))
