"""Sweeps over a grid, on a local cluster and on hosts of their own, stopped and gone on with."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MNIST, Project, needs_mnist
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.sweep import hosts, kill_midway

SIX = ("-S", "train.lr=0.01,0.02,0.03", "-S", "train.weight_decay=0,0.01")


def sweep(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "tools.sweep", *arguments, ok=ok)


def rows(project: Project) -> list[dict[str, Any]]:
    lines = (project.path / "sweeps/points.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def small(project: Project) -> None:
    """Let a training take little time."""
    project.edit("params.yaml", "  epochs: 10 ", "  epochs: 2 ")
    project.edit("params.yaml", "  replicas: 5 ", "  replicas: 2 ")
    project.run("dvc", "repro")
    project.commit("small")


def test_six_points_stopped_by_a_kill_and_gone_on_with(project: Project) -> None:
    small(project)
    process = subprocess.Popen(
        ["python", "-m", "tools.sweep", *SIX],
        cwd=project.path,
        env=project.env,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_midway(project.path, process, 2)
    process.wait()
    before = rows(project)
    assert 2 <= len(before) < 6
    # As if it had been killed in the middle of a line.
    with (project.path / "sweeps/points.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    said = sweep(project, *SIX).stdout
    assert said.startswith(f"6 points, of which {len(before)} are done\n")
    after = rows(project)
    assert after[: len(before)] == before
    assert len(after) == len({row["key"] for row in after}) == 6

    # The table has them all, the best first, with the figures that DVC's experiment has.
    with (project.path / "sweeps/sweep.csv").open() as table:
        lines = list(csv.DictReader(table))
    means = [float(line["evaluate.val.replicas.mean"]) for line in lines]
    assert len(means) == 6
    assert means == sorted(means, reverse=True)
    assert lines[0]["train.lr"] == "0.03"
    best = lines[0]["experiment"]
    assert f"{best} is an experiment of the same bits" in said
    lock = YAML(typ="safe").load(project.run("git", "show", f"refs/exps/{best}:dvc.lock", ok=False).stdout or "{}")
    project.run("dvc", "exp", "apply", best)
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())
    assert metrics["val"]["replicas"]["mean"] == means[0]
    lock = YAML(typ="safe").load(project.path / "dvc.lock")
    md5 = {Path(out["path"]).stem: out["md5"] for out in lock["stages"]["train"]["outs"]}
    assert md5 == {name: lines[0][f"md5.{name}"] for name in ("model", "replicas")}
    with Image.open(project.path / "sweeps/sweep.png") as picture:
        assert picture.width > 600
        assert len(set(picture.convert("RGB").getdata())) > 10

    # Nothing is left to do; another metric orders them otherwise.
    arguments = (*SIX, "--metric=evaluate.val.cross_entropy", "--lowest", "--promote=0")
    said = sweep(project, *arguments).stdout
    assert said.startswith("6 points, of which 6 are done\n")
    assert len(rows(project)) == 6
    with (project.path / "sweeps/sweep.csv").open() as table:
        losses = [float(line["evaluate.val.cross_entropy"]) for line in csv.DictReader(table)]
    assert losses == sorted(losses)
    assert project.run("git", "status", "--porcelain", "sweeps").stdout == ""
