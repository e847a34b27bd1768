"""What a worker of a sweep does: compute one point after the other, in a clone of its own.

This module is sent to the worker as it is, so it imports nothing of ours at its top. Its functions
import from the clone, or where the clone has no fairtrial, what is installed there.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def compute(
    params: str, url: str, commit: str, subfolder: str, cache: str | None, states: str | None
) -> dict[str, Any]:
    """Return the results of a point, as `fairtrial.cluster.run_point.run_point`, and its seconds.

    params: the content of params.yaml. The others: see `fairtrial.cluster.client.CodeLocation`.

    If a stage refuses the parameters, the only result is `refused`, its message: another try would
    not help. Any other failure is raised as `RuntimeError` with the last lines that were printed.
    """
    start = time.monotonic()
    enter_clone(url, commit, subfolder, cache)
    from fairtrial.cluster.run_point import RefusedError, run_point

    try:
        result = run_point(params, cache is None, states)
    except RefusedError as error:
        return {"refused": str(error)}
    except Exception as error:  # plain, because the sweep may lack its class
        text = str(error) if type(error) is RuntimeError else f"{type(error).__name__}: {error}"
        raise RuntimeError(text) from None
    return {**result, "seconds": round(time.monotonic() - start, 3)}


def prepare(
    params: str, url: str, commit: str, subfolder: str, cache: str | None, states: str | None
) -> str:
    """Clone the code and get the data; return what prevents it, or an empty text.

    The arguments are those of `compute`.
    """
    from distributed import get_worker

    try:
        enter_clone(url, commit, subfolder, cache)
        from fairtrial.cluster.run_point import prepare_data

        prepare_data(params, cache is None)
    except (Exception, SystemExit) as error:
        return f"worker {get_worker().address}: {' '.join(str(error).split())}"
    return ""


def enter_clone(url: str, commit: str, subfolder: str, cache: str | None) -> None:
    """Make the clone of the code at the commit, if it is not there, the folder of this process.

    The arguments are those of `compute`. Raises an exception with a message if the clone cannot be
    made, if other packages are installed than it pins, or if the worker has more than one thread.
    """
    from distributed import get_worker

    # Before numeric libraries are imported, which read it. A nanny sets it; a worker may have none.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    worker = get_worker()
    if worker.state.nthreads != 1:  # a second point in the same folder would overwrite the first
        raise RuntimeError(f"a worker has {worker.state.nthreads} threads; start it with one")
    clone = Path(worker.local_directory, commit).absolute()
    folder = clone / subfolder
    with contextlib.suppress(FileNotFoundError):  # somebody may have removed the current folder
        if Path.cwd() == folder:
            return
    if not clone.exists():
        draft = clone.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        run_git("clone", "--quiet", "--no-checkout", "--", url, str(draft))
        run_git("-C", str(draft), "checkout", "--quiet", "--detach", commit)
        draft.rename(clone)
    import_from(folder)
    from fairtrial.project.packages import refuse_other_packages
    from fairtrial.project.scratch import write_local_config

    refuse_other_packages(folder)
    write_local_config(folder, clone.parent / "site-cache", cache)
    os.chdir(folder)


def run_git(*arguments: str) -> None:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace")
    if result.returncode != 0:
        raise RuntimeError(f"git: {' '.join(result.stderr.split())}")


def import_from(folder: Path) -> None:
    """Import the modules that a clone has from there, and from no other commit."""
    own = {path.stem for path in folder.glob("*.py")}
    own |= {path.parent.name for path in folder.glob("*/*.py")}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        if not str(getattr(sys.modules[name], "__file__", None)).startswith(f"{folder}/"):
            del sys.modules[name]
    sys.path.insert(0, str(folder))
