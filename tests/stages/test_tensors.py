"""Tensor files: their bytes depend on their content alone, and every damage is noticed."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from stages.storage.errors import InputError
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import Array, read_metadata, read_tensors, write_tensors
from tests.helpers.cards import DIGITS
from tests.helpers.project import Project

# The tensor files that each stage reads.
INPUTS = {
    "prepare": ["data/raw/train.safetensors", "data/raw/test.safetensors"],
    "train": ["data/prepared/train.safetensors", "data/prepared/val.safetensors"],
    "evaluate": [
        "data/prepared/test.safetensors",
        "data/checkpoints/model.safetensors",
        "data/checkpoints/replicas.safetensors",
    ],
}


def random_split(n: int = 20) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
        "labels": random.integers(0, 10, n, dtype=np.uint8),
    }


def damaged(content: bytes) -> tuple[bytes, bytes]:
    """Return the content without its last bytes, and with its last bit flipped."""
    return content[:-100], content[:-1] + bytes([content[-1] ^ 1])


def replace(path: Path, content: bytes) -> None:
    """Replace a file of DVC's; writing into it could change DVC's cache, which it may link to."""
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "split.safetensors"


def test_the_tensors_that_are_read_are_those_written(path: Path) -> None:
    write_split(path, DIGITS, random_split())
    info, split = read_split(path)
    assert info == DIGITS
    for name, tensor in split.items():
        np.testing.assert_array_equal(tensor, random_split()[name])


@pytest.mark.parametrize(
    "arrays",
    [
        random_split(),
        {"weight": np.ones((0, 10, 784), np.float32), "bias é": np.ones((0, 10), np.float32)},
        {"rows": np.eye(3), "model w": np.eye(4, dtype=np.float32), "unlogged": np.ones((0, 2))},
        {"transposed": np.arange(6, dtype=np.int64).reshape(2, 3).T},
        {"b": np.arange(3, dtype=">f8"), "a": np.ones(3, np.uint8)},
    ],
)
def test_the_bytes_of_a_file_are_those_of_safetensors(path: Path, arrays: dict[str, Array]) -> None:
    write_tensors(path, arrays, model='"é"', width="0")
    about = json.dumps({"sha256": read_metadata(path)["sha256"], "model": '"é"', "width": "0"})
    about = json.dumps(json.loads(about), sort_keys=True)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    assert path.read_bytes() == save(arrays, {"about": about})


def test_a_pipe_or_a_device_is_refused(path: Path) -> None:
    os.mkfifo(path)
    zero = path.with_name("zero")
    zero.symlink_to("/dev/zero")
    for file in (path, zero):
        with pytest.raises(InputError, match="is not a regular file; `dvc repro` makes it again"):
            read_metadata(file)


def test_the_bytes_of_a_file_depend_on_its_content_alone(path: Path, tmp_path: Path) -> None:
    in_other_order = dict(reversed(random_split().items()))
    in_other_order["images"] = np.asfortranarray(in_other_order["images"])
    write_tensors(path, random_split(), b="2", a="1")
    write_tensors(tmp_path / "other", in_other_order, a="1", b="2")
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_everybody_may_read_the_file(path: Path) -> None:
    write_tensors(path, random_split())
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_cut_or_a_flipped_bit_is_noticed(path: Path) -> None:
    write_split(path, DIGITS, random_split(2))
    content = path.read_bytes()
    random = np.random.default_rng(0)
    random_lengths = random.integers(10, len(content), 30).tolist()
    for length in [0, 1, 7, 8, 9, len(content) - 1, *random_lengths]:
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"split.safetensors: .*; `dvc repro` makes it again"):
            read_split(path)
    for bit in random.integers(0, 8 * len(content), 300).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        # A flipped space around the JSON of the header is no damage.
        if header(flipped) != header(content) or bit // 8 >= header_end(content):
            with pytest.raises(InputError, match=r"split\.safetensors: "):
                read_split(path)


def header_end(content: bytes | bytearray) -> int:
    """Return the position behind the header of a tensor file; its length is the first 8 bytes."""
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def header(content: bytes | bytearray) -> object:
    """Return the header of a tensor file, or None if it is no JSON."""
    try:
        return json.loads(content[8 : header_end(content)])
    except (ValueError, OverflowError):
        return None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full(20, 10, np.uint8)}, "label 10 of image 0 is not one of the 10 classes"),
        ({"labels": np.zeros(19, np.uint8)}, "its tensors need the same length above 0"),
        (
            random_split(0),
            "its tensors need the same length above 0, but have {'images': 0, 'labels': 0}",
        ),
        ({"labels": np.zeros(20, np.int64)}, r"labels is I64 \[20\] instead of U8 \['any'\]"),
        ({"images": np.zeros((20, 784), np.uint8)}, r"images is U8 \[20, 784\] instead of U8"),
        ({"images": np.zeros((20, 1, 28, 27), np.uint8)}, "images is U8"),
        ({"extra": np.zeros(1, np.uint8)}, "holds .* instead of"),
    ],
)
def test_tensors_that_are_no_split_are_refused(
    path: Path, changes: dict[str, Array], message: str
) -> None:
    write_tensors(path, {**random_split(), **changes}, dataset=DIGITS.model_dump_json())
    with pytest.raises(InputError, match=message):
        read_split(path)


def test_a_file_without_a_checksum_is_refused(path: Path) -> None:
    about = json.dumps({"dataset": DIGITS.model_dump_json()})
    save_file(random_split(), path, {"about": about})
    with pytest.raises(InputError, match="altered since it was written"):
        read_split(path)


def test_a_missing_file_is_refused_with_a_remedy(path: Path) -> None:
    with pytest.raises(InputError, match=r"split.safetensors: not found; `dvc repro`"):
        read_tensors(path, {})


@pytest.mark.parametrize(
    ("stage", "file"), [(stage, file) for stage, files in INPUTS.items() for file in files]
)
def test_a_stage_refuses_a_damaged_input(
    project: Project, stage: str, file: str, refusal: Callable[[str], str]
) -> None:
    for content in damaged((project.path / file).read_bytes()):
        replace(project.path / file, content)
        assert refusal(stage).startswith(f"{file}: ")
    assert project.status() == ""


@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_dvc_repro_restores_damaged_files(project: Project, damage: str) -> None:
    paths = [project.path / file for files in INPUTS.values() for file in files]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents, strict=True):
        cut, altered = damaged(content)
        replace(path, cut if damage == "cut" else altered)
    project.run("dvc", "repro")
    assert [path.read_bytes() for path in paths] == contents
    assert project.status() == ""
