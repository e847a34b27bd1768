"""Files are written whole or not at all, and only where a file may be."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular, write_bytes, write_json
from stages.storage.tensors import write_tensors
from tests.helpers.project import ROOT, Project

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


@pytest.mark.parametrize("kind", ["link", "link to a device", "dangling link", "pipe", "folder"])
def test_only_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_bytes(b"precious")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {"link": victim, "dangling link": tmp_path / "none"}
        path.symlink_to(targets.get(kind, Path("/dev/null")))
    before = path.lstat()
    for write in WRITERS:
        with pytest.raises(InputError, match="file: is a link, a device, a pipe or a folder; "):
            write(path)
    assert path.lstat() == before
    assert victim.read_bytes() == b"precious"
    assert {*tmp_path.iterdir()} == {path, victim}


def test_a_link_that_somebody_made_for_the_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for write in WRITERS:
        (tmp_path / ".file.draft").symlink_to(victim)
        write(tmp_path / "file")
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "file").is_symlink()


WRITE_OFTEN = """
import sys
from pathlib import Path
from stages.storage.files import write_bytes
path, letter = Path(sys.argv[1]), sys.argv[2].encode()
for _ in range(300):
    write_bytes(path, 10_000 * letter)
"""


def test_writers_in_several_processes_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, path, letter], cwd=ROOT)
        for letter in "abcd"
    ]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            content = path.read_bytes()
            assert content == 10_000 * content[:1]
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


WRITE_WITHOUT_END = """
import sys
from pathlib import Path
from stages.storage.files import write_bytes
Path.replace = lambda *_: (print("begun", flush=True), sys.stdin.read())
write_bytes(Path(sys.argv[1]), b"longer than what comes next")
"""


def test_the_draft_of_a_killed_writer_is_used_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_WITHOUT_END, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert writer.stdout
    assert writer.stdout.readline() == b"begun\n"
    writer.kill()
    writer.communicate()
    assert list(tmp_path.iterdir()) == [tmp_path / ".file.draft"]
    write_bytes(path, b"whole")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"whole"


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    old = os.umask(0o027)
    try:
        for write in WRITERS:
            write(path)
            assert path.stat().st_mode & 0o777 == 0o640
            path.unlink()
    finally:
        os.umask(old)


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(InputError, match=r"is not a regular file; remove it$"):
            refuse_irregular(tmp_path / name, "remove it")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link", "none", "x" * 300, "\0"):
        refuse_irregular(tmp_path / name, "remove it")
