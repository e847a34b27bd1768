"""A Dask cluster whose workers have nothing in common with a project but git and a DVC remote."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.helpers.project import ROOT, Project


def share(project: Project, folder: Path) -> None:
    """Give a project a bare git repository and a DVC remote in a folder, and push to both."""
    project.run("git", "init", "--quiet", "--bare", str(folder / "git"))
    project.run("git", "config", "remote.origin.url", str(folder / "git"))
    project.run("git", "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    if "remote" not in (project.path / ".dvc/config").read_text():
        project.run("dvc", "remote", "add", "--default", "storage", str(folder / "storage"))
    project.run("git", "commit", "--quiet", "--all", "--message", "A place to share results")
    project.run("git", "push", "--quiet", "origin", "HEAD:refs/heads/main")
    project.run("dvc", "push", "--quiet")


@contextlib.contextmanager
def host(folder: Path, *arguments: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a process of `dask` in a new folder, which is all that its computer has."""
    folder.mkdir(exist_ok=True)
    own = {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env={**os.environ, "DVC_NO_ANALYTICS": "1", **own, **env},
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def scheduler(
    folder: Path, *options: str, port: str = "0", **env: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address of a Dask scheduler, and its process."""
    about = folder / "scheduler.json"
    arguments = "scheduler", f"--port={port}", f"--scheduler-file={about}", "--no-dashboard"
    with host(folder, *arguments, *options, **env) as process:
        while not about.exists() or not about.read_text().rstrip().endswith("}"):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield json.loads(about.read_text())["address"], process


@contextlib.contextmanager
def hosts(
    project: Project, folder: Path, threads: int = 1, options: Sequence[str] = ()
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Yield the address of a cluster that shares a project, and its two workers.

    options: of `dask scheduler` and of `dask worker`.
    """
    share(project, folder)
    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(scheduler(folder / "scheduler", *options))
        worker = "worker", address, f"--nthreads={threads}", "--no-dashboard", *options
        workers = [stack.enter_context(host(folder / name, *worker)) for name in ("one", "two")]
        yield address, workers


def kill_midway(
    project: Project,
    of: subprocess.Popen[bytes],
    victim: subprocess.Popen[bytes],
    points: int,
    by: signal.Signals = signal.SIGKILL,
) -> None:
    """Kill a process in the middle of a point of a sweep, when this many have arrived."""
    wait_for_points(project, of, points)
    os.killpg(victim.pid, by)


def wait_for_points(project: Project, of: subprocess.Popen[bytes], points: int) -> None:
    """Wait until this many points of a sweep, which is the process `of`, have arrived."""
    file = project.path / "sweeps/points.jsonl"
    while not file.exists() or file.read_bytes().count(b"\n") < points:
        assert of.poll() is None, "the sweep has ended"
        time.sleep(0.1)
