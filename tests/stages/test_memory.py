"""The whole of MNIST, in little more memory than its bytes."""

from tests.helpers.project import MNIST, Project, needs_mnist

BYTES = 60_000 * 784
# Prints the peak of resident memory, in kB, of a stage or of what it imports.
PEAK = """
import runpy, sys
if sys.argv[2] == "run":
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
else:
    __import__(sys.argv[1])
lines = open("/proc/self/status").read().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def peak(project: Project, stage: str, how: str) -> int:
    """Return the largest memory, in bytes, of a process that runs or only imports a stage."""
    out = project.run("python", "-c", PEAK, f"stages.{stage}", how).stdout
    return 1_024 * int(out.split()[-1])


@needs_mnist
def test_sixty_thousand_images_take_few_times_their_bytes(project: Project) -> None:
    project.env["MNIST_MIRROR"] = str(MNIST)
    project.edit("params.yaml", "dataset: mnist-5k ", "dataset: mnist ")
    project.edit("params.yaml", "train_size: 2000 ", "train_size: 59500 ")
    project.edit("params.yaml", "epochs: 10 ", "epochs: 1 ")
    project.edit("params.yaml", "log_every: 10 ", "log_every: 1000 ")
    project.run("python", "-m", "stages.fetch")
    for stage, most in {"prepare": 3, "train": 1.75}.items():
        taken = peak(project, stage, "run") - peak(project, stage, "import")
        assert BYTES < taken < most * BYTES, f"{stage}: {taken / BYTES:.2f} times"
