"""Splits on disk: images, labels, and what their data set says of them.

A split is a tensor file whose metadata hold a `DatasetInfo`, so that no code has to know the
shape of the images or the number of classes.
"""

from pathlib import Path

import numpy as np
from pydantic import ValidationError

from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.tensors import REMEDY, Array, Layout, read_metadata, read_tensors, write_tensors


def label_dtype(info: DatasetInfo) -> "np.dtype[np.unsignedinteger]":
    """Return the dtype of labels on disk: uint8, or uint16 of more than 256 classes."""
    return np.dtype(np.uint8 if len(info.classes) <= 256 else np.uint16)


def parse_info(path: Path, metadata: dict[str, str], remedy: str = REMEDY) -> DatasetInfo:
    """Return what the metadata of the tensor file `path` say of its data set.

    Raises `InputError` if they do not.
    """
    try:
        return DatasetInfo.model_validate_json(metadata.get("dataset", ""))
    except ValidationError as error:
        problem = error.errors()[0]["msg"].lower()
        raise InputError(
            f"{path}: its metadata do not describe a data set ({problem}); {remedy}"
        ) from None


def write_split(path: Path, info: DatasetInfo, tensors: dict[str, Array]) -> None:
    """Write images uint8 (N, C, H, W) and labels (N,)."""
    labels = tensors["labels"].astype(label_dtype(info))
    write_tensors(path, {**tensors, "labels": labels}, dataset=info.model_dump_json())


def read_split(path: Path, mmap: bool = False) -> tuple[DatasetInfo, dict[str, Array]]:
    """Return a data set, and the tensors of one of its splits.

    images: uint8 (N, C, H, W); labels: uint8 or uint16 (N,).

    Raises `InputError` as `read_tensors` does, and if the split is empty, if the tensors differ
    in length, or if a label is of no class.
    """
    info = parse_info(path, read_metadata(path))
    layout: Layout = {
        "images": ("U8", (None, *info.shape)),
        "labels": (f"U{8 * label_dtype(info).itemsize}", (None,)),
    }
    split = read_tensors(path, layout, mmap=mmap)
    lengths = {name: len(tensor) for name, tensor in split.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(
            f"{path}: its tensors need the same length above 0, but have {lengths}; {REMEDY}"
        )
    if (invalid := split["labels"] >= len(info.classes)).any():
        position = int(invalid.argmax())
        raise InputError(
            f"{path}: label {split['labels'][position]} of image {position} is not one of "
            f"the {len(info.classes)} classes; {REMEDY}"
        )
    return info, split
