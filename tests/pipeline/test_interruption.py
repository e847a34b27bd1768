"""Killed at any point: nothing is lost, and the next run gives the uninterrupted bytes."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.helpers.project import Project

OUTPUTS = (
    "data/checkpoints/model.safetensors",
    "data/checkpoints/replicas.safetensors",
    "metrics/history.csv",
    "metrics/train.json",
)
STATES = ".dvc/tmp/train/*.safetensors"


@pytest.fixture(scope="module")
def prepared(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with a training ahead that is long enough to be killed in, and not in the cache."""
    path = tmp_path_factory.mktemp("prepared") / "project"
    project = Project(shutil.copytree(reproduced.path, path))
    project.edit("params.yaml", "epochs: 10 ", "epochs: 100 ")
    project.edit("params.yaml", "momentum: 0.0", "momentum: 0.5")
    project.edit("params.yaml", "log_every: 10 ", "log_every: 7 ")
    project.edit("params.yaml", "replicas: 5 ", "replicas: 2 ")
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


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Read what a process prints, up to a line that has `text`, and return all of it."""
    assert process.stdout
    read = ""
    for line in process.stdout:
        read += line
        if text in line:
            return read
    raise AssertionError(f"{text!r} was never printed, but {read}")


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process, unless it has ended, and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_while_training(process: subprocess.Popen[str], moments: random.Random) -> str:
    """Kill a process at a random moment of a random epoch, and return what it had printed."""
    read = ""
    for _ in range(2 + moments.randrange(12)):  # by its second line the first epoch is saved
        read += read_until(process, ": loss ")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0, 0.05))
    kill(process)
    return read


def kill_early(process: subprocess.Popen[str], moments: random.Random) -> None:
    """Kill a process that has hardly begun: in the imports, or between two stages."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0.1, 2.5))
    kill(process)


def finish(project: Project) -> str:
    """Run `dvc repro` to its end, and do what the README says where DVC needs help."""
    process = start(project, "dvc", "repro")
    out, said = process.communicate()
    if process.returncode:
        # Killed while it wrote down its locks, which it does not do in one step.
        assert ".dvc/tmp/rwlock'. JSON structure is corrupted" in said
        (project.path / ".dvc/tmp/rwlock").unlink()
        out = project.run("dvc", "repro").stdout
    return out


def test_twenty_kills_of_all_that_runs_leave_no_trace(
    prepared: Project, uninterrupted: Project, tmp_path: Path
) -> None:
    moments = random.Random(0)
    for number in range(4):
        project = Project(shutil.copytree(prepared.path, tmp_path / f"{number}" / "project"))
        printed = ""
        for _ in range(3):
            printed += kill_while_training(start(project, "dvc", "repro"), moments)
        for _ in range(2):
            kill_early(start(project, "dvc", "repro"), moments)
        printed += finish(project)
        assert printed.count("train: continuing after epoch ") == 3
        assert everything(project) == everything(uninterrupted)
        assert not list(project.path.glob(STATES))
        assert not list(project.path.rglob("*.draft"))


def test_twenty_kills_of_the_training_leave_no_trace(
    project: Project, uninterrupted: Project
) -> None:
    for name in OUTPUTS:
        (project.path / name).unlink()
    moments = random.Random(1)
    for _ in range(5):
        kill_while_training(start(project, "python", "-m", "stages.train"), moments)
    for _ in range(15):
        kill_early(start(project, "python", "-m", "stages.train"), moments)
    project.run("python", "-m", "stages.train")
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_killed_training_continues_and_says_so(project: Project, uninterrupted: Project) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 7/100")
    kill(process)
    out = project.run("python", "-m", "stages.train").stdout
    first, second, *_ = out.splitlines()
    done = int(first.removeprefix("train: continuing after epoch ").removesuffix(" of 100"))
    assert done >= 6  # the line comes just before the state is written
    assert second.startswith(f"epoch {done + 1}/100: ")
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_killed_training_continues_with_the_replica_that_it_was_at(
    project: Project, uninterrupted: Project
) -> None:
    project.edit("params.yaml", "replicas: 2 ", "replicas: 4 ")
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "replica 2/4: ")
    kill(process)
    assert len(list(project.path.glob(STATES))) >= 2
    project.edit("params.yaml", "replicas: 4 ", "replicas: 2 ")
    out = project.run("python", "-m", "stages.train").stdout
    assert "epoch" not in out.replace("continuing after epoch", "")
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("when", ["Running stage 'train'", "epoch 3/100"])
def test_an_orphan_stops_and_the_next_run_continues_it(
    project: Project, uninterrupted: Project, how: str, when: str
) -> None:
    process = start(project, "dvc", "repro")
    read_until(process, when)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=0.3)  # by then the stage has begun to import
    process.send_signal(getattr(signal, how))  # to dvc alone: the training loses its parent
    _, said = process.communicate()  # to the end of both pipes: until the orphan is gone
    assert "since DVC is gone" in said
    assert not (project.path / OUTPUTS[0]).exists()
    assert "train: continuing after epoch" in project.run("dvc", "repro").stdout
    assert everything(project) == everything(uninterrupted)


def test_a_training_without_dvc_has_no_parent_to_lose(project: Project) -> None:
    left = "python -m stages.train & echo left"
    process = start(project, "sh", "-c", left)
    said = "".join(process.communicate())
    assert "left" in said
    assert "epoch 100/100" in said
    assert "gone" not in said


def test_a_state_of_other_parameters_is_not_looked_at(project: Project) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    kill(process)
    [state] = project.path.glob(STATES)
    project.edit("params.yaml", "lr: 0.01 ", "lr: 0.02 ")
    assert "continuing" not in project.run("python", "-m", "stages.train").stdout
    assert list(project.path.glob(STATES)) == [state]


@pytest.mark.parametrize("file", ["stages/arithmetic/exact.py", "stages/train.py"])
def test_a_state_of_other_code_is_not_looked_at(project: Project, file: str) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    kill(process)
    with (project.path / file).open("a") as code:
        code.write("# a remark\n")
    assert "continuing" not in project.run("python", "-m", "stages.train").stdout


@pytest.mark.parametrize("precision", ["exact", "float32"])
def test_a_state_of_other_threads_is_used_where_they_do_not_matter(
    project: Project, precision: str
) -> None:
    project.edit("params.yaml", "precision: exact ", f"precision: {precision} ")
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    kill(process)
    project.env["OMP_NUM_THREADS"] = "2"
    out = project.run("python", "-m", "stages.train").stdout
    assert ("continuing after epoch" in out) == (precision == "exact")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_broken_state_is_set_aside(project: Project, uninterrupted: Project, damage: str) -> None:
    process = start(project, "python", "-m", "stages.train")
    read_until(process, "epoch 5/100")
    kill(process)
    [state] = project.path.glob(STATES)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    state.write_bytes({"cut": whole[:-9], "flipped": bytes(flipped), "empty": b""}[damage])
    done = project.run("python", "-m", "stages.train")
    assert "continuing" not in done.stdout
    assert "starting anew, and keeping it as " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert state.with_suffix(".broken").exists()
    assert not state.exists()
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_second_training_of_the_same_waits(project: Project, uninterrupted: Project) -> None:
    first = start(project, "python", "-m", "stages.train")
    read_until(first, "epoch 1/100")
    first.send_signal(signal.SIGSTOP)
    second = start(project, "python", "-m", "stages.train")
    read_until(second, "waiting for another training of just this to end")
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_an_experiment_elsewhere_continues_what_was_begun_here(project: Project) -> None:
    project.commit("long")
    process = start(project, "dvc", "repro")
    read_until(process, "epoch 5/100")
    kill(process)
    project.run("git", "checkout", ".")
    out = project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere").stdout
    assert "train: continuing after epoch" in out


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.3, 0.6, 1.0, None])
def test_an_interrupt_is_one_line(project: Project, moment: float | None) -> None:
    process = start(project, "python", "-m", "stages.train")
    if moment is None:
        read_until(process, "epoch 3/100")
    else:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.15 + moment)  # somewhere in the imports
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert said == "interrupted\n"
    assert process.returncode != 0
    project.run("python", "-m", "stages.train")
