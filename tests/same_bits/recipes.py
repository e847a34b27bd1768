"""Train recipes as they are, with one and with two threads, and compare their checkpoints.

    python -m tests.same_bits.recipes [NAME ...]

Each runs twice in a clone of HEAD: six minutes for best-2000, an hour for best-60000. MNIST comes
from ../shared/mnist or from the folder MNIST_MIRROR.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.project import MNIST, ROOT

# The SHA-256 of data/checkpoints/model.safetensors, of train.seed 0.
CHECKPOINTS = {
    "best-2000": "b0bd2f30fe64377e860155e08c6b7d79aa3f839c1a809b721819b8f2cc5e51b5",
    "best-60000": "85cf0d91635cf84111585ab3966ab2edcca0ef526ddc0cfc51359d3cafb16f7d",
}


def settings(name: str) -> dict[str, str]:
    """Return the parameters that a recipe sets, as it writes them."""
    lines = (ROOT / "recipes" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def train(name: str, threads: int, folder: Path) -> str:
    """Return the hash of the checkpoint that a recipe gives in a clone in `folder`."""
    project = folder / "project"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(project)], check=True)
    changes = [f"--set-param={key}={value}" for key, value in settings(name).items()]
    subprocess.run(
        ["dvc", "exp", "run", "--quiet", *changes, "--set-param=train.seed=0"],
        cwd=project,
        env={"MNIST_MIRROR": str(MNIST), **os.environ, "OMP_NUM_THREADS": str(threads)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    content = (project / "data/checkpoints/model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    names = sys.argv[1:] or list(CHECKPOINTS)
    if unknown := set(names) - set(CHECKPOINTS):
        sys.exit(f"no checkpoint of {', '.join(unknown)}; name some of {', '.join(CHECKPOINTS)}")
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
