"""Tensors on disk, checked when they are read.

A tensor file is safetensors with one metadata key, `about`: JSON with the SHA-256 of the
tensors, by which a flipped bit is noticed, and whatever else the writer says. One key,
because safetensors writes several in random order.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from stages.storage.errors import InputError
from stages.storage.files import atomic_replace

Array = np.ndarray[Any, Any]
# Of each tensor the dtype, as safetensors spells it, and the shape, None being any size.
Layout = Mapping[str, tuple[str, tuple[int | None, ...]]]

RAW_LAYOUT: Layout = {"images": ("U8", (None, 1, 28, 28)), "labels": ("U8", (None,))}
PREPARED_LAYOUT: Layout = {
    **RAW_LAYOUT,
    "index": ("I32", (None,)),
}  # the image's place in the raw split

REMEDY = "`dvc repro` makes it again"


def write_tensors(path: Path, tensors: Mapping[str, Array], **about: str) -> None:
    """Write named arrays and facts about them, as bytes that depend on nothing else."""
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    facts = json.dumps({**about, "sha256": digest(arrays, about)}, sort_keys=True)
    with atomic_replace(path) as draft:
        try:
            save_file(arrays, draft, {"about": facts})
        except SafetensorError as error:
            raise OSError(error) from None
        draft.chmod(0o644)  # safetensors leaves it to its owner alone


def read_metadata(path: Path, remedy: str = REMEDY) -> dict[str, str]:
    """Return the facts about the tensors of `path`; raises `InputError` if it is no tensor file."""
    with _open(path, remedy) as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
    if not isinstance(about, dict) or not all(isinstance(fact, str) for fact in about.values()):
        raise InputError(f"{path}: does not say what it holds; {remedy}")
    return about


def read_tensors(
    path: Path, layout: Layout, remedy: str = REMEDY, mapped: bool = False
) -> dict[str, Array]:
    """Return the arrays of `path`; if `mapped`, by torch, they stay in the file and are not copied.

    Raises `InputError` if the file is missing, cut short, altered, or not as `layout` says. The
    header is compared before a tensor is read, so that a false one claims no memory.
    """
    about = read_metadata(path, remedy)
    with _open(path, remedy, "pt" if mapped else "numpy") as file:
        if problem := _mismatch(layout, file):
            raise InputError(f"{path}: {problem}; {remedy}")
        tensors = {name: np.asarray(file.get_tensor(name)) for name in layout}
    if about.pop("sha256", None) != digest(tensors, about):
        raise InputError(f"{path}: altered since it was written (its SHA-256 differs); {remedy}")
    return tensors


def read_split(path: Path, layout: Layout, mapped: bool = False) -> dict[str, Array]:
    """Return the tensors of a split of the data, one entry an image in each.

    `mapped` is as for `read_tensors`. Raises `InputError` as that does, without an image, if the
    counts differ, or at a label above 9.
    """
    split = read_tensors(path, layout, mapped=mapped)
    counts = {name: len(tensor) for name, tensor in split.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise InputError(f"{path}: as many of each are needed, but there are {counts}; {REMEDY}")
    if (wrong := split["labels"] > 9).any():
        place = int(wrong.argmax())
        label = split["labels"][place]
        raise InputError(f"{path}: label {label} of image {place} is not a digit 0 to 9; {REMEDY}")
    return split


def digest(tensors: Mapping[str, Array], about: Mapping[str, str] | None = None) -> str:
    """Return the SHA-256 of the facts and of names, dtypes, shapes and values, in order of name."""
    sha256 = hashlib.sha256()
    if about:
        sha256.update(f"{json.dumps(about, sort_keys=True)}\n".encode())
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        sha256.update(np.ascontiguousarray(tensor).data)
    return sha256.hexdigest()


@contextlib.contextmanager
def _open(path: Path, remedy: str, framework: str = "numpy") -> Iterator[safe_open]:
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {remedy}") from None
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a whole tensor file ({error}); {remedy}") from None


def _mismatch(layout: Layout, file: safe_open) -> str | None:
    """Return how the header of `file` differs from `layout`, in words."""
    if set(file.keys()) != set(layout):
        return f"holds {sorted(file.keys())} instead of {sorted(layout)}"
    for name, (dtype, shape) in layout.items():
        tensor = file.get_slice(name)
        found = tensor.get_shape()
        fits = len(found) == len(shape) and all(
            size in (None, actual) for size, actual in zip(shape, found, strict=True)
        )
        if tensor.get_dtype() != dtype or not fits:
            wanted = ["any" if size is None else size for size in shape]
            return f"{name} is {tensor.get_dtype()} {found} instead of {dtype} {wanted}"
    return None
