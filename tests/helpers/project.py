"""A clone of the project in which a test does what a user does, and where the MNIST files are."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The stages of dvc.yaml, in the order in which DVC runs them.
STAGES = ["check", "fetch", "prepare", "train", "evaluate"]

# Parameters of a run that costs little more than the start of its processes. 300 is no multiple of
# the batch size, so that the last batch of an epoch is smaller than the others.
SMALL = ("prepare.train_size=300", "prepare.val_size=100", "train.replicas=2")

# The four files of MNIST, where they can be had.
MNIST = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))
needs_mnist = pytest.mark.skipif(
    not MNIST.is_dir(), reason="MNIST is neither in ../shared/mnist nor in a folder MNIST_MIRROR"
)


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
