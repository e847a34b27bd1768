"""A clone of the project in which a test does what a user does, and where the MNIST files are."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from configobj import ConfigObj

from fairtrial.project.contract import stage_definitions
from stages.check import check_params
from stages.storage.errors import InputError

ROOT = Path(__file__).parents[2]

# The project of all tests but those in tests/project: our code with these parameters and stages,
# whatever the project's own are.
DEFAULT = ROOT / "tests/default"
# Of the project itself, and not of the tests: its parameters, stages, data and results.
OWN = re.compile(r"(params|dvc)\.yaml|dvc\.lock|\.dvc/config|metrics/.*|data/(?!README).*|.*\.dvc")

# The stages of its dvc.yaml, in the order in which DVC runs them.
STAGES = ["check", "fetch", "prepare", "train", "evaluate"]

# Parameters of a run that costs little more than the start of its processes. 300 is no multiple of
# the batch size, so that the last batch of an epoch is smaller than the others.
SMALL = ("prepare.train_size=300", "prepare.val_size=100", "train.replicas=2")

# The four files of MNIST, where they can be had.
MNIST = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))
needs_mnist = pytest.mark.skipif(
    not MNIST.is_dir(), reason="MNIST is neither in ../shared/mnist nor in a folder MNIST_MIRROR"
)

# As `python -m tools template remove` leaves it, a project has only some of the parts.
HAS_SWEEPS, HAS_PREDICT = (
    (ROOT / name).exists() for name in ("fairtrial/sweep.py", "tools/predict.py")
)
needs_sweeps = pytest.mark.skipif(not HAS_SWEEPS, reason="the sweeps were removed")


class Project:
    """A clone of the project, and what a user does in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(path.parent),
            "DVC_NO_ANALYTICS": "1",
            # DVC unpickles what it finds there, and its default is open to all users.
            "DVC_SITE_CACHE_DIR": str(path.parent / "site-cache"),
        }

    def run(self, *command: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; `ok` says whether it has to succeed or to fail."""
        done = subprocess.run(command, cwd=self.path, env=self.env, capture_output=True, text=True)
        assert (done.returncode == 0) == ok, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def refused(self, stage: str) -> str:
        """Run a stage, without DVC, that has to refuse its input; return what it says."""
        done = self.run("python", "-m", "stages", stage, ok=False)
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

    def set_params(self, *settings: str) -> None:
        """Write values into params.yaml, given as for `dvc exp run -S`: `section.name=value`."""
        path = self.path / "params.yaml"
        text = path.read_text()
        for setting in settings:
            key, _, value = setting.partition("=")
            section, _, name = key.partition(".")
            pattern = rf"(^{section}:\n(?:  .*\n)*?  {name}: )\S+"
            text, count = re.subn(pattern, rf"\g<1>{value}", text, flags=re.MULTILINE)
            assert count == 1, f"params.yaml has {count} values of {key}"
        path.write_text(text)

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.path / file).write_text(text.replace(old, new))


def copy_of_the_working_tree(folder: Path) -> Project:
    """Copy what git does not ignore, as it is now, into a repository of its own."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    project = Project(folder)
    for name in subprocess.check_output(listing, cwd=ROOT, text=True).split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    project.run("git", "init", "-q", "-b", "main")
    project.run("git", "config", "user.name", "Somebody")
    project.run("git", "config", "user.email", "somebody@example.org")
    return project


def make_default(project: Project) -> None:
    """Give a copy of the working tree the parameters and stages of `DEFAULT`, and no results."""
    for path in list(project.path.rglob("*")):
        if path.is_file() and OWN.fullmatch(str(path.relative_to(project.path))):
            path.unlink()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(DEFAULT / name, project.path)
    config = ConfigObj(str(ROOT / ".dvc/config"))  # without remotes, a shared cache and the like
    config.filename = str(project.path / ".dvc/config")
    for key in set(config) - {"core"}:
        del config[key]
    config["core"].pop("remote", None)
    config.write()


def problems_of_default() -> list[str]:
    """Return what in `DEFAULT` does not fit the code any more."""
    problems: list[str] = []
    with contextlib.chdir(ROOT):
        path = (DEFAULT / "params.yaml").relative_to(ROOT)
        try:
            check_params(path)
        except InputError as error:
            problems += map(str, error.args)
    path = DEFAULT / "dvc.yaml"
    stages = stage_definitions(path.read_bytes(), str(path))
    made = {str(out) for stage in stages.values() for out in stage.get("outs", [])}
    for name, stage in stages.items():
        problems += [
            f"tests/default/dvc.yaml: {name}: deps: there is no {dep}; correct it there, too"
            for dep in stage["deps"]
            if "$" not in dep and dep not in made and not (ROOT / dep).exists()
        ]
    return problems
