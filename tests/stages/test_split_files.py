"""Splits and what they say of their data set: read as written, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from stages.storage.dataset_info import MAX_CLASSES, DatasetInfo
from stages.storage.errors import InputError
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import Array, write_tensors
from tests.helpers.cards import DIGITS
from tests.helpers.project import Project

VALUES: dict[str, Any] = {
    "title": "Parts",
    "shape": (3, 16, 16),
    "classes": ("bolt", "nut"),
    "style": "natural",
}


def random_split(info: DatasetInfo, n: int = 20) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (n, *info.shape), np.uint8),
        "labels": random.integers(0, len(info.classes), n),
    }


@pytest.mark.parametrize(
    ("classes", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.uint16), (1_000, np.uint16)]
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 128, 128)])
def test_a_split_of_any_shape_and_number_of_classes_is_read_as_written(
    tmp_path: Path, classes: int, dtype: type, shape: tuple[int, int, int]
) -> None:
    names = tuple(f"Klasse {number} é" for number in range(classes))
    info = DatasetInfo.model_validate({**VALUES, "shape": shape, "classes": names})
    split = random_split(info)
    split["labels"][0] = classes - 1
    write_split(tmp_path / "split", info, split)
    read_info, read = read_split(tmp_path / "split")
    assert read_info == info
    assert read["labels"].dtype == dtype
    assert read["images"].dtype == np.uint8
    for name, tensor in split.items():
        np.testing.assert_array_equal(read[name], tensor)
    split["labels"][7] = classes
    if classes != 256:  # which is 0 as uint8
        write_split(tmp_path / "split", info, split)
        with pytest.raises(InputError, match=rf"label {classes} of image 7 is not one of the"):
            read_split(tmp_path / "split")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (2, 16, 16)}, "Input should be 1 or 3"),
        ({"shape": (3, 16, 17)}, "images of 16 x 17 pixels are not square"),
        ({"shape": (3, 7, 7)}, "greater than or equal to 8"),
        ({"shape": (3, 225, 225)}, "less than or equal to 224"),
        ({"shape": (3, 16)}, "Field required"),
        ({"classes": ("bolt",)}, "at least 2 items"),
        ({"classes": tuple(map(str, range(MAX_CLASSES + 1)))}, "at most 1000 items"),
        ({"classes": ("bolt", "bolt")}, "two classes have the same name"),
        ({"classes": ("bolt", "")}, "at least 1 character"),
        ({"classes": ("bolt", "x" * 101)}, "at most 100 characters"),
        ({"classes": ("bolt", "\x1b[31m")}, r"the class name '\\x1b\[31m' cannot be printed"),
        ({"classes": (0, 1)}, "valid string"),
        ({"style": "cubist"}, "'strokes', 'light_on_black' or 'natural'"),
        ({"style": "strokes"}, "ink_box is given exactly when the style is strokes"),
        ({"ink_box": 8}, "ink_box is given exactly when the style is strokes"),
        ({"style": "strokes", "ink_box": 17}, "ink_box is larger than the image, 16 pixels"),
        ({"style": "strokes", "ink_box": 8}, "strokes are grey"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_data_set_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DatasetInfo.model_validate(VALUES | changes)


@pytest.mark.parametrize("metadata", [{}, {"dataset": "{}"}, {"dataset": "["}, {"dataset": "1"}])
def test_a_split_that_does_not_say_what_it_is_of_is_refused(
    tmp_path: Path, metadata: dict[str, str]
) -> None:
    tensors = random_split(DIGITS)
    write_tensors(tmp_path / "split", tensors, **metadata)
    message = r"split: its metadata do not describe a data set \(.*\); `dvc repro` makes it again"
    with pytest.raises(InputError, match=message):
        read_split(tmp_path / "split")


def test_evaluate_refuses_a_model_of_another_data_set(
    project: Project, refusal: Callable[[str], str]
) -> None:
    path = project.path / "data/prepared/test.safetensors"
    _, split = read_split(path)
    split = {name: tensor.copy() for name, tensor in split.items()}
    path.unlink()  # it may be a link into DVC's cache
    write_split(path, DIGITS.model_copy(update={"title": "Letters"}), split)
    message = "data/prepared/test.safetensors: of Letters, but the model was trained on 5,000 dig"
    assert refusal("evaluate").startswith(message)
