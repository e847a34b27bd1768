"""Killed at any point: nothing is lost, and the next run gives the uninterrupted bytes."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import Project

OUTPUTS = ("data/checkpoints/model.safetensors", "metrics/history.csv", "metrics/train.json")
STATES = ".dvc/tmp/train/*.safetensors"


@pytest.fixture(scope="module")
def prepared(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with a training ahead that is long enough to be killed in, and not in the cache."""
    path = tmp_path_factory.mktemp("prepared") / "project"
    project = Project(shutil.copytree(reproduced.path, path))
    project.edit("params.yaml", "epochs: 10 ", "epochs: 100 ")
    project.edit("params.yaml", "momentum: 0.0", "momentum: 0.5")
    project.edit("params.yaml", "log_every: 10 ", "log_every: 7 ")
    return project


@pytest.fixture(scope="module")
def uninterrupted(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    path = tmp_path_factory.mktemp("uninterrupted") / "project"
    project = Project(shutil.copytree(prepared.path, path))
    assert project.ran("repro") == ["check", "train", "evaluate"]
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    return Project(shutil.copytree(prepared.path, tmp_path / "project"))


def content(project: Project, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (project.path / name).read_bytes() for name in names}


def everything(project: Project) -> dict[str, bytes]:
    metrics = sorted(p.relative_to(project.path) for p in project.path.glob("metrics/*"))
    return content(project, (*OUTPUTS, "dvc.lock", *map(str, metrics)))


def start(project: Project, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=project.path,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never printed")


def test_twenty_kills_of_all_that_runs_leave_no_trace(
    prepared: Project, uninterrupted: Project, tmp_path: Path
) -> None:
    moments = random.Random(0)
    kills = 0
    while kills < 20:
        project = Project(shutil.copytree(prepared.path, tmp_path / f"after-{kills}" / "project"))
        for _ in range(5):
            process = start(project, "dvc", "repro")
            try:
                process.communicate(timeout=moments.uniform(0.3, 4.0))
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
        project.run("dvc", "repro")
        assert everything(project) == everything(uninterrupted)
        assert not list(project.path.glob(STATES))
        assert not list(project.path.rglob("*.draft"))


def test_kills_of_the_training_leave_no_trace(project: Project, uninterrupted: Project) -> None:
    for name in OUTPUTS:
        (project.path / name).unlink()
    moments = random.Random(0)
    kills = 0
    process = start(project, "python", "-m", "stages.train")
    while process.poll() is None:
        try:
            process.communicate(timeout=moments.uniform(0.5, 3.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            process = start(project, "python", "-m", "stages.train")
    assert kills >= 1
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_killed_training_continues_and_says_so(project: Project, uninterrupted: Project) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 7/100")
    process.kill()
    process.communicate()
    out = project.run("python", "-m", "stages.train").stdout
    first, second, *_ = out.splitlines()
    done = int(first.removeprefix("train: continuing after epoch ").removesuffix(" of 100"))
    assert done >= 6  # the line comes just before the state is written
    assert second.startswith(f"epoch {done + 1}/100: ")
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_an_orphan_stops_and_the_next_run_continues_it(
    project: Project, uninterrupted: Project, how: str
) -> None:
    process = start(project, "dvc", "repro")
    read_until(process, "epoch 3/100")
    process.send_signal(getattr(signal, how))  # to dvc alone: the training loses its parent
    _, said = process.communicate()  # to the end of both pipes: until the orphan is gone
    assert "since DVC is gone" in said
    assert not (project.path / OUTPUTS[0]).exists()
    assert "train: continuing after epoch" in project.run("dvc", "repro").stdout
    assert everything(project) == everything(uninterrupted)


def test_a_state_of_other_parameters_is_not_looked_at(project: Project) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    process.kill()
    process.communicate()
    [state] = project.path.glob(STATES)
    project.edit("params.yaml", "lr: 0.01 ", "lr: 0.02 ")
    assert "continuing" not in project.run("python", "-m", "stages.train").stdout
    assert list(project.path.glob(STATES)) == [state]


@pytest.mark.parametrize("file", ["stages/exact.py", "stages/train.py"])
def test_a_state_of_other_code_is_not_looked_at(project: Project, file: str) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    process.kill()
    process.communicate()
    with (project.path / file).open("a") as code:
        code.write("# a remark\n")
    assert "continuing" not in project.run("python", "-m", "stages.train").stdout


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_broken_state_is_set_aside(project: Project, uninterrupted: Project, damage: str) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    process.kill()
    process.communicate()
    [state] = project.path.glob(STATES)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    state.write_bytes({"cut": whole[:-9], "flipped": bytes(flipped), "empty": b""}[damage])
    done = project.run("python", "-m", "stages.train")
    assert "continuing" not in done.stdout
    assert "train: starting anew, since " in done.stderr
    assert state.with_suffix(".broken").exists()
    assert not state.exists()
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_second_training_of_the_same_waits(project: Project, uninterrupted: Project) -> None:
    first = start(project, "python", "-m", "stages.train")
    read_until(first, "epoch 1/100")
    second = start(project, "python", "-m", "stages.train")
    read_until(second, "waiting for another training of just this to end")
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_an_experiment_elsewhere_continues_what_was_begun_here(project: Project) -> None:
    project.commit("long")
    process = start(project, "dvc", "repro")
    read_until(process, "epoch 5/100")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.run("git", "checkout", ".")
    out = project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere").stdout
    assert "train: continuing after epoch" in out


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 0.6, 1.0, None])
def test_an_interrupt_is_one_line(project: Project, moment: float | None) -> None:
    process = start(project, "python", "-m", "stages.train")
    if moment is None:
        read_until(process, "epoch 3/100")
    else:
        time.sleep(0.15 + moment)  # somewhere in the imports, wherever this machine is by then
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert said == "interrupted\n"
    assert process.returncode != 0
    project.run("python", "-m", "stages.train")
