"""Reproduce the committed results on other CPUs than this machine has, emulated by QEMU.

Every stage of a fresh clone of HEAD runs under `qemu-x86_64` (Debian: apt install qemu-user)
as each CPU, with one and two threads; then `git status` has to be empty.

    make same-bits
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CPUS = ("Haswell", "Skylake-Server", "EPYC", "EPYC-Milan")


def reproduce(emulator: str, cpu: str, threads: int, folder: Path) -> str:
    """Return what `git status` says of a clone in `folder` after its reproduction."""
    project, programs = folder / "project", folder / "bin"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    programs.mkdir()
    python = programs / "python"
    # Under this name it comes first in the stages' PATH; DVC itself runs as it is.
    python.write_text(f'#!/bin/sh\nexec {emulator} -cpu {cpu} "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": str(threads)}
    with (folder / "log").open("w") as log:
        command = [str(Path(sys.executable).with_name("dvc")), "repro"]
        done = subprocess.run(command, cwd=project, env=environment, stdout=log, stderr=log)
    if done.returncode:
        return (folder / "log").read_text()
    status = ["git", "status", "--porcelain"]
    return subprocess.check_output(status, cwd=project, text=True)


def main() -> None:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        sys.exit("qemu-x86_64 is not installed; on Debian: apt install qemu-user")
    different = 0
    for cpu in CPUS:
        for threads in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                problems = reproduce(emulator, cpu, threads, Path(folder))
            print(f"{cpu}, {threads} thread(s): {problems or 'the committed bytes'}", flush=True)
            different += bool(problems)
    n = 2 * len(CPUS)
    print(f"{n - different} of {n} reproductions gave the committed dvc.lock and metrics/")
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
