"""Reproduce the committed results on other CPUs than this machine has, emulated by QEMU.

Every stage of a fresh clone of HEAD runs under QEMU's user mode (Debian: apt install qemu-user)
as each CPU, with one and two threads; then `git status` has to be empty. The trainings of
tests/same_bits/trainings.py run with one thread, and the pictures of tests/same_bits/pictures.py
are read: they have to give what tests/same_bits/test_same_bits.py expects. 64-bit ARM is among the
CPUs if tests/same_bits/arm64_root.sh has been run.

    make same-bits
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.project import ROOT
from tests.same_bits.test_same_bits import EXPECTED, EXPECTED_PICTURES, digest

RESULTS = {"trainings": EXPECTED, "pictures": EXPECTED_PICTURES}
ARM64 = ROOT / ".arm64"
PYTHONS = {
    cpu: f'exec qemu-x86_64 -cpu {cpu} "{sys.executable}" "$@"'
    for cpu in ("Haswell", "Skylake-Server", "EPYC", "EPYC-Milan")
}
if (ARM64 / "site").exists():
    PYTHONS["Neoverse N1 (ARM)"] = (
        f'PYTHONPATH="{ARM64}/site" SAMEBITS_CACHE="{ARM64}/kernels" '
        "exec qemu-aarch64 -cpu neoverse-n1 "
        f'-L "{ARM64}/root" "{ARM64}/root/usr/bin/python3.11" "$@"'
    )


def reproduce(python: str, threads: int, folder: Path) -> str:
    """Return what `git status` prints in a clone in `folder` that the shell command reproduced."""
    project, programs = folder / "project", folder / "bin"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    programs.mkdir()
    # By this name it comes first in the stages' PATH; DVC itself runs as it is.
    (programs / "python").write_text(f"#!/bin/sh\n{python}\n")
    (programs / "python").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": str(threads)}
    with (folder / "log").open("w") as log:
        command = [str(Path(sys.executable).with_name("dvc")), "repro"]
        done = subprocess.run(command, cwd=project, env=environment, stdout=log, stderr=log)
    if done.returncode:
        return (folder / "log").read_text()
    return subprocess.check_output(["git", "status", "--porcelain"], cwd=project, text=True)


def check(python: str, module: str) -> str:
    """Return what is wrong with the results of a module of tests/same_bits."""
    command = ["sh", "-c", python, "sh", "-m", f"tests.same_bits.{module}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        return done.stderr
    return "" if digest(json.loads(done.stdout)["results"]) == RESULTS[module] else "other results"


def main() -> None:
    if shutil.which("qemu-x86_64") is None:
        sys.exit("qemu-x86_64 is not installed; on Debian: apt install qemu-user")
    different = 0
    for cpu, python in PYTHONS.items():
        for threads in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                problems = reproduce(python, threads, Path(folder))
            print(f"{cpu}, {threads} thread(s): {problems or 'the committed bytes'}", flush=True)
            different += bool(problems)
        for module in RESULTS:
            problems = check(python, module)
            print(f"{cpu}, {module}: {problems or 'the committed bits'}", flush=True)
            different += bool(problems)
    print(f"{different} of {4 * len(PYTHONS)} differ from what is committed")
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
