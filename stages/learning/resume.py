"""The state of a training after each epoch, from which a killed one is resumed.

It is a file under `.dvc/tmp` of the workspace, which temporary and queued experiments share. Its
name is a fingerprint: a hash of everything that decides the result of the training. A state is
resumed by a training of the same fingerprint, and by no other.
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

import numpy as np
import torch

from stages.storage.errors import InputError, printable
from stages.storage.tensors import Array, Layout, read_tensors


def fingerprint(**inputs: Any) -> str:
    """Return the hash of the inputs, of our imported code, and of Python's and torch's versions."""
    inputs["python"] = platform.python_version()
    inputs["torch"] = torch.__version__
    for name, module in sorted(sys.modules.items()):
        # The stage itself is called __main__ here; in a worker of a sweep that has no file.
        file = getattr(module, "__file__", None)
        if (name == "__main__" or name.split(".")[0] == "stages") and file:
            inputs[f"code of {name}"] = Path(file).read_text(encoding="utf-8")
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def exclusive_state(name: str, folder: Path | None = None) -> Iterator[Path]:
    """Yield the path of the state called `name`, a fingerprint, while this process alone has it.

    folder: where the state is, by default `.dvc/tmp/train` of the workspace.

    Waits while another process has it. Raises `InputError` if the folder cannot be used.
    """
    # DVC sets DVC_ROOT for its commands to the workspace, also where it runs them elsewhere.
    folder = folder or Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/train")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # One lock file, in which each name locks a byte: nothing is left to clean up, and the
        # lock of a process ends with it.
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
        yield folder / f"{name}.safetensors"


def load_state(path: Path, layout: Layout) -> dict[str, Array] | None:
    """Return the tensors of a state, or None if there is none.

    A state that is broken, or that no training can go on from, is reported, renamed and not used.
    """
    if not path.exists():
        return None
    renamed = path.with_suffix(".broken")
    remedy = f"training starts anew, and the file is {renamed.name}"
    try:
        tensors = read_tensors(path, layout, remedy)
        # A row has iteration and epoch, and what was computed then; the rest of it is NaN.
        rows = ("rows", "epochs")
        numbers = [tensors[name][:, :2] if name in rows else tensors[name] for name in layout]
        if not len(tensors["rows"]) or not all(np.isfinite(array).all() for array in numbers):
            raise InputError(f"{path}: its numbers are not finite; {remedy}")
        return tensors
    except InputError as error:
        path.replace(renamed)
        print(f"train: {printable(str(error))}", file=sys.stderr)
        return None
