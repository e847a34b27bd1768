"""Private folders for the time of a command, and what it runs in them.

A killed command leaves its folder behind; the next one removes it.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fairtrial.project.errors import InputError

PARENT = Path(".dvc/tmp")


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Yield the absolute path of a new folder under `.dvc/tmp`, and remove it at the end.

    Only the user can enter it. A process holds a lock in its folder, which ends with it: folders
    with the same prefix that nobody has locked are removed, too. Raises `InputError` if no folder
    can be made.
    """
    parent = PARENT.absolute()
    with contextlib.ExitStack() as stack:
        try:
            parent.mkdir(exist_ok=True)
            # One process at a time, so that none removes a new folder that is not locked yet.
            with FileLock(parent / "scratch.lock"):
                remove_left(prefix)
                folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)
                stack.enter_context(FileLock(folder / ".lock"))
        except OSError as error:
            raise InputError(
                f"{PARENT}: no folder can be made there ({error}); make room or give permission"
            ) from None
        yield folder


def remove_left(prefix: str) -> list[str]:
    """Remove the folders of commands that were killed; return their paths."""
    removed = []
    for left in PARENT.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, Timeout), FileLock(left / ".lock", timeout=0):
            shutil.rmtree(left, ignore_errors=True)
            removed.append(str(left))
    return removed


def write_local_config(folder: Path, site_cache: Path, cache: str | None, **core: object) -> None:
    """Write the configuration of DVC for a copy of the project, in its `.dvc/config.local`.

    site_cache: the absolute folder for DVC's databases. It is made for this user alone: what DVC
        finds there can run code, and its default is open to all users.
    cache: the folder of DVC's cache; None if the copy has its own.
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


def run_command(*command: str, folder: Path | None = None) -> None:
    """Run a command in a folder; raises `RuntimeError` with its last lines if it fails."""
    result = run_captured(list(command), folder)
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).splitlines()
        # DVC ends with addresses of help.
        lines = [line for line in lines if line and "dvc.org/" not in line]
        raise RuntimeError("\n".join(lines[-3:]))


def run_captured(
    command: list[str], folder: Path | None = None, seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, where `python` is this Python; return what it printed.

    Raises `InputError` if it takes more than a number of seconds.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        return subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"dvc {' '.join(command[3:5])}: has no end after {seconds:.0f} seconds; look into the "
            "dvc.yaml of the revisions, or name fewer"
        ) from None
