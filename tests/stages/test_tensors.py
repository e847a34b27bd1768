"""Tensor files: written whole or not at all, the same bytes every time, checked when read."""

import json
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.storage import tensors
from stages.storage.errors import InputError
from stages.storage.files import write_bytes, write_json
from stages.storage.tensors import RAW_LAYOUT, Array, read_split, read_tensors, write_tensors
from tests.helpers.project import Project


def split(n: int = 20) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (n, 1, 28, 28), dtype=np.uint8),
        "labels": random.integers(0, 10, n, dtype=np.uint8),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "split.safetensors"


def test_what_is_written_is_read(path: Path) -> None:
    write_tensors(path, split(), source="here")
    for name, tensor in read_split(path, RAW_LAYOUT).items():
        np.testing.assert_array_equal(tensor, split()[name])
    assert tensors.read_metadata(path)["source"] == "here"


def test_bytes_depend_on_content_alone(path: Path, tmp_path: Path) -> None:
    turned = dict(reversed(split().items()))
    turned["images"] = np.asfortranarray(turned["images"])
    write_tensors(path, split(), b="2", a="1")
    write_tensors(tmp_path / "other", turned, a="1", b="2")
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_others_may_read_what_is_written(path: Path) -> None:
    write_tensors(path, split())
    assert path.stat().st_mode & 0o777 == 0o644


def test_every_cut_and_every_flipped_bit_is_noticed(path: Path) -> None:
    write_tensors(path, split(2))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for cut in [0, 1, 7, 8, 9, len(whole) - 1, *random.integers(10, len(whole), 30).tolist()]:
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"split.safetensors: .*; `dvc repro` makes it again"):
            read_split(path, RAW_LAYOUT)
    for bit in random.integers(0, 8 * len(whole), 300).tolist():
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if json_of(flipped) != json_of(bytearray(whole)) or bit // 8 >= header_end(whole):
            with pytest.raises(InputError, match=r"split\.safetensors: "):
                read_split(path, RAW_LAYOUT)


def header_end(content: bytes | bytearray) -> int:
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def json_of(content: bytearray) -> object:
    try:
        return json.loads(content[8 : header_end(content)])
    except (ValueError, OverflowError):
        return None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.full(20, 10, np.uint8)}, "label 10 of image 0 is not a digit from 0 to 9"),
        ({"labels": np.zeros(19, np.uint8)}, "its tensors need the same length above 0"),
        (split(0), "its tensors need the same length above 0, but have {'images': 0, 'labels': 0}"),
        ({"labels": np.zeros(20, np.int64)}, r"labels is I64 \[20\] instead of U8 \['any'\]"),
        ({"images": np.zeros((20, 784), np.uint8)}, r"images is U8 \[20, 784\] instead of U8"),
        ({"images": np.zeros((20, 1, 28, 27), np.uint8)}, "images is U8"),
        ({"extra": np.zeros(1, np.uint8)}, "holds .* instead of"),
    ],
)
def test_another_content_is_refused(path: Path, change: dict[str, Array], said: str) -> None:
    write_tensors(path, {**split(), **change})
    with pytest.raises(InputError, match=said):
        read_split(path, RAW_LAYOUT)


def test_a_file_that_another_program_wrote_is_refused(path: Path) -> None:
    save_file(split(), path)
    with pytest.raises(InputError, match="altered since it was written"):
        read_split(path, RAW_LAYOUT)


def test_a_missing_file_is_named_with_its_remedy(path: Path) -> None:
    with pytest.raises(InputError, match=r"split.safetensors: not found; `dvc repro`"):
        read_tensors(path, RAW_LAYOUT)


@pytest.mark.parametrize("old", [b"old", None])
def test_a_full_disk_loses_nothing(path: Path, old: bytes | None) -> None:
    if old:
        path.write_bytes(old)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands for the full disk: both fail in the middle of writing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        attempts: list[Callable[[], None]] = [
            lambda: write_tensors(path, split()),
            lambda: write_bytes(path, bytes(2_000)),
            lambda: write_json(path, {"a": "b" * 2_000}),
        ]
        for attempt in attempts:
            with pytest.raises(InputError, match=r"cannot be written .*; make room"):
                attempt()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(path.parent.iterdir()) == ([path] if old else [])
    if old:
        assert path.read_bytes() == old


def test_json_has_no_infinity(path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"loss": float("inf")})
    assert not path.exists()


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("prepare", "data/raw/train.safetensors"),
        ("prepare", "data/raw/test.safetensors"),
        ("train", "data/prepared/train.safetensors"),
        ("train", "data/prepared/val.safetensors"),
        ("evaluate", "data/prepared/test.safetensors"),
        ("evaluate", "data/checkpoints/model.safetensors"),
        ("evaluate", "data/checkpoints/replicas.safetensors"),
    ],
)
def test_a_stage_refuses_a_damaged_input(project: Project, stage: str, file: str) -> None:
    path = project.path / file
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    path.unlink()
    for content in (whole[:-100], damaged):
        path.write_bytes(content)
        assert project.refused(stage).startswith(f"{file}: ")
    assert project.status() == ""
    project.run("dvc", "repro")  # which finds the damage and mends it
    assert path.read_bytes() == whole
    assert project.status() == ""


def test_evaluate_refuses_the_checkpoint_of_another_model(project: Project) -> None:
    path = project.path / "data/checkpoints/model.safetensors"
    weights = {"weight": np.zeros((10, 784), np.float32), "bias": np.zeros(10, np.float32)}
    path.unlink()
    write_tensors(path, weights, model="forest")
    assert "holds no model of linear, mlp, cnn but 'forest'" in project.refused("evaluate")
    for width in ("", "0", "513", "-1", "9" * 5_000, "²", "wide"):
        write_tensors(path, weights, model="cnn", width=width)
        assert f"{width[:9]!r} is no width of cnn" in project.refused("evaluate")
    write_tensors(path, {**weights, "bias": np.zeros(9, np.float32)}, model="linear", width="0")
    assert "bias is F32 [9] instead of F32 [10]" in project.refused("evaluate")
    write_tensors(
        path, {**weights, "bias": np.full(10, np.nan, np.float32)}, model="linear", width="0"
    )
    assert "logits that are not finite" in project.refused("evaluate")


def test_a_refusal_of_evaluate_leaves_the_last_results(project: Project) -> None:
    """A good checkpoint and val, a broken test: neither split's results are replaced."""
    before = {path: path.read_bytes() for path in project.path.glob("data/logits/*")}
    assert len(before) == 2
    test = project.path / "data/prepared/test.safetensors"
    whole = test.read_bytes()
    test.unlink()
    test.write_bytes(whole[:-1])
    checkpoint = project.path / "data/checkpoints/model.safetensors"
    checkpoint.unlink()
    weights = {"weight": np.zeros((10, 784), np.float32), "bias": np.zeros(10, np.float32)}
    write_tensors(checkpoint, weights, model="linear", width="0")
    assert project.refused("evaluate").startswith("data/prepared/test.safetensors: ")
    assert {path: path.read_bytes() for path in before} == before
    assert project.status() == ""


def test_a_folder_that_cannot_be_is_named(tmp_path: Path, project: Project) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/sub/x: cannot be written"):
        write_bytes(tmp_path / "file/sub/x", b"")
    shutil.rmtree(project.path / ".dvc/tmp")
    (project.path / ".dvc/tmp").touch()
    assert ".dvc/tmp/train: cannot be used" in project.refused("train")
