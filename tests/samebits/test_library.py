"""The compiled kernels: built when they have to be, checked, and refused in a sentence."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from samebits import library, self_check
from tests.helpers.project import ROOT, Project

MACHINE = platform.machine()
# The options of gcc and clang for each instruction set.
SETS = {
    "x86_64": {
        "AVX512": "-mavx512f -mavx512vl -mavx512bw -mavx512dq -mavx2 -mfma",
        "AVX2": "-mavx2 -mfma",
        "DEFAULT": "",
    },
    "aarch64": {"DEFAULT": ""},
}
USE = "import samebits, torch; print(samebits.exp(torch.zeros(1)).item())"


def use(
    cache: Path, folder: Path = ROOT, code: str = USE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Compute something by kernels in a cache of their own, and the package in `folder`."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "SAMEBITS_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: samebits: ")
    return last


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    assert use(cache).stdout == "1.0\n"
    return cache


def test_all_instruction_sets_are_compiled_once(built: Path) -> None:
    [folder] = built.iterdir()
    libraries = [Path(library.file_name(MACHINE, name)) for name in SETS[MACHINE]]
    names = {str(path.with_suffix(end)) for path in libraries for end in (".so", ".sha256")}
    assert {path.name for path in folder.iterdir()} == names
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert use(built).stdout == "1.0\n"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "damage",
    [
        "flipped",
        "no hash",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("cut", "empty", "gone", "no text")
        ),
    ],
)
def test_a_damaged_library_is_compiled_again(built: Path, tmp_path: Path, damage: str) -> None:
    cache = Path(shutil.copytree(built, tmp_path / "cache"))
    path = next(cache.glob(f"*/{library.file_name(MACHINE, library.chosen_set())}"))
    noted = path.with_suffix(".sha256")
    whole = path.read_bytes()
    middle = len(whole) // 2
    match damage:
        case "flipped":
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        case "cut" | "empty":
            path.write_bytes(whole[: middle if damage == "cut" else 0])
        case "gone":
            path.unlink()
        case "no hash":
            noted.unlink()
        case "no text":
            noted.write_bytes(b"\xff")
    assert use(cache).stdout == "1.0\n"
    assert path.read_bytes() == whole  # the compiler's output is the same each time


def test_processes_that_compile_at_once_do_not_disturb_one_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", USE]
    environment = {**os.environ, "SAMEBITS_CACHE": str(tmp_path)}
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in running] == ["1.0\n"] * 2


def test_kernels_for_another_kind_of_computer_are_no_obstacle(built: Path, tmp_path: Path) -> None:
    """Where an environment is on a disk of several computers."""
    cache = Path(shutil.copytree(built, tmp_path / "cache"))
    other = next(machine for machine in SETS if machine != MACHINE)
    done = use(cache, code=f"from samebits.library import build; build({other!r})")
    assert done.returncode == 0, done.stderr
    [folder] = cache.iterdir()
    assert folder.joinpath(library.file_name(other, "DEFAULT")).read_bytes()[:4] == b"\x7fELF"
    assert use(cache).stdout == "1.0\n"


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the place of a folder")
    done = use(tmp_path / "file")
    assert "cannot write its compiled kernels" in sentence(done)
    assert "set SAMEBITS_CACHE to a folder" in sentence(done)


@pytest.mark.parametrize("place", ["the cache", "its folder", "a library", "a link"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_cache_that_others_can_write_is_refused(built: Path, tmp_path: Path, place: str) -> None:
    cache = Path(shutil.copytree(built, tmp_path / "cache"))
    [folder] = cache.iterdir()
    if place == "the cache":
        cache.chmod(0o777)
    elif place == "its folder":
        os.chown(folder, 1234, 1234)
    elif place == "a library":
        for path in folder.glob("*.so"):
            os.chown(path, 1234, 1234)
    else:
        theirs = folder.rename(tmp_path / "theirs")
        os.chown(theirs, 1234, 1234)
        folder.symlink_to(theirs)
    assert "belongs to others, or they may write it; set SAMEBITS_CACHE" in sentence(use(cache))


def test_a_compiler_that_fails_is_named(tmp_path: Path) -> None:
    package = tmp_path / "site/ziglang"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys; sys.exit('error: out of order')")
    done = use(tmp_path / "cache", PYTHONPATH=str(package.parent))
    name = library.chosen_set()
    assert f"cannot compile the kernels for {name}: error: out of order" in sentence(done)
    assert f"pip install ziglang=={library.ZIG_VERSION}" in sentence(done)


def test_kernels_that_compute_other_bits_are_refused(tmp_path: Path) -> None:
    """A compiler that multiplies and adds in two operations."""
    shutil.copytree(ROOT / "samebits", tmp_path / "samebits")
    vectors = tmp_path / "samebits/kernels/vectors.h"
    text = vectors.read_text()
    fused = "return __builtin_elementwise_fma(a, b, c);"
    assert fused in text
    vectors.write_text(text.replace(fused, "return a * b + c;"))
    done = use(tmp_path / "cache", tmp_path)
    assert "compute other bits than they should" in sentence(done)


def test_a_stage_without_kernels_says_so_in_a_line(small_reproduced: Project) -> None:
    command = ["env", "SAMEBITS_CACHE=/dev/null", sys.executable, "-m", "stages", "train"]
    done = small_reproduced.run(*command, ok=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "set SAMEBITS_CACHE" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O1", "-O3"])
@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig"])
def test_other_compilers_give_the_same_bits(
    compiler: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler == "zig":
        command = [sys.executable, "-m", "ziglang", "cc"]
    elif shutil.which(compiler):
        command = [compiler]
    else:
        pytest.skip(f"{compiler} is not installed")
    name = library.chosen_set()
    flags = [flag for flag in library.FLAGS if not flag.startswith("-O")]
    options = SETS[MACHINE][name].split()
    if compiler == "zig":
        options = library.instruction_sets(MACHINE)[name]
    path = tmp_path / "kernels.so"
    problem = library.compile_kernels([*command, level, *flags, *options], path, dict(os.environ))
    assert not problem
    compiled = library.with_types(ctypes.CDLL(str(path)))
    monkeypatch.setattr(library, "_library", compiled)
    assert self_check.digest_of_step() == self_check.EXPECTED
