"""How long a sweep takes beside DVC's queue, and what the death of a worker costs.

python benchmarks/sweep.py queue     # 100 points by the sweep, then by DVC's queue: 20 minutes
python benchmarks/sweep.py killed    # 40 points on two hosts, one of which is killed: 2 minutes
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from ruamel.yaml import YAML

from benchmarks.bench import ENVIRONMENT, reproduced
from tests.fairtrial.clusters import hosts, kill_midway
from tests.helpers.project import Project


def run(folder: Path, *command: str) -> str:
    return subprocess.check_output(command, cwd=folder, env=ENVIRONMENT, text=True)


def settings(count: int) -> str:
    return "train.lr=" + ",".join(f"{(50 + number) / 10_000:g}" for number in range(count))


def sweep(count: int, *options: str) -> list[str]:
    arguments = ["-S", settings(count), "--promote=0", *options]
    return [sys.executable, "-m", "fairtrial", "sweep", *arguments]


def of_sweep(folder: Path) -> dict[float, str]:
    """Return the MD5 of the model at each learning rate of a sweep; each has to be there once."""
    rows = [json.loads(line) for line in (folder / "sweeps/points.jsonl").read_text().splitlines()]
    found = {
        float(row["overrides"][0].partition("=")[2]): row["md5"][
            "data/checkpoints/model.safetensors"
        ]
        for row in rows
    }
    assert len(found) == len(rows), "a point was computed twice"
    return found


def of_queue(folder: Path) -> dict[float, str]:
    """Return the MD5 of the model at each learning rate of all experiments."""
    found = {}
    for commit in run(folder, "dvc", "exp", "list", "--sha-only").split():
        lock = YAML(typ="safe", pure=True).load(run(folder, "git", "show", f"{commit}:dvc.lock"))
        train = lock["stages"]["train"]
        found[train["params"]["params.yaml"]["train"]["lr"]] = train["outs"][0]["md5"]
    return found


def queue(folder: Path) -> None:
    count = 100
    for replicas in ("5", "1"):
        ours, theirs = (
            reproduced(folder / f"{name}{replicas}", {"replicas": replicas})
            for name in ("ours", "theirs")
        )
        start = time.monotonic()
        run(ours, *sweep(count))
        middle = time.monotonic()
        run(theirs, "dvc", "exp", "run", "--queue", "-S", settings(count))
        run(theirs, "dvc", "queue", "start", "-j", "2")
        while any(word in run(theirs, "dvc", "queue", "status") for word in ("Queued", "Running")):
            time.sleep(5)
        end = time.monotonic()
        found, expected = of_sweep(ours), of_queue(theirs)
        same = sum(found[lr] == md5 for lr, md5 in expected.items())
        seconds = middle - start, end - middle
        print(
            f"{count} points of {replicas} models: sweep {seconds[0]:.0f} s, queue with 2 workers "
            f"{seconds[1]:.0f} s, ratio {seconds[0] / seconds[1]:.2f}; "
            f"{same} of {len(expected)} models the same",
            flush=True,
        )


def killed(folder: Path) -> None:
    count = 40
    local = reproduced(folder / "local", {})
    start = time.monotonic()
    run(local, *sweep(count))
    alone = time.monotonic() - start
    for deaths in (0, 1):
        place = folder / f"hosts{deaths}"
        place.mkdir()
        project = reproduced(place / "project", {})
        with hosts(Project(project), place) as (address, workers):
            start = time.monotonic()
            process = subprocess.Popen(
                sweep(count, "--scheduler", address), cwd=project, env=ENVIRONMENT
            )
            if deaths:
                kill_midway(Project(project), process, workers[0], 10)
            assert process.wait() == 0
            seconds = time.monotonic() - start
        found = of_sweep(project)
        same = sum(md5 == found[lr] for lr, md5 in of_sweep(local).items())
        print(
            f"{count} points on two hosts, {deaths} killed after 10: {seconds:.0f} s, "
            f"{len(found)} rows, {same} models the same as on one host in {alone:.0f} s"
        )


def main() -> None:
    parts = {"queue": queue, "killed": killed}
    parser = argparse.ArgumentParser(description="Measure sweeps, on an idle machine.")
    parser.add_argument("part", choices=parts)
    part = parts[parser.parse_args().part]
    with tempfile.TemporaryDirectory() as folder:
        part(Path(folder))


if __name__ == "__main__":
    main()
