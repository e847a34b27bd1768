"""Splits on disk: images, labels, and what their data set says of them.

A split is a tensor file whose metadata hold a `DatasetInfo`, so that no code has to know the
shape of the images or the number of classes.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from stages.storage.errors import InputError
from stages.storage.tensors import REMEDY, Array, Layout, read_metadata, read_tensors, write_tensors

MAX_CLASSES = 1_000
MAX_SIZE = 128  # pixels
MIN_SIZE = 8
Side = Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)]
ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# strokes: light strokes on black, which are cut out and centred | light_on_black: other light
# things on black | natural: pictures as they are
Style = Literal["strokes", "light_on_black", "natural"]


class DatasetInfo(BaseModel):
    """What a data set says of its images: their shape, their classes, and how they look."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    title: str
    # In YAML and JSON both are lists.
    shape: Annotated[tuple[Literal[1, 3], Side, Side], Field(strict=False)]  # C, H, W
    classes: Annotated[
        tuple[ClassName, ...], Field(strict=False, min_length=2, max_length=MAX_CLASSES)
    ]
    style: Style
    ink_box: Annotated[int, Field(gt=0)] | None = None  # pixels that strokes are scaled to fit

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shape[1] != self.shape[2]:
            raise ValueError(f"images of {self.shape[1]} x {self.shape[2]} pixels are not square")
        if (self.style == "strokes") != (self.ink_box is not None):
            raise ValueError("ink_box is given just where the style is strokes")
        if self.ink_box and self.ink_box > self.shape[1]:
            raise ValueError(f"ink_box is larger than the image, {self.shape[1]} pixels")
        if self.ink_box and self.shape[0] != 1:
            raise ValueError("strokes are grey: their images have one channel")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("two classes have the same name")
        if names := [name for name in self.classes if not name.isprintable()]:
            raise ValueError(f"the class name {names[0]!r} cannot be printed")
        return self

    @property
    def label_dtype(self) -> "np.dtype[np.unsignedinteger]":
        """The dtype of labels on disk: uint8, or uint16 where there are more than 256 classes."""
        return np.dtype(np.uint8 if len(self.classes) <= 256 else np.uint16)


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
    """Write images uint8 (N, C, H, W), labels (N,), and perhaps index int32 (N,)."""
    labels = tensors["labels"].astype(info.label_dtype)
    write_tensors(path, {**tensors, "labels": labels}, dataset=info.model_dump_json())


def read_split(
    path: Path, with_index: bool = True, mmap: bool = False
) -> tuple[DatasetInfo, dict[str, Array]]:
    """Return a data set, and the tensors of one of its splits: images, labels and perhaps index.

    images: uint8 (N, C, H, W); labels: uint8 or uint16 (N,); index: int32 (N,), the position of
    each image in its raw split, which the files of `data/raw` lack.

    Raises `InputError` as `read_tensors` does, and if the split is empty, if the tensors differ
    in length, or if a label is of no class.
    """
    info = parse_info(path, read_metadata(path))
    layout: Layout = {
        "images": ("U8", (None, *info.shape)),
        "labels": (f"U{8 * info.label_dtype.itemsize}", (None,)),
    }
    if with_index:
        layout = {**layout, "index": ("I32", (None,))}
    split = read_tensors(path, layout, mmap=mmap)
    lengths = {name: len(tensor) for name, tensor in split.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise InputError(
            f"{path}: its tensors need the same length above 0, but have {lengths}; {REMEDY}"
        )
    if (invalid := split["labels"] >= len(info.classes)).any():
        position = int(invalid.argmax())
        raise InputError(
            f"{path}: label {split['labels'][position]} of image {position} is none of the "
            f"{len(info.classes)} classes; {REMEDY}"
        )
    return info, split
