"""The state of each replica after each epoch, from which a killed training is resumed.

It is a file under `.dvc/tmp` of the workspace, which temporary and queued experiments share. Its
name is a fingerprint: a hash of everything that decides the result of the training. A training
resumes the states that have its own fingerprints, and no others.
"""

import contextlib
import fcntl
import hashlib
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from samebits import library
from stages.storage.errors import InputError, printable
from stages.storage.tensors import Array, Layout, read_tensors


def fingerprint(**inputs: Any) -> str:
    """Return the hash of the inputs, of our imported code, and of Python's and torch's versions."""
    inputs["kernels"] = library.folder().name  # a hash of their sources
    inputs["python"] = platform.python_version()
    inputs["torch"] = torch.__version__
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.split(".")[0] in ("samebits", "stages") and file:
            inputs[f"code of {name}"] = Path(file).read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def exclusive(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes from the states of a training called `name`, a fingerprint.

    Waits while another process has them. Raises `InputError` if the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One lock file, in which each name locks a byte: nothing is left to clean up, and the
        # lock of a process ends with it. (filelock takes 10 ms to import.)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error}); give permission there") from None
    with lock:
        byte = int(name[:15], 16)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            print("train: waiting for another run of the same training to end", flush=True)
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, byte)
        yield


def load_state(path: Path, layout: Layout) -> dict[str, Array] | None:
    """Return the tensors of a state, or None if there is none, or a broken one: it says so."""
    if not path.exists():
        return None
    try:
        return read_tensors(path, layout, "training starts anew")
    except InputError as error:
        print(f"train: {printable(str(error))}", file=sys.stderr)
        return None
