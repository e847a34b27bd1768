"""Hostile files: each is refused with a message, in bounded memory, and none is ever run."""

import json
import os
import pickle
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fairtrial.project import errors
from fairtrial.project.scores import load_scores
from stages import check
from stages.storage.errors import InputError, run
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import read_metadata
from tests.helpers.cards import DIGITS, SOURCES
from tests.helpers.project import DEFAULT, HAS_SWEEPS, ROOT, Project

pytestmark = pytest.mark.usefixtures("valid_default")
GOOD = (DEFAULT / "params.yaml").read_bytes()
# What stands in a YAML file: values that people write, signs that mean something, and worse.
WORDS = [
    *"1e-05 010 yes null ~ .inf .nan -1 1.5 true 2026-11-20 0x1F 1_000 1:30 !!binary".split(),
    *"!!python/object:os.system !!float !!set << &a *a | > ' [ ] { } , : - ? # % @ `".split(),
    *("\t", "\n", "\n  ", "  ", "\x00", "\x7f", "\ufeff", "\u2028", "é", "🙂", "---\n", "...\n"),
    *"fetch train lr epochs seed source sources/mnist-5k.yaml".split(),
    "[" * 2_000,
    "{a: " * 2_000,
    "9" * 5_000,
]


@st.composite
def changed_params(draw: st.DrawFn) -> bytes:
    """The committed file after a few cuts, insertions and repetitions."""
    content = GOOD
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        stop = draw(st.integers(start, min(len(content), start + 30)))
        filling = draw(
            st.sampled_from(WORDS).map(str.encode)
            | st.binary(max_size=4)
            | st.just(content[start:stop] * 2)
        )
        content = content[:start] + filling + content[stop:]
    return content


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    "lr seed epochs source size mode test_fraction sampling train_size model lrr".split()
)
SECTIONS = st.sampled_from("fetch prepare train evaluate trian".split())


@st.composite
def other_params(draw: st.DrawFn) -> bytes:
    """A YAML file of other values in the right places, or of other sections and keys."""
    values = YAML(typ="safe").load(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        section = draw(SECTIONS)
        if draw(st.booleans()):
            values[section] = draw(VALUES)
        elif isinstance(values.setdefault(section, {}), dict):
            values[section][draw(KEYS)] = draw(VALUES)
    return json.dumps(values).encode()  # JSON is YAML


@pytest.mark.parametrize("examples", [500, pytest.param(3_000, marks=pytest.mark.slow)])
def test_no_params_file_gets_more_than_a_message(
    examples: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sources").symlink_to(SOURCES)
    refused = 0

    @settings(max_examples=examples)
    @given(changed_params() | other_params() | st.binary(max_size=60))
    def try_one(content: bytes) -> None:
        nonlocal refused
        Path("params.yaml").write_bytes(content)
        Path("data/params.ok").unlink(missing_ok=True)
        try:
            run(check.main)
        except SystemExit as stop:
            refused += 1
            assert stop.code == 2
            assert not Path("data/params.ok").exists()
            message = capfd.readouterr().err
            assert message
            for line in message.splitlines():
                assert line.startswith("params.yaml: ")
                assert len(line) < 500
        else:
            assert Path("data/params.ok").read_bytes() == b"params.yaml is valid\n"

    try_one()
    assert refused >= 2 / 3 * examples


TEXTS = ["{}", "[]", "{", '{"sha256": 1}', '{"model": []}', "null", "", "[" * 100_000]


def tensor_file(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


@st.composite
def lying_headers(draw: st.DrawFn) -> bytes:
    """A well-formed header that is wrong about dtypes, shapes, places or what the file holds."""
    sizes = st.sampled_from([-1, 0, 1, 2, 20, 784, 2**31, 2**40, 2**63, 2**64, 1.5, "x", None])
    header: dict[str, object] = {}
    for name in draw(st.lists(st.sampled_from(["images", "labels", "weight", ""]), max_size=3)):
        header[name] = {
            "dtype": draw(st.sampled_from(["U8", "I64", "F64", "F8_E4M3", "BOOL", "U9", "", 8])),
            "shape": draw(st.lists(sizes, max_size=5) | st.just([20, 1, 28, 28])),
            "data_offsets": [draw(sizes), draw(sizes)],
        }
    if draw(st.booleans()):
        about = draw(st.sampled_from(TEXTS))
        header["__metadata__"] = {"about": about}
    data = draw(st.binary(max_size=50)) * draw(st.integers(0, 400))
    length = draw(st.none() | st.sampled_from([0, 1, 2**31, 2**63 - 1, 2**64 - 1]))
    return tensor_file(json.dumps(header).encode(), data, length)


def test_no_tensor_file_gets_more_than_a_message(tmp_path: Path) -> None:
    path = tmp_path / "split.safetensors"
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    write_split(path, DIGITS, {"images": images, "labels": np.zeros(20, np.uint8)})
    whole = path.read_bytes()
    header_size = 8 + struct.unpack("<Q", whole[:8])[0]

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        # Half of the changes into the header, where they mean most.
        start = draw(st.integers(0, header_size) | st.integers(0, len(whole) - 1))
        stop = draw(st.integers(start, min(len(whole), start + 8)))
        return whole[:start] + draw(st.binary(max_size=8)) + whole[stop:]

    refused = 0

    @settings(max_examples=1_000)
    @given(changed() | lying_headers() | st.binary(max_size=100))
    def try_one(content: bytes) -> None:
        nonlocal refused
        path.write_bytes(content)
        tracemalloc.start()
        try:
            read_metadata(path)
            _, split = read_split(path)
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
        else:
            assert (split["images"] == images).all()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1_000_000

    try_one()
    assert refused >= 500


@pytest.mark.parametrize("name", ["metrics/scores.csv", "params.yaml"])
def test_a_pipe_in_the_workspace_is_refused(
    small_project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(small_project.path)
    Path(name).unlink()
    os.mkfifo(name)
    with pytest.raises(errors.InputError, match=f"{name}: is not a regular file; remove it"):
        load_scores("workspace", "val")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_a_pickle_is_not_run(small_project: Project) -> None:
    for file, stage in (
        ("data/checkpoints/model.safetensors", "evaluate"),
        ("data/prepared/val.safetensors", "train"),
        ("data/raw/test.safetensors", "prepare"),
    ):
        (small_project.path / file).write_bytes(pickle.dumps(Bomb()))
        assert small_project.refused(stage).startswith(f"{file}: not a whole tensor file")
    assert not (small_project.path / "exploded").exists()


def test_no_code_of_ours_can_unpickle() -> None:
    able = re.compile(
        r"(?<!allow_)pickle|allow_pickle(?!=False)|torch\.load|np\.load\b|joblib|shelve|marshal|(?<!\.)\b(eval|exec)\("
    )
    # A sweep sends its function to Dask's workers as it is; no file is read so.
    sends = ["import cloudpickle", "cloudpickle.register_pickle_by_value(worker)"]
    folders = ("anypictures", "stages", "samebits", "fairtrial", "tools")
    files = [file for folder in folders for file in ROOT.glob(f"{folder}/**/*.py")]
    assert len(files) > 40
    found = [
        (file.stem, line.partition("  #")[0].strip())
        for file in files
        for line in file.read_text().splitlines()
        if able.search(line)
    ]
    assert found == [("client", line) for line in sends if HAS_SWEEPS]
