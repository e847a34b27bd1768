"""Train recipes as they are, with one and with two threads, and compare their checkpoints.

    python -m tests.same_bits.recipes [NAME ...]

Each runs twice in a clone of HEAD: 3 minutes for best-2000, 12 for best-60000.
MNIST comes from ../shared/mnist or from the folder MNIST_MIRROR.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.recipes import run
from tests.helpers.project import MNIST, ROOT

# The SHA-256 of data/checkpoints/model.safetensors, of train.seed 0.
CHECKPOINTS = {
    "best-2000": "59d7a96e04128652833c2b76fc9035f88115c6d0bae55d1b5f65d1ba410ce856",
    "best-60000": "8146120cdff7645de4f7259b73e0e6d8e28a501aeb148594911f2ddf1e0d1445",
}


def train(name: str, threads: int, folder: Path) -> str:
    """Return the hash of the checkpoint that a recipe gives in a clone in `folder`."""
    project = folder / "project"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    run(ROOT / "recipes" / name, [], 0, project)
    content = (project / "data/checkpoints/model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    names = sys.argv[1:] or list(CHECKPOINTS)
    if unknown := set(names) - set(CHECKPOINTS):
        sys.exit(f"no checkpoint of {', '.join(unknown)}; name some of {', '.join(CHECKPOINTS)}")
    os.environ.setdefault("MNIST_MIRROR", str(MNIST))
    different = 0
    for name in names:
        for threads in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                result = train(name, threads, Path(folder))
            same = result == CHECKPOINTS[name]
            print(f"{name}, {threads} thread(s): {'the committed bits' if same else result}")
            sys.stdout.flush()
            different += not same
    sys.exit(different != 0)


if __name__ == "__main__":
    main()
