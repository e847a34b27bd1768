"""What a worker of a sweep does: one point after the other, in a clone of its own.

The code is sent to it, so this imports nothing of ours at its top: the stages are those of the
clone, and what is installed has to be what its requirements.txt says.
"""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

MEASURED = ("train", "evaluate")  # the stages whose metrics make a row


def compute(url: str, commit: str, cache: str | None, params: str) -> dict[str, Any]:
    """Return the metrics of a point, the MD5s of its checkpoints, and the seconds it took.

    url and commit say where the code is, in git; cache is DVC's, where the worker has the same
    disk, and None where it asks the DVC remote; params is the content of params.yaml. Whatever
    goes wrong is raised with the last lines that were printed.
    """
    from distributed import get_worker

    start = time.monotonic()
    worker = get_worker()
    if worker.state.nthreads != 1:  # a second point in the folder would mix with the first
        raise RuntimeError(f"a worker has {worker.state.nthreads} threads; start it with one")
    folder = Path(worker.local_directory, commit)
    if not folder.exists():
        clone(url, commit, cache, folder)
    os.chdir(folder)
    if sys.path[0] != str(folder):  # the modules are those of this commit, and of no other
        for name in [name for name in sys.modules if name.split(".")[0] in ("stages", "tools")]:
            del sys.modules[name]
        sys.path.insert(0, str(folder))
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            run_stages(params)
    except (Exception, SystemExit) as error:
        last = [*printed.getvalue().splitlines()[-3:], f"{type(error).__name__}: {error}"]
        raise RuntimeError("\n".join(last)) from None
    checkpoints = {
        name: Path(f"data/checkpoints/{name}.safetensors") for name in ("model", "replicas")
    }
    return {
        "metrics": {
            stage: json.loads(Path(f"metrics/{stage}.json").read_text()) for stage in MEASURED
        },
        "md5": {
            name: hashlib.md5(path.read_bytes()).hexdigest() for name, path in checkpoints.items()
        },
        "seconds": round(time.monotonic() - start, 3),
    }


def clone(url: str, commit: str, cache: str | None, folder: Path) -> None:
    """Make a clone at the commit, with its data in DVC's reach.

    Raises `RuntimeError` if what is installed here is not what that commit wants.
    """
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    call("git", "clone", "--quiet", "--no-checkout", url, str(draft))
    call("git", "-C", str(draft), "checkout", "--quiet", "--detach", commit)
    wanted = pinned((draft / "requirements.txt").read_text())
    for package in ("numpy", "torch"):
        found = version(package).partition("+")[0]
        if found != wanted[package]:
            raise RuntimeError(
                f"a worker has {package} {found}, and requirements.txt says {wanted[package]}: "
                "install that there, or the bits are others"
            )
    if cache:
        (draft / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n")
    draft.rename(folder)


def pinned(requirements: str) -> dict[str, str]:
    """Return the versions that a requirements.txt has for this Python, by the packages' names."""
    from packaging.requirements import Requirement

    lines = re.findall(r"^[\w.-]+==[^\\\n]+", requirements, re.MULTILINE)
    found = [one for one in map(Requirement, lines) if not one.marker or one.marker.evaluate()]
    return {one.name: str(one.specifier).removeprefix("==") for one in found}


def run_stages(params: str) -> None:
    """Run the stages in this folder, those before the training only where they would differ."""
    from ruamel.yaml import YAML

    Path("params.yaml").write_text(params)
    values = YAML(typ="safe").load(params)
    once("fetch", [values["fetch"]], fetch)
    prepare = importlib.import_module("stages.prepare").main
    once("prepare", [values["fetch"], values["prepare"]], prepare)
    for stage in MEASURED:
        importlib.import_module(f"stages.{stage}").main()


def fetch() -> None:
    """Get the raw data from DVC's cache or remote, and only else from where it is published."""
    from dvc.repo import Repo

    with Repo() as repo:
        pull = ["--pull"] if repo.config["core"].get("remote") else []
    call(sys.executable, "-m", "dvc", "repro", *pull, "fetch")


def once(name: str, values: list[Any], do: Callable[[], None]) -> None:
    """Call `do`, unless that was done last with the same values."""
    marker, text = Path(f".dvc/tmp/{name}.done"), json.dumps(values)
    if not marker.exists() or marker.read_text() != text:
        marker.unlink(missing_ok=True)
        do()
        marker.write_text(text)


def call(*command: str) -> None:
    """Run a command; raises `RuntimeError` with its last lines."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path})
    if done.returncode != 0:
        raise RuntimeError("\n".join((done.stdout + done.stderr).splitlines()[-3:]))
