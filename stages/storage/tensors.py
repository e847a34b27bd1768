"""Tensor files: safetensors with a checksum, verified at every read.

A file has one metadata key, `about`: JSON with the SHA-256 of the tensors, which reveals a
flipped bit, and with whatever else the writer wants to say. It is one key, because safetensors
writes several keys in random order.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular, write_bytes

Array = np.ndarray[Any, Any]
# For each tensor its dtype, as safetensors spells it, and its shape; None stands for any size.
Layout = Mapping[str, tuple[str, tuple[int | None, ...]]]

REMEDY = "`dvc repro` makes it again"


def write_tensors(path: Path, tensors: Mapping[str, Array], **metadata: str) -> None:
    """Write named arrays of integers or floating-point numbers, with metadata.

    The bytes of the file depend on nothing else.
    """
    arrays = {
        name: np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        for name, array in tensors.items()
    }
    text = json.dumps({**metadata, "sha256": digest(arrays, metadata)}, sort_keys=True)
    # Not by `save_file`: it maps the file into memory, so that a full disk kills the process.
    write_bytes(path, save(arrays, {"about": text}))


def read_metadata(path: Path, remedy: str = REMEDY) -> dict[str, str]:
    """Return the metadata of a tensor file, with the key `sha256`.

    Raises `InputError` if `path` is no tensor file; the message ends with `remedy`.
    """
    with _open(path, remedy) as file:
        metadata = json.loads((file.metadata() or {}).get("about", "{}"))
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InputError(f"{path}: its metadata do not say what it holds; {remedy}")
    return metadata


def read_tensors(
    path: Path, layout: Layout, remedy: str = REMEDY, mmap: bool = False
) -> dict[str, Array]:
    """Return the arrays of a tensor file; with `mmap` they are views of the memory-mapped file.

    Raises `InputError` if the file is missing, cut short, altered, or not as `layout` says. The
    header is checked before a tensor is read, so that a forged one cannot claim memory.
    """
    metadata = read_metadata(path, remedy)
    # torch's reader maps the file into memory, NumPy's copies the tensors.
    with _open(path, remedy, "pt" if mmap else "numpy") as file:
        if problem := _mismatch(layout, file):
            raise InputError(f"{path}: {problem}; {remedy}")
        tensors = {name: np.asarray(file.get_tensor(name)) for name in layout}
    if metadata.pop("sha256", None) != digest(tensors, metadata):
        raise InputError(f"{path}: altered since it was written (its SHA-256 differs); {remedy}")
    return tensors


def digest(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> str:
    """Return the SHA-256 of metadata and of names, dtypes, shapes and values, sorted by name."""
    sha256 = hashlib.sha256()
    if metadata:
        sha256.update(f"{json.dumps(metadata, sort_keys=True)}\n".encode())
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        sha256.update(np.ascontiguousarray(tensor).data)
    return sha256.hexdigest()


@contextlib.contextmanager
def _open(path: Path, remedy: str, framework: str = "numpy") -> Iterator[safe_open]:
    refuse_irregular(path, remedy)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {remedy}") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a whole tensor file ({error}); {remedy}") from None


def _mismatch(layout: Layout, file: safe_open) -> str | None:
    """Return in words how the header of `file` differs from `layout`, or None."""
    if set(file.keys()) != set(layout):
        return f"holds {sorted(file.keys())} instead of {sorted(layout)}"
    for name, (dtype, shape) in layout.items():
        tensor = file.get_slice(name)
        found, found_shape = tensor.get_dtype(), tensor.get_shape()
        pairs = zip(shape, found_shape, strict=False)
        fits = len(shape) == len(found_shape) and all(size in (None, n) for size, n in pairs)
        if found != dtype or not fits:
            expected = ["any" if size is None else size for size in shape]
            return f"{name} is {found} {found_shape} instead of {dtype} {expected}"
    return None
