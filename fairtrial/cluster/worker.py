"""What a worker of a sweep does: compute one point after the other, in a clone of its own.

This module is sent to the worker as it is, so it imports nothing of ours at its top. What its
functions import is that of the clone, and the packages installed there have to be those of its
requirements.txt.
"""

import contextlib
import functools
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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairtrial.project.pipeline import Stage


def compute(
    url: str, commit: str, cache: str | None, params: str, states: str | None = None
) -> dict[str, Any] | str:
    """Return the metrics of a point, the MD5s of its checkpoints, and the seconds it took.

    url, commit: of the git repository with the code.
    cache: the folder of DVC's cache, if the worker has the same disk; None if it pulls from the
        DVC remote.
    params: the content of params.yaml.
    states: a folder, from the clone, that keeps the states of the training for a longer one; by
        default they are removed.

    Where a stage refuses the parameters, it is their message alone: another try would not help. Any
    other failure is raised as `RuntimeError` with the last lines that were printed.
    """
    start = time.monotonic()
    worker = leave_in_time()
    enter_clone(url, commit, cache)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            result = run_pipeline(params, pull=cache is None, states=states)
    except (Exception, SystemExit) as error:
        from fairtrial.project.errors import InputError  # of this clone

        # Not of a full disk, say, where another try may succeed.
        if isinstance(error, InputError) and str(error).startswith("params.yaml: "):
            return str(error)
        last = [*printed.getvalue().splitlines()[-3:], f"{type(error).__name__}: {error}"]
        raise RuntimeError("\n".join(last)) from None
    seconds = time.monotonic() - start
    worker.longest_point = max(seconds, getattr(worker, "longest_point", 0.0))
    return {**result, "seconds": round(seconds, 3)}


def leave_in_time() -> Any:
    """Return the worker, unless another point like its longest might outlast its `--lifetime`.

    Then it ends, and `distributed.Reschedule` lets another one compute the point.
    """
    import psutil  # which Dask requires
    from distributed import Reschedule, get_worker

    worker: Any = get_worker()
    age = time.time() - psutil.Process().create_time()
    if worker.lifetime and age + getattr(worker, "longest_point", 0.0) > worker.lifetime:
        while worker.data:  # the result of the last point, until the sweep has it
            time.sleep(0.1)
        worker.loop.add_callback(worker.close_gracefully, reason="no-time-for-another-point")
        raise Reschedule
    return worker


def prepare(url: str, commit: str, cache: str | None, params: str) -> str:
    """Clone the code and get the data; return what prevents it, or an empty text.

    The arguments are those of `compute`.
    """
    from distributed import get_worker

    try:
        enter_clone(url, commit, cache)
        from fairtrial.project.pipeline import FETCH, read_pipeline

        Path("params.yaml").write_text(params, encoding="utf-8")
        pipeline = read_pipeline()
        [stage] = [stage for stage in pipeline.stages if stage.name == FETCH]
        run_if_changed(stage.name, stage.inputs, lambda: fetch(pipeline.tracked, cache is None))
    except (Exception, SystemExit) as error:
        return f"worker {get_worker().address}: {' '.join(str(error).split())}"
    return ""


def enter_clone(url: str, commit: str, cache: str | None) -> None:
    """Make the clone of the code at the commit, if it is not there, the folder of this process.

    The arguments are those of `compute`. Raises `RuntimeError` if it cannot be made, or if the
    worker has more than one thread.
    """
    from distributed import get_worker

    # Before torch is imported, which reads it. A nanny sets it, but a worker may have none.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    worker = get_worker()
    if worker.state.nthreads != 1:  # a second point in the same folder would overwrite the first
        raise RuntimeError(f"a worker has {worker.state.nthreads} threads; start it with one")
    folder = Path(worker.local_directory, commit)
    if not folder.exists():
        clone(url, commit, cache, folder)
    os.chdir(folder)
    if sys.path[0] != str(folder):  # import the modules of this commit, and of no other
        for name in [name for name in sys.modules if name.split(".")[0] in ("stages", "tools")]:
            del sys.modules[name]
        sys.path.insert(0, str(folder))


def clone(url: str, commit: str, cache: str | None, folder: Path) -> None:
    """Clone the code at the commit into a folder, and name DVC's cache there.

    Raises `RuntimeError` if the installed packages are not those that the commit requires.
    """
    draft = folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    run_command("git", "clone", "--quiet", "--no-checkout", "--", url, str(draft))
    run_command("git", "-C", str(draft), "checkout", "--quiet", "--detach", commit)
    required = pinned_versions((draft / "requirements.txt").read_text(encoding="utf-8"))
    for package in ("numpy", "torch"):
        installed = version(package).partition("+")[0]
        if installed != required[package]:
            raise RuntimeError(
                f"a worker has {package} {installed}, and requirements.txt says "
                f"{required[package]}: install that there, because other versions give other bits"
            )
    write_local_config(draft, site_cache=folder.parent / "site-cache", cache=cache)
    draft.rename(folder)


def write_local_config(folder: Path, site_cache: Path, cache: str | None, **core: Any) -> None:
    """Write the configuration of DVC for a clone of the project, in its `.dvc/config.local`.

    site_cache: the folder for DVC's databases, which has to be absolute and is made for this user
        alone: what DVC finds there can run code, and its default is open to all users.
    cache: the folder of DVC's cache; None if the clone has its own.
    core: other options of the section core.
    """
    from configobj import ConfigObj  # which DVC reads it with; it quotes paths

    site_cache.mkdir(mode=0o700, exist_ok=True)
    config = ConfigObj(encoding="utf-8")
    config["core"] = {**core, "site_cache_dir": str(site_cache)}
    if cache:
        config["cache"] = {"dir": cache}
    with (folder / ".dvc/config.local").open("wb") as file:
        config.write(file)


def pinned_versions(requirements: str) -> dict[str, str]:
    """Return the versions that a requirements.txt pins for this Python, by package name."""
    from packaging.requirements import Requirement

    lines = re.findall(r"^[\w.-]+==[^\\\n]+", requirements, re.MULTILINE)
    pins = [pin for pin in map(Requirement, lines) if not pin.marker or pin.marker.evaluate()]
    return {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}


def run_pipeline(params: str, pull: bool, states: str | None) -> dict[str, Any]:
    """Run the stages of this folder that are not up to date; return metrics and MD5s.

    pull: as `fetch` takes it; states: as `compute` takes it.
    """
    from fairtrial.project.pipeline import read_pipeline

    Path("params.yaml").write_text(params, encoding="utf-8")
    pipeline = read_pipeline()
    for stage in pipeline.stages:
        run = functools.partial(run_stage, stage, pipeline.tracked, pull, states)
        run_if_changed(stage.name, stage.inputs, run)
    return {
        "metrics": {
            name: json.loads(Path(path).read_text(encoding="utf-8"))
            for name, path in pipeline.metrics.items()
        },
        "md5": {
            name: hashlib.md5(Path(path).read_bytes()).hexdigest()
            for name, path in pipeline.checkpoints.items()
        },
    }


def run_if_changed(name: str, inputs: Any, run: Callable[[], None]) -> None:
    """Call `run`, unless its last call in this folder succeeded with the same inputs."""
    marker = Path(".dvc/tmp", f"{name.replace('/', ':')}.done")
    text = json.dumps(inputs, sort_keys=True)
    if not marker.exists() or marker.read_text(encoding="utf-8") != text:
        marker.unlink(missing_ok=True)
        run()
        marker.write_text(text, encoding="utf-8")


def run_stage(stage: "Stage", tracked: list[str], pull: bool, states: str | None) -> None:
    """Run a stage: a Python module of ours in this process, which has imported torch already.

    tracked, pull: as `fetch` takes them; states: as `compute` takes it.
    """
    from fairtrial.project.pipeline import FETCH, TRAIN

    if stage.name == FETCH:
        fetch(tracked, pull)
        return
    for command in stage.commands:
        module = re.fullmatch(r"(?:exec )?python -m (stages\.\w+)", command)
        if module and stage.folder.samefile(Path.cwd()):
            kept = {"states_folder": Path(states)} if states and stage.name == TRAIN else {}
            importlib.import_module(module[1]).main(**kept)
        else:
            run_command("sh", "-c", command, folder=stage.folder)


def fetch(tracked: list[str], pull: bool) -> None:
    """Get the raw data from DVC's cache or remote, or else from where it is published.

    tracked: paths of the .dvc files with data that no stage makes, such as your own pictures.
    pull: whether to ask the DVC remote, if there is one. What the cache has is never asked of it.
    """
    from dvc.repo import Repo

    with Repo() as repo:
        pull = pull and bool(repo.config["core"].get("remote"))
    if tracked:
        run_command(sys.executable, "-m", "dvc", "pull" if pull else "checkout", *tracked)
    run_command(sys.executable, "-m", "dvc", "repro", *(["--pull"] if pull else []), "fetch")


def run_command(*command: str, folder: Path | None = None) -> None:
    """Run a command; raises `RuntimeError` with its last lines if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).splitlines()
        # DVC ends with addresses of help.
        lines = [line for line in lines if line and "dvc.org/" not in line]
        raise RuntimeError("\n".join(lines[-3:]))
