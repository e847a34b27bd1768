"""Projects to try things in: real clones of the working tree, with the real git and dvc."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# The four files of MNIST, where they can be had.
MNIST = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))
needs_mnist = pytest.mark.skipif(
    not MNIST.is_dir(), reason="MNIST is neither in ../shared/mnist nor in a folder MNIST_MIRROR"
)

# The same examples every time, and however slow the machine is.
settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("same")


class Project:
    """A clone of the project, and what a user does in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(path.parent),
            "DVC_NO_ANALYTICS": "1",
        }

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; `ok` says whether it has to succeed or to fail."""
        done = subprocess.run(command, cwd=self.path, env=self.env, capture_output=True, text=True)
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def refused(self, stage: str) -> str:
        """Run a stage, without DVC, that has to refuse its input; return what it says."""
        done = self.run("python", "-m", f"stages.{stage}", ok=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def ran(self, *command: str) -> list[str]:
        """Run a dvc command and return the stages that it ran, in order."""
        out = self.run("dvc", *command).stdout
        start = "Running stage '"
        return [line[len(start) : -2] for line in out.splitlines() if line.startswith(start)]

    def status(self) -> str:
        return self.run("git", "status", "--porcelain").stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "-qm", message)

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.path / file).write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make a clone of the working tree, committed: what git ignores stays behind."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listing, cwd=ROOT, text=True).split("\0")

    def make() -> Project:
        project = Project(tmp_path_factory.mktemp("clone") / "project")
        for name in names:
            if (ROOT / name).is_file():
                (project.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, project.path / name)
        project.run("git", "init", "-q", "-b", "main")
        project.run("git", "config", "user.name", "Somebody")
        project.run("git", "config", "user.email", "somebody@example.org")
        project.commit("start")
        return project

    return make


@pytest.fixture(scope="session")
def reproduced(clone: Callable[[], Project]) -> Project:
    """A clone in which `dvc repro` has run; for looking only."""
    project = clone()
    project.run("dvc", "repro")
    return project


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A reproduced clone of the test's own."""
    return Project(shutil.copytree(reproduced.path, tmp_path / "project"))
