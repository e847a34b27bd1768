"""Files are written whole or not at all."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.storage.errors import InputError
from stages.storage.files import write_bytes, write_json
from stages.storage.tensors import write_tensors
from tests.helpers.project import Project

WRITERS: list[Callable[[Path], None]] = [
    lambda path: write_bytes(path, bytes(2_000)),
    lambda path: write_json(path, {"a": "b" * 2_000}),
    lambda path: write_tensors(path, {"a": np.zeros(2_000)}),
]


@pytest.mark.parametrize("old_content", [b"old", None])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, old_content: bytes | None) -> None:
    path = tmp_path / "file"
    if old_content:
        path.write_bytes(old_content)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A limit on the size of files stands for the full disk: both fail in the middle of writing.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        for write in WRITERS:
            with pytest.raises(InputError, match=r"file: cannot be written .*; make room"):
                write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == ([path] if old_content else [])
    if old_content:
        assert path.read_bytes() == old_content


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/sub/x: cannot be written"):
        write_bytes(tmp_path / "file/sub/x", b"")


def test_train_refuses_a_folder_for_its_state_that_cannot_be_made(
    project: Project, refusal: Callable[[str], str]
) -> None:
    shutil.rmtree(project.path / ".dvc/tmp")
    (project.path / ".dvc/tmp").touch()
    assert refusal("train").startswith(".dvc/tmp/train: cannot be used")


def test_infinity_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file", {"loss": float("inf")})
    assert list(tmp_path.iterdir()) == []
