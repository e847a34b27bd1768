"""The stages need little more memory than the bytes of their images."""

import numpy as np
import pytest

from stages.datasets.card_files import rows_of
from stages.storage.image_files import write_rows
from stages.storage.split_files import write_split
from tests.helpers.cards import DIGITS, load
from tests.helpers.project import Project

BYTES = 60_000 * 784  # of the training images of MNIST
# Print the peak of resident memory, in kB, of a stage or of its imports alone.
PRINT_PEAK = """
import sys
stage = __import__(f"stages.{sys.argv[1]}", fromlist=["main"])
if sys.argv[2] == "run":
    stage.main()
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def peak_memory(project: Project, stage: str, how: str) -> int:
    """Return the peak of memory, in bytes, of a process that runs or only imports a stage."""
    output = project.run("python", "-c", PRINT_PEAK, stage, how).stdout
    return 1_024 * int(output.split()[-1])


@pytest.mark.slow
def test_sixty_thousand_images_take_at_most_a_few_times_their_bytes(project: Project) -> None:
    project.env["OMP_NUM_THREADS"] = "1"  # as in a stage that Python runs with -m
    project.set_params(
        "fetch.source=sources/mnist.yaml",
        "prepare.train_size=59500",
        "train.epochs=1",
        "train.replicas=2",
        "train.log_every=1000",
    )
    # As many images as MNIST has: these digits again and again.
    rows = {}
    for name, repeats in (("train", 24), ("test", 4)):
        split = load("mnist-5k")[name]
        path = project.path / f"data/raw/{name}.safetensors"
        path.unlink()  # it may be a link into DVC's cache
        repeated = {key: np.concatenate([a] * repeats) for key, a in split.items()}
        write_split(path, DIGITS, repeated)
        rows[name] = rows_of(name, repeated["images"])
    write_rows(project.path / "data/raw/files.csv", rows)
    # prepare has the training images, and safetensors makes two copies of them to write; and it has
    # the rows of the table of files, some 400 bytes an image.
    for stage, limit in {"prepare": 4.25, "train": 1.75}.items():
        used = peak_memory(project, stage, "run") - peak_memory(project, stage, "import")
        assert BYTES < used < limit * BYTES, f"{stage}: {used / BYTES:.2f} times"
