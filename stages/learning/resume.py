"""What a training had reached when it was killed, kept where the next run of it looks.

That is a file under `.dvc/tmp` of the workspace, shared with its temporary and queued
experiments, and named by a hash of everything that decides the result. A state with just
that name is continued from, and any other is never looked at.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from stages.storage.errors import InputError
from stages.storage.tensors import Array, Layout, read_tensors


def fingerprint(**facts: Any) -> str:
    """Return the hash of `facts`, all code of ours that is imported, and what runs it."""
    facts["python"] = platform.python_version()
    facts["torch"] = torch.__version__
    for name, module in sorted(sys.modules.items()):
        # A stage is called __main__ here.
        file = getattr(module, "__file__", None)  # __main__ has none in a worker of a sweep
        if (name == "__main__" or name.split(".")[0] == "stages") and file:
            facts[f"code of {name}"] = Path(file).read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def exclusive_state(name: str) -> Iterator[Path]:
    """Yield the path of the state called `name`, a hash, which nobody else has meanwhile."""
    # DVC sets DVC_ROOT for what it runs: to the workspace, also where it runs it elsewhere.
    folder = Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/train")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One file, of which each name has a byte: nothing to clean up, and a dead process holds
        # no lock.
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error}); give permission there") from None
    with lock:
        byte = int(name[:15], 16)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            print("train: waiting for another training of just this to end", flush=True)
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, byte)
        yield folder / f"{name}.safetensors"


def load_state(path: Path, layout: Layout) -> dict[str, Array] | None:
    """Return the tensors of the state, if there is one; a broken one is set aside and reported."""
    if not path.exists():
        return None
    aside = path.with_suffix(".broken")
    try:
        return read_tensors(path, layout, f"starting anew, and keeping it as {aside.name}")
    except InputError as error:
        path.replace(aside)
        print(f"train: {error}", file=sys.stderr)
        return None
