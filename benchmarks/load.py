"""How the cost of our commands grows with points, rows, experiments, revisions and examples.

On the second project, of the tests of fairtrial, whose points cost little of their own. The figures
are CPU seconds of a command and of all that it starts, and the memory of the command itself; one
run each. The exponent is of the last two sizes: 1 is linear.

    python benchmarks/load.py            # 15 minutes
    python benchmarks/load.py examples   # one part
"""

import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.faults import regression
from tests.helpers.project import Project

SWEEP = ("python", "-m", "fairtrial", "sweep", "--promote=0", "--workers=2")


class Cost(NamedTuple):
    seconds: float  # of CPU, with children
    megabytes: float  # at most, of the command itself


def cost(project: Project, *command: str, ok: bool = True) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (project.path.parent / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=project.path, env=project.env, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    text = (project.path.parent / "output").read_text()
    assert (process.returncode == 0) == ok, text[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, usage.ru_maxrss / 1024)


def values(count: int) -> str:
    return "fit.seed=" + ",".join(map(str, range(1, count + 1)))


def checks(project: Project) -> Iterator[tuple[int, Cost]]:
    """Before the first point: the last of the points is one that the project's check refuses."""
    for count in (100, 1_000, 10_000):
        texts = f"{values(count // 2)}", "fit.lr=0.05,-1"
        yield count, cost(project, *SWEEP, *(f"-S{text}" for text in texts), ok=False)


def points(project: Project) -> Iterator[tuple[int, Cost]]:
    for count in (100, 1_000, 3_000):
        for path in project.path.glob("sweeps/*"):
            path.unlink()
        cheap = "-Sfit.epochs=1", "-Sfit.replicas=1"
        yield count, cost(project, *SWEEP, *cheap, "-S", values(count))


def again(project: Project) -> Iterator[tuple[int, Cost]]:
    """The same sweeps when all points are there: start, table and chart."""
    for count in (100, 1_000, 3_000):
        cheap = "-Sfit.epochs=1", "-Sfit.replicas=1"
        yield count, cost(project, *SWEEP, *cheap, "-S", values(count))


def rows(project: Project) -> Iterator[tuple[int, Cost]]:
    """A sweep of one point that is there, beside rows of other sweeps."""
    one = [*SWEEP, "-Sfit.lr=0.02"]
    project.run(*one)
    file = project.path / "sweeps/points.jsonl"
    row = json.loads(file.read_text().splitlines()[-1])
    lines = [json.dumps(row)]
    for count in (300, 3_000, 30_000):
        while len(lines) <= count:
            lines.append(json.dumps({**row, "key": f"{len(lines):064x}"}))
        file.write_text("\n".join([*lines, ""]))
        yield count, cost(project, *one)


def make_branches(project: Project, count: int) -> list[str]:
    """Return branches whose commits are as that of the experiment `near`."""
    refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    [near] = [ref for ref in refs if ref.endswith("/near")]
    names = []
    for number in range(count):
        command = ["git", "commit-tree", f"{near}^{{tree}}", "-p", "main", "-m", f"{number}"]
        commit = project.run(*command).stdout.strip()
        project.run("git", "update-ref", f"refs/heads/like-{number}", commit)
        prefix = near.rpartition("/")[0]
        project.run("git", "update-ref", f"{prefix}/like-exp-{number}", commit)
        names.append(f"like-{number}")
    return names


def experiments(project: Project) -> Iterator[tuple[int, Cost]]:
    """A comparison of two revisions, beside other experiments."""
    for count in (2, 20, 200):
        make_branches(project, count)
        yield count, cost(project, "python", "-m", "fairtrial", "compare", "main", "near")


def compared(project: Project) -> Iterator[tuple[int, Cost]]:
    names = make_branches(project, 50)
    for count in (5, 15, 50):
        yield count, cost(project, "python", "-m", "fairtrial", "compare", "main", *names[:count])


def reported(project: Project) -> Iterator[tuple[int, Cost]]:
    names = make_branches(project, 50)
    for count in (5, 15, 50):
        yield count, cost(project, "python", "-m", "fairtrial", "report", "main", *names[:count])


def examples(project: Project) -> Iterator[tuple[int, Cost]]:
    """A comparison of two revisions of 20 replicas."""
    numbers = random.Random(0)
    project.edit("params.yaml", "replicas: 5", "replicas: 20")
    for count in (600, 6_000, 60_000):
        for branch in ("a", "b"):
            project.run("git", "switch", "-qC", f"{branch}{count}")
            columns = [f"{name}.{r}" for name in ("squared_error", "close") for r in range(20)]
            with (project.path / "scores.csv").open("w") as file:
                file.write(",".join(["split,example,label", *columns]) + "\n")
                for example in range(count):
                    errors = [f"{numbers.random():.6f}" for _ in range(20)]
                    close = [str(numbers.randrange(2)) for _ in range(20)]
                    file.write(",".join([f"val,{example},0", *errors, *close]) + "\n")
            project.run("dvc", "commit", "--quiet", "--force")
            project.run("git", "commit", "-qam", branch)
        command = ["python", "-m", "fairtrial", "compare", f"a{count}", f"b{count}"]
        yield count, cost(project, *command)


PARTS: dict[str, Callable[[Project], Iterator[tuple[int, Cost]]]] = {
    "checks": checks,
    "rows": rows,
    "experiments": experiments,
    "compared": compared,
    "reported": reported,
    "examples": examples,
    "points": points,
    "again": again,
}


def main() -> None:
    wanted = sys.argv[1:] or list(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            place = Path(folder, "points" if name == "again" else name) / "project"
            project = Project(place) if name == "again" else regression(place)
            project.env |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
            project.env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            before: tuple[int, Cost] | None = None
            for size, of in PARTS[name](project):
                exponent = ""
                if before:
                    ratio = math.log(of.seconds / before[1].seconds)
                    exponent = f"{ratio / math.log(size / before[0]):.2f}"
                before = size, of
                print(f"| {name} | {size:,} | {of.seconds:.1f} | {of.megabytes:.0f} | {exponent} |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
