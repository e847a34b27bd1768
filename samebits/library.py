"""The kernels in C: compiled once, for every instruction set; chosen, checked and called.

The Zig compiler, which comes as a Python package, compiles `kernels/*.c` into shared libraries.
They are kept in the environment of Python under a hash of the sources and of the command. A library
is loaded if its own hash is that which was noted when it was built, and used if it computes a small
training step to the expected bits.
"""

import ctypes
import functools
import hashlib
import os
import platform
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

KERNELS = Path(__file__).parent / "kernels"
ZIG_VERSION = "0.17.1"
FLAGS = (
    "-O3 -std=gnu11 -ffp-contract=off -fno-math-errno -shared -fPIC -nostdlib -s -Wall -Wextra"
).split()
# For each kind of computer: the instruction sets by torch's names, which are found on the CPU
# unless ATEN_CPU_CAPABILITY sets one, and the compiler's options.
SETS = {
    "x86_64": {
        "AVX512": ["-target", "x86_64-linux-gnu", "-mcpu=x86_64_v4", "-mprefer-vector-width=512"],
        "AVX2": ["-target", "x86_64-linux-gnu", "-mcpu=x86_64_v3"],
        "DEFAULT": ["-target", "x86_64-linux-gnu", "-mcpu=x86_64"],
    },
    "aarch64": {"DEFAULT": ["-target", "aarch64-linux-gnu", "-mcpu=generic"]},
}
# The arguments of the kernels: n a number, p a pointer, d a double, f a float.
SIGNATURES = {
    "convolve": "nnppppppp",
    "weights_gradient": "nnpnnppppp",
    "images_gradient": "nnpppppp",
    "pack_weights": "nnnpnnnnp",
    "unpack_sums": "nnnpnnnnnp",
    "image_statistics": "nnppp",
    "normalization_constants": "ppppppfdpp",
    "normalize": "nnpppp",
    "gradient_sums": "nnppppp",
    "gradient_constants": "pppppp",
    "normalize_gradient": "nnppppp",
    "dense": "nnppppp",
    "dense_gradient": "nnppppp",
    "exp_all": "npp",
    "log_all": "npp",
    "softmax_cross_entropies": "nnppdpp",
    "are_labels": "nnp",
    "mean_losses": "nnnppdpppp",
    "sgd": "npppffnf",
    "adam": "nppppp",
    "scale_bytes": "npp",
}


class Pointer(ctypes.c_void_p):
    """An argument that is a tensor, a struct or None, and stays alive during the call."""

    @classmethod
    def from_param(cls, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return ctypes.c_void_p(x.data_ptr())
        return x if x is None else ctypes.byref(x)


TYPES = {"n": ctypes.c_long, "p": Pointer, "d": ctypes.c_double, "f": ctypes.c_float}

_library: Any = None  # of this process, once it is loaded


def folder() -> Path:
    """Return where the libraries of these sources are, or will be."""
    digest = hashlib.sha256(repr((ZIG_VERSION, FLAGS, SETS)).encode())
    for source in sorted(KERNELS.iterdir()):
        digest.update(source.read_bytes())
    root = os.environ.get("SAMEBITS_CACHE", Path(sys.prefix, "lib", "samebits"))
    return Path(root, digest.hexdigest()[:16])


def instruction_sets(machine: str) -> dict[str, list[str]]:
    """Return the compiler's options for each instruction set of a kind of computer."""
    if machine not in SETS or sys.platform != "linux":
        known = " and ".join(SETS)
        raise ImportError(
            f"samebits: there are no kernels for {sys.platform} on {machine}; it runs under Linux "
            f"on {known}"
        )
    return SETS[machine]


def file_name(machine: str, instruction_set: str) -> str:
    return f"{machine}-{instruction_set}.so"


def chosen_set() -> str:
    """Return the instruction set to use, the widest that CPU and torch allow."""
    name = torch.backends.cpu.get_cpu_capability()
    return name if name in instruction_sets(platform.machine()) else "DEFAULT"


def build(machine: str) -> None:
    """Compile the kernels for all instruction sets of a kind of computer.

    Raises `ImportError` if the compiler is missing or fails, or the folder cannot be written.
    """
    target = folder()
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target) as draft:
            # Zig keeps its own files there; a home may have no place for them.
            caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), draft)
            for name, options in instruction_sets(machine).items():
                path = Path(draft, file_name(machine, name))
                compiler = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *options]
                if problem := compile_kernels(compiler, path, os.environ | caches):
                    raise ImportError(
                        f"samebits: cannot compile the kernels for {name}: {problem}; install the "
                        f"compiler anew: pip install ziglang=={ZIG_VERSION}"
                    )
                noted = path.with_suffix(".sha256")
                noted.write_text(hashlib.sha256(path.read_bytes()).hexdigest())
                # The library first: one without its hash is compiled again.
                for file in (path, noted):
                    file.replace(target / file.name)
    except OSError as error:
        raise ImportError(
            f"samebits: cannot write its compiled kernels ({error}); set SAMEBITS_CACHE to a "
            "folder that can be written and run from"
        ) from None


def compile_kernels(compiler: list[str], path: Path, environment: dict[str, str]) -> str:
    """Compile the kernels into a shared library, and return what is wrong, or nothing."""
    sources = [str(source) for source in sorted(KERNELS.glob("*.c"))]
    command = [*compiler, *sources, "-o", str(path)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = result.stderr.splitlines() or ["it failed without a message"]
    return lines[-1] if result.returncode else ""


def is_whole(path: Path) -> bool:
    """Return whether a library is there as it was built."""
    try:
        checksum = path.with_suffix(".sha256").read_text()
        return hashlib.sha256(path.read_bytes()).hexdigest() == checksum
    except (OSError, UnicodeDecodeError):
        return False


def kernels() -> Any:
    """Return the library of kernels, compiled first if it is missing or damaged.

    Raises `ImportError` if that fails, or if it computes other bits than it should.
    """
    global _library
    if _library is None:
        _library = load()
        try:
            check()
        except BaseException:
            _library = None
            raise
    return _library


def load() -> Any:
    """Compile the library if it is missing or damaged, and load it."""
    machine = platform.machine()
    path = folder() / file_name(machine, chosen_set())
    if "SAMEBITS_CACHE" in os.environ:  # the environment's own folder is as safe as its Python
        refuse_foreign([path, path.with_suffix(".sha256"), *path.parents[:2]])
    if not is_whole(path):
        build(machine)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(
            f"samebits: cannot load its compiled kernels ({error}); set SAMEBITS_CACHE to a "
            "folder that files can be run from"
        ) from None
    return with_types(library)


def refuse_foreign(paths: list[Path]) -> None:
    """Raise `ImportError` if another user could have put a library there, or could exchange it."""
    for path in filter(os.path.exists, paths):
        owners = {path.lstat().st_uid, path.stat().st_uid}  # of a link and of what it leads to
        if not owners <= {0, os.geteuid()} or path.stat().st_mode & stat.S_IWOTH:
            raise ImportError(
                f"samebits: {path} belongs to others, or they may write it; set SAMEBITS_CACHE to "
                "a folder that only you can write"
            )


def with_types(library: Any) -> Any:
    """Return a library whose functions know the types of their arguments."""
    for name, letters in SIGNATURES.items():
        kernel = getattr(library, name)
        kernel.argtypes = [TYPES[letter] for letter in letters]
        kernel.restype = ctypes.c_int if name == "are_labels" else None
    return library


def check() -> None:
    """Refuse a library that does not compute a small training step to the known bits."""
    from samebits.self_check import EXPECTED, digest_of_step

    if (digest := digest_of_step()) != EXPECTED:
        raise ImportError(
            f"samebits: the kernels in {folder()} for {chosen_set()} compute other bits than they "
            f"should ({digest}); remove this folder, and if that does not help, report your CPU"
        )


def run(kernel: Callable[..., None], items: int, *arguments: Any, scratch: int = 0) -> None:
    """Call a kernel for all of its items, divided between as many threads as torch has.

    scratch: if not 0, each part gets so many floats to work in, as its last argument.
    """
    parts = min(torch.get_num_threads(), items)
    calls = [
        (
            items * part // parts,
            items * (part + 1) // parts,
            *arguments,
            *([torch.empty(scratch)] if scratch else []),
        )
        for part in range(parts)
    ]
    others = [threads(os.getpid(), parts - 1).submit(kernel, *call) for call in calls[1:]]
    for call in calls[:1]:
        kernel(*call)
    for future in others:
        future.result()


@functools.cache
def threads(process: int, number: int) -> ThreadPoolExecutor:
    """Return the threads of a process: its parent's do not exist in a forked one."""
    return ThreadPoolExecutor(number)
