"""Killed at any point: nothing is lost, and the next run gives the uninterrupted bytes."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.helpers.project import Project
from tests.same_bits.test_same_bits import TWO_THREADS

OUTPUTS = (
    "data/checkpoints/model.safetensors",
    "data/checkpoints/replicas.safetensors",
    "metrics/curves.csv",
    "metrics/train.json",
)
STATES = ".dvc/tmp/train/*.safetensors"
TRAIN = ("python", "-m", "stages", "train")
# What the training prints; tests for its absence have to change with it too.
RESUMING = "train: resuming after epoch "
INTERRUPTED = [
    "interrupted: the same command continues",
    "`git checkout HEAD . && dvc checkout` goes back to the last commit",
]
PARENT_ENDED = "because DVC has ended"


def copy(source: Project, folder: Path) -> Project:
    return Project(shutil.copytree(source.path, folder / "project"))


def with_long_training(source: Project, folder: Path) -> Project:
    """Return a copy of a reproduced clone, ahead of which is a training of a hundred epochs."""
    project = copy(source, folder)
    project.set_params(
        "train.epochs=100", "train.momentum=0.5", "train.log_every=7", "train.replicas=2"
    )
    return project


@pytest.fixture(scope="module")
def prepared(small_reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone with a long training ahead that is not in the cache; to be copied."""
    return with_long_training(small_reproduced, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def uninterrupted(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same clone after an uninterrupted `dvc repro`; for looking only."""
    project = copy(prepared, tmp_path_factory.mktemp("uninterrupted"))
    assert project.ran("repro") == ["check", "train", "evaluate"]
    return project


@pytest.fixture(scope="module")
def killed(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same clone, whose training was killed after six epochs or more; to be copied."""
    project = copy(prepared, tmp_path_factory.mktemp("killed"))
    kill_at(project, "epoch 7/100")
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    """A clone of the test's own, with the training ahead."""
    return copy(prepared, tmp_path)


@pytest.fixture
def killed_project(killed: Project, tmp_path: Path) -> Project:
    """A clone of the test's own, whose training was killed."""
    return copy(killed, tmp_path)


def content(project: Project, names: tuple[str, ...]) -> dict[str, bytes]:
    return {name: (project.path / name).read_bytes() for name in names}


def all_results(project: Project) -> dict[str, bytes]:
    metrics = sorted(p.relative_to(project.path) for p in project.path.glob("metrics/*"))
    return content(project, (*OUTPUTS, "dvc.lock", *map(str, metrics)))


def start(project: Project, *command: str) -> subprocess.Popen[bytes]:
    """Start a command, whose output has to be read for it to come to its end.

    On Linux its pipes hold 4 KiB, which is less than 70 lines of the 100 that a training prints.
    So a training waits for its reader, and is never over before it is killed, however busy the
    machine is. Nothing is read ahead, which would make room for more.
    """
    return subprocess.Popen(
        command,
        cwd=project.path,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pipesize=4096,
        start_new_session=True,
    )


def read_until(pipe: IO[bytes] | None, text: str) -> str:
    """Read what a process prints, up to a line that contains `text`, and return all of it."""
    assert pipe
    read = ""
    for line in iter(pipe.readline, b""):
        read += line.decode()
        if text in line.decode():
            return read
    raise AssertionError(f"{text!r} was never printed, but {read}")


def read_rest(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Return what a process still prints on stdout and stderr, when all that writes there ended."""
    out, err = process.communicate()
    return out.decode(), err.decode()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, unless it has ended, and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def kill_at(project: Project, text: str) -> None:
    """Start a training, and kill it when it prints `text`."""
    process = start(project, *TRAIN)
    read_until(process.stdout, text)
    kill(process)


def kill_while_training(process: subprocess.Popen[bytes], moments: random.Random) -> str:
    """Kill a process at a random moment of a random epoch, and return what it had printed."""
    read = ""
    for _ in range(2 + moments.randrange(12)):  # by its second line the first epoch is saved
        read += read_until(process.stdout, ": loss ")
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0, 0.05))
    kill(process)
    return read


def kill_early(process: subprocess.Popen[bytes], moments: random.Random) -> None:
    """Kill a process that has hardly begun: in the imports, or between two stages."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=moments.uniform(0.1, 2.5))
    kill(process)


def finish(project: Project) -> str:
    """Run `dvc repro` to its end, and do what the README says where DVC needs help."""
    process = start(project, "dvc", "repro")
    out, err = read_rest(process)
    if process.returncode:
        # Killed while it wrote down its locks, which it does not do in one step.
        assert ".dvc/tmp/rwlock'. JSON structure is corrupted" in err
        (project.path / ".dvc/tmp/rwlock").unlink()
        out = project.run("dvc", "repro").stdout
    return out


@pytest.fixture(scope="module")
def full_size(
    reproduced: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, Project]:
    """`prepared` and `uninterrupted` of the committed size, whose epochs last several kills."""
    prepared = with_long_training(reproduced, tmp_path_factory.mktemp("prepared"))
    uninterrupted = copy(prepared, tmp_path_factory.mktemp("uninterrupted"))
    uninterrupted.run("dvc", "repro")
    return prepared, uninterrupted


@pytest.mark.slow
def test_twenty_kills_of_the_pipeline_leave_no_trace(
    full_size: tuple[Project, Project], tmp_path: Path
) -> None:
    prepared, uninterrupted = full_size
    moments = random.Random(0)
    for number in range(4):
        project = copy(prepared, tmp_path / f"{number}")
        printed = ""
        for _ in range(3):
            printed += kill_while_training(start(project, "dvc", "repro"), moments)
        for _ in range(2):
            kill_early(start(project, "dvc", "repro"), moments)
        printed += finish(project)
        # Once for each run, and again if a kill came between the states of two replicas.
        assert printed.count(RESUMING) >= 3
        assert all_results(project) == all_results(uninterrupted)
        assert not list(project.path.glob(STATES))
        assert not list(project.path.rglob("*.draft"))


@pytest.mark.slow
def test_twenty_kills_of_the_training_leave_no_trace(
    full_size: tuple[Project, Project], tmp_path: Path
) -> None:
    prepared, uninterrupted = full_size
    project = copy(prepared, tmp_path)
    for name in OUTPUTS:
        (project.path / name).unlink()
    moments = random.Random(1)
    for _ in range(5):
        kill_while_training(start(project, *TRAIN), moments)
    for _ in range(15):
        kill_early(start(project, *TRAIN), moments)
    project.run(*TRAIN)
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


def test_a_killed_training_leaves_its_curves_so_far(
    killed_project: Project, uninterrupted: Project
) -> None:
    early, final = (
        (p.path / "metrics/curves.csv").read_text().splitlines()
        for p in (killed_project, uninterrupted)
    )
    assert 1 < len(early) < len(final)
    # The last loss of each replica is the mean since the row before, which is not due yet.
    assert len({*early} - {*final}) <= 2
    last = json.loads((killed_project.path / "metrics/train.json").read_text())["train"]
    assert {*last} == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}


def test_after_a_kill_the_committed_results_are_brought_back(project: Project) -> None:
    """Git shows what is missing or only begun, and DVC does not take it for the result."""
    process = start(project, "dvc", "repro")
    read_until(process.stdout, "epoch 7/100")
    kill(process)
    status = project.status()
    for name in ("curves.csv", "train.json"):
        assert f" M metrics/{name}" in status
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    assert project.status() == ""
    assert project.ran("repro") == []


def test_a_killed_training_resumes_and_reports_it(
    killed_project: Project, uninterrupted: Project
) -> None:
    first, second, *_ = killed_project.run(*TRAIN).stdout.splitlines()
    done = int(first.removeprefix(RESUMING).removesuffix(" of 100"))
    assert done >= 6  # the line comes just before the state is written
    assert second.startswith(f"epoch {done + 1}/100: ")
    assert content(killed_project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.slow
def test_a_killed_training_resumes_with_the_replica_that_it_was_at(
    project: Project, uninterrupted: Project
) -> None:
    project.set_params("train.replicas=20")  # so that it is not over before it is killed
    kill_at(project, "replica 2/20: ")
    assert len(list(project.path.glob(STATES))) >= 2
    project.set_params("train.replicas=2")
    out = project.run(*TRAIN).stdout
    assert "epoch" not in out.replace(RESUMING, "")
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGHUP", "SIGKILL"])
def test_after_a_closed_terminal_git_switch_leads_back_to_the_branch(
    project: Project, how: str
) -> None:
    """As docs/troubleshooting.md says; a terminal that is closed sends SIGHUP."""
    branch = project.run("git", "branch", "--show-current").stdout
    process = start(project, "dvc", "exp", "run", "-S", "train.lr=0.02")
    read_until(process.stdout, "epoch 3/100")
    os.killpg(process.pid, getattr(signal, how))
    read_rest(process)
    assert project.run("git", "branch", "--show-current").stdout == ""
    assert "lr: 0.02" in (project.path / "params.yaml").read_text()
    project.run("git", "switch", "-")
    assert project.run("git", "branch", "--show-current").stdout == branch
    assert "lr: 0.02" in (project.path / "params.yaml").read_text()


def report_imports(project: Project, folder: Path) -> None:
    """Let every stage name on stderr each module that it has imported, as Python's -X does."""
    folder.mkdir()
    # By this name it comes first in the PATH of the stages; DVC itself runs as it is.
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -X importtime "$@"\n')
    (folder / "python").chmod(0o755)
    project.env["PATH"] = f"{folder}{os.pathsep}{project.env['PATH']}"


@pytest.mark.parametrize(
    ("moment", "how"),
    [
        ("importing", "SIGTERM"),
        ("training", "SIGKILL"),
        pytest.param("importing", "SIGKILL", marks=pytest.mark.slow),
        pytest.param("training", "SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_an_orphan_stops_and_the_next_run_resumes_it(
    project: Project, uninterrupted: Project, tmp_path: Path, moment: str, how: str
) -> None:
    """A training whose parent, DVC, ends while it imports its modules, or in an epoch."""
    path = project.env["PATH"]
    if moment == "importing":
        report_imports(project, tmp_path / "bin")
    process = start(project, "dvc", "repro")
    if moment == "importing":
        read_until(process.stderr, " torch._C\n")
    else:
        read_until(process.stdout, "epoch 3/100")
    process.send_signal(getattr(signal, how))  # to dvc alone
    _, err = read_rest(process)
    assert PARENT_ENDED in err
    assert not (project.path / OUTPUTS[0]).exists()
    project.env["PATH"] = path
    assert RESUMING in project.run("dvc", "repro").stdout
    assert all_results(project) == all_results(uninterrupted)


def test_a_training_without_dvc_has_no_parent_to_lose(project: Project) -> None:
    process = start(project, "sh", "-c", f"{' '.join(TRAIN)} & echo left")
    printed = "".join(read_rest(process))
    assert "left" in printed
    assert "epoch 100/100" in printed
    assert PARENT_ENDED not in printed


def test_a_state_of_other_parameters_is_not_used(killed_project: Project) -> None:
    states = sorted(killed_project.path.glob(STATES))
    assert len(states) == 2
    killed_project.set_params("train.lr=0.02")
    assert RESUMING not in killed_project.run(*TRAIN).stdout
    assert sorted(killed_project.path.glob(STATES)) == states


@pytest.mark.parametrize("file", ["samebits/kernels/dense.c", "stages/train.py"])
def test_a_state_of_other_code_is_not_used(killed_project: Project, file: str) -> None:
    with (killed_project.path / file).open("a") as code:
        code.write("\n")
    assert RESUMING not in killed_project.run(*TRAIN).stdout


def test_a_state_of_other_threads_is_used(killed_project: Project) -> None:
    killed_project.env |= TWO_THREADS
    assert RESUMING in killed_project.run(*TRAIN).stdout


@pytest.mark.parametrize(
    "damage",
    [
        "flipped",
        pytest.param("cut", marks=pytest.mark.slow),
        pytest.param("empty", marks=pytest.mark.slow),
    ],
)
def test_a_broken_state_is_reported_and_replaced(
    killed_project: Project, uninterrupted: Project, damage: str
) -> None:
    state, _ = killed_project.path.glob(STATES)
    whole = state.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    state.write_bytes({"cut": whole[:-9], "flipped": bytes(flipped), "empty": b""}[damage])
    done = killed_project.run(*TRAIN)
    assert done.stdout.count(RESUMING) == 1  # the other replica goes on from its own state
    assert "; training starts anew" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not state.exists()
    assert content(killed_project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.slow
def test_a_second_training_of_the_same_waits(project: Project, uninterrupted: Project) -> None:
    first = start(project, *TRAIN)
    read_until(first.stdout, "epoch 1/100")
    first.send_signal(signal.SIGSTOP)
    second = start(project, *TRAIN)
    read_until(second.stdout, "waiting for another run of the same training to end")
    first.send_signal(signal.SIGCONT)
    for process in (first, second):
        process.communicate()
        assert process.returncode == 0
    assert content(project, OUTPUTS) == content(uninterrupted, OUTPUTS)


@pytest.mark.slow
def test_an_experiment_elsewhere_resumes_what_was_begun_here(killed_project: Project) -> None:
    killed_project.commit("long")
    out = killed_project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere").stdout
    assert RESUMING in out


@pytest.mark.parametrize(
    "imported",
    [
        pytest.param("stages.storage.errors", marks=pytest.mark.slow),
        pytest.param("numpy", marks=pytest.mark.slow),
        "torch._C",
        pytest.param("torch", marks=pytest.mark.slow),
        pytest.param("stages.params.train", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_during_the_imports_is_two_lines(project: Project, imported: str) -> None:
    """It comes when the module has just been imported, as -X importtime reports on stderr."""
    process = start(project, "python", "-X", "importtime", "-m", "stages", "train")
    read_until(process.stderr, f" {imported}\n")
    os.killpg(process.pid, signal.SIGINT)
    _, err = read_rest(process)
    lines = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert lines == INTERRUPTED
    assert process.returncode != 0
    project.run(*TRAIN)


def test_an_interrupt_of_the_training_is_two_lines(project: Project) -> None:
    process = start(project, *TRAIN)
    read_until(process.stdout, "epoch 3/100")
    os.killpg(process.pid, signal.SIGINT)
    assert read_rest(process)[1].splitlines() == INTERRUPTED
    assert process.returncode != 0
    project.run(*TRAIN)
