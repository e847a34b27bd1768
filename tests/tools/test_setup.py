"""DVC's databases, which it unpickles, are where no other user can put one."""

import stat
from pathlib import Path

import pytest

from tests.helpers.project import Project, needs_sweeps

SHARED = "/var/tmp/dvc"  # where DVC has them by default, open to all users

# In each Python process, report what is done in that folder.
REPORT = f"""
import os
import sys

def report(event, args):
    if event.startswith(("open", "os.", "sqlite3.")) and any(
        isinstance(arg, str) and arg.startswith({SHARED!r}) for arg in args
    ):
        file = os.open(os.environ["REPORT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{{event}} {{args}} by {{sys.argv}}\\n".encode())
        os.close(file)

sys.addaudithook(report)
"""


@pytest.fixture
def watched(small_project: Project, tmp_path: Path) -> Project:
    """A clone after the set-up, in which the test looks whether DVC uses the folder of all."""
    del small_project.env["DVC_SITE_CACHE_DIR"]
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook/sitecustomize.py").write_text(REPORT)
    small_project.env |= {"PYTHONPATH": str(tmp_path / "hook"), "REPORT": str(tmp_path / "report")}
    small_project.run("python", "-m", "tools", "setup")
    return small_project


def report(project: Project) -> str:
    path = Path(project.env["REPORT"])
    return path.read_text() if path.exists() else ""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
def test_dvc_uses_a_private_folder(watched: Project) -> None:
    folder = watched.path / ".dvc/site-cache"
    assert mode(folder) == 0o700
    assert watched.status() == ""
    watched.run("dvc", "status")
    (watched.path / "data/prepared/val.safetensors").unlink()
    watched.run("dvc", "checkout")
    assert report(watched) == ""
    assert list(folder.rglob("cache.db"))
    # DVC makes a folder that is gone for all users; the set-up makes it private again.
    folder.chmod(0o777)
    watched.run("python", "-m", "tools", "setup")
    assert mode(folder) == 0o700
    # A project that was moved goes on as before, and the set-up gives it its own folder.
    moved = Project(watched.path.rename(watched.path.with_name("moved, here #1\n")))
    moved.env = watched.env
    moved.run("dvc", "status")
    moved.run("python", "-m", "tools", "setup")
    path = moved.run("dvc", "config", "core.site_cache_dir").stdout.removesuffix("\n")
    assert Path(path) == moved.path / ".dvc/site-cache"
    moved.run("dvc", "status")
    assert report(moved) == ""
    # What this test would see without it.
    (moved.path / ".dvc/config.local").unlink()
    moved.run("dvc", "status")
    assert SHARED in report(moved)


@pytest.mark.slow
@needs_sweeps
def test_the_tools_use_private_folders_too(watched: Project) -> None:
    watched.set_params("train.lr=0.02")
    watched.run("dvc", "repro")
    watched.run("dvc", "exp", "run", "--temp", "-n", "fast", "-S", "train.lr=0.3")
    watched.run("python", "-m", "fairtrial", "until-decided", "HEAD", "fast")
    watched.commit("Another learning rate")
    watched.run("python", "-m", "fairtrial", "sweep", "-S", "train.lr=0.05,0.06")
    assert report(watched) == ""


@pytest.mark.parametrize("name", ["é", "%(x)s"])
def test_a_path_that_dvc_cannot_write_or_read_is_no_error(
    small_project: Project, name: str
) -> None:
    small_project.path = small_project.path.rename(small_project.path.with_name(name))
    done = small_project.run("python", "-m", "tools", "setup")
    assert "`dvc exp run --temp` and `python -m fairtrial sweep --promote` fail here" in done.stderr
    small_project.run("dvc", "status")
    small_project.run("dvc", "exp", "run", "--temp", "-S", "train.lr=0.3", ok=False)
