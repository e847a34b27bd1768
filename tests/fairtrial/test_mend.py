"""What a killed DVC leaves behind is seen and removed, and nothing while one is running."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
COMPARE = ("python", "-m", "fairtrial", "compare", "HEAD", "workspace")
MEND = ("python", "-m", "fairtrial", "mend")


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that is no DVC, as the first of a machine is."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


@pytest.fixture
def running_dvc(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A living process that looks like a DVC."""
    (tmp_path / "dvc").write_text("import time; time.sleep(1000)")
    with subprocess.Popen([sys.executable, str(tmp_path / "dvc")]) as process:
        yield process
        process.kill()


def lock(project: Project, pid: int) -> None:
    entry = {str(project.path / "scores.csv"): {"pid": pid, "cmd": "dvc repro"}}
    locks = {"write": entry, "read": {}}
    (project.path / ".dvc/tmp").mkdir(exist_ok=True)
    (project.path / ".dvc/tmp/rwlock").write_text(json.dumps(locks))


@pytest.mark.parametrize("place", ["here", "a worktree", "a folder of a repository"])
def test_the_marks_of_a_killed_experiment_are_seen(
    regression: Project, running_dvc: subprocess.Popen[bytes], place: str
) -> None:
    here = regression
    if place == "a worktree":
        here = Project(regression.path.parent / "there")
        regression.run("git", "worktree", "add", "-q", "-b", "more", str(here.path))
    elif place == "a folder of a repository":
        above = regression.path.parent / "above"
        above.mkdir()
        here = Project(regression.path.rename(above / "project"))
        (here.path / ".git").rename(above / ".git")
        here.run("git", "add", "--all", ":/")
        here.run("git", "commit", "-qm", "moved")
    here.env = regression.env
    mark = "refs/exps/exec/EXEC_BASELINE"
    here.run("git", "update-ref", mark, "HEAD")
    compare = ("python", "-m", "fairtrial", "compare", "HEAD", "HEAD")
    said = "`dvc exp run` was killed here"
    assert here.run(*compare).stderr.startswith(said)
    if place == "a worktree":  # which has the marks of all others
        lock(regression, running_dvc.pid)
        assert here.run(*compare).stderr == ""
        assert f"DVC is running in {regression.path}" in here.run(*MEND, ok=False).stderr
        running_dvc.kill()
        running_dvc.wait()
    assert f"{mark}: removed" in here.run(*MEND).stdout
    assert here.run(*compare).stderr == ""


def test_a_lock_that_is_older_than_its_process_is_nobodys(
    regression: Project, running_dvc: subprocess.Popen[bytes]
) -> None:
    """As in a container that was started again, where the numbers are the same every time."""
    lock(regression, running_dvc.pid)
    old = (regression.path / ".dvc/tmp/rwlock").stat().st_mtime - 10
    os.utime(regression.path / ".dvc/tmp/rwlock", (old, old))
    assert "is another program now" in regression.run(*COMPARE, ok=False).stderr
    assert "rwlock: removed" in regression.run(*MEND).stdout
    regression.run(*COMPARE)


def test_a_lock_of_a_process_that_is_no_dvc_is_named_and_removed(
    regression: Project, bystander: subprocess.Popen[bytes]
) -> None:
    lock(regression, bystander.pid)
    error = regression.run(*COMPARE, ok=False).stderr
    assert error == (
        "workspace: .dvc/tmp/rwlock is left of a DVC that was killed, and process "
        f"{bystander.pid} is another program now; `python -m fairtrial mend` removes it\n"
    )
    regression.set_params("fit.lr=0.04")
    assert "is busy, it is being blocked by" in regression.run("dvc", "repro", ok=False).stderr
    assert "is busy, it is being blocked by" in PAGE
    assert regression.run(*MEND).stdout == ".dvc/tmp/rwlock: removed; no DVC holds it\n"
    regression.run(*COMPARE, ok=False)
    regression.set_params("fit.lr=0.05")
    regression.run(*COMPARE)


def test_nothing_is_mended_while_dvc_runs(
    regression: Project, running_dvc: subprocess.Popen[bytes]
) -> None:
    lock(regression, running_dvc.pid)
    for command in (MEND, COMPARE):
        done = regression.run(*command, ok=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"(process {running_dvc.pid}); wait for its end" in done.stderr
    running_dvc.kill()
    running_dvc.wait()
    assert (regression.path / ".dvc/tmp/rwlock").exists()
    regression.run(*COMPARE)


def test_the_folder_of_a_killed_command_is_removed(regression: Project) -> None:
    left = regression.path / ".dvc/tmp/sweep-123"
    (left / "worker").mkdir(parents=True)
    draft = regression.path / ".report.html.dc60c622ed259e8a.draft"
    draft.touch()
    out = regression.run(*MEND).stdout
    assert ".dvc/tmp/sweep-123: removed" in out
    assert f"{draft.name}: removed" in out
    assert not left.exists()
    assert not draft.exists()


def test_what_an_experiment_has_staged_is_taken_out_again(regression: Project) -> None:
    (regression.path / ".dvc/tmp/repro.dat").write_text("DVC's own")
    regression.run("git", "add", "--force", ".dvc/tmp/repro.dat")
    assert ".dvc/tmp: taken out of the index" in regression.run(*MEND).stdout
    assert regression.status() == ""


def test_a_lock_of_git_is_named(regression: Project) -> None:
    (regression.path / ".git/index.lock").touch()
    message = "the index is locked"
    assert message in regression.run("dvc", "exp", "run", "-S", "fit.lr=0.04", ok=False).stderr
    assert message in PAGE
    assert "type `rm .git/index.lock`" in regression.run(*MEND).stdout


def test_an_empty_params_file_comes_back(regression: Project) -> None:
    """DVC empties it, and then writes what -S sets."""
    (regression.path / "params.yaml").write_text("")
    error = regression.run("dvc", "exp", "run", "-S", "fit.lr=0.04", ok=False).stderr
    assert "Could not override 'fit.lr'" in error
    assert "Could not override" in PAGE
    assert "params.yaml: was not written to its end" in regression.run(*MEND).stdout
    assert regression.status() == ""
    (regression.path / "params.yaml").write_text("fit: [")  # a user's mistake
    assert regression.run(*MEND).stdout == "nothing to mend\n"


@pytest.mark.parametrize(
    "content", ["", pytest.param("schema: '2.0'\nstages:\n  check: [", marks=pytest.mark.slow)]
)
def test_a_dvc_lock_that_was_cut_comes_back(regression: Project, content: str) -> None:
    """DVC empties it, and then writes it."""
    (regression.path / "dvc.lock").write_text(content)
    message = "dvc.lock' validation failed" if not content else "dvc.lock' is invalid"
    assert message in regression.run("dvc", "repro", ok=False).stderr
    assert message in PAGE
    assert "dvc.lock: was not written to its end" in regression.run(*MEND).stdout
    assert regression.ran("repro") == []
    assert regression.status() == ""


def test_a_full_disk_is_named(regression: Project) -> None:
    """As large as a file may be here is nothing."""
    command = "ulimit -f 0; exec python -m fairtrial compare main slow"
    done = regression.run("bash", "-c", command, ok=False)
    assert done.returncode == 2
    assert done.stderr.endswith("; make room or give permission, and type the same command again\n")
    assert len(done.stderr.splitlines()) == 1
    regression.run("python", "-m", "fairtrial", "compare", "main", "slow")
