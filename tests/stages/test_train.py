"""The stage `train`: what it prints, and that replicas do not affect one another."""

import csv
import json
import os
import pty
import re
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import train
from stages.learning import training
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, read_checkpoint, read_replicas
from stages.learning.training import Replicas
from stages.params.train import replica_seeds
from stages.storage.tensors import Array
from tests.helpers.project import Project

CURVES = "metrics/curves.csv"


def curve_rows(project: Project) -> list[dict[str, str]]:
    with (project.path / CURVES).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("together", [True, False])
def test_the_model_is_the_same_for_any_number_of_replicas(
    project: Project, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    if not together:
        monkeypatch.setattr(training, "STACKABLE", ())
    project.set_params("train.epochs=2")
    third_seed = replica_seeds(0, 3)[2]
    models: list[bytes] = []
    rows: list[list[dict[str, str]]] = []
    replicas: list[list[Array]] = []
    for count, seed in ((5, 0), (3, 0), (1, 0), (1, third_seed)):
        project.set_params(f"train.replicas={count}", f"train.seed={seed}")
        train.main()
        models.append(CHECKPOINT.read_bytes() + Path("metrics/train.json").read_bytes())
        rows.append(curve_rows(project))
        replicas.append([model.filters.detach().numpy() for model in read_replicas(REPLICAS)])
        assert len(replicas[-1]) == count - 1
    assert models[0] == models[1] == models[2] != models[3]
    np.testing.assert_array_equal(replicas[0][:2], replicas[1])
    assert rows[1] == [row for row in rows[0] if int(row["replica"]) < 3]
    assert rows[2] == [row for row in rows[0] if row["replica"] == "0"]
    # The third replica is the model of its seed, which has scores on train too.
    third = [row | {"replica": "0"} for row in rows[0] if row["replica"] == "2"]
    assert [row for row in rows[3] if row["loss"]] == [
        row | {"accuracy": other["accuracy"]}
        for row, other in zip(third, (row for row in rows[3] if row["loss"]), strict=True)
    ]
    model, _ = read_checkpoint(CHECKPOINT)
    np.testing.assert_array_equal(replicas[0][1], model.filters.detach())


def test_the_last_row_of_each_replica_is_what_evaluate_finds(reproduced: Project) -> None:
    last = [row for row in curve_rows(reproduced) if (row["epoch"], row["split"]) == ("10", "val")]
    metrics = json.loads((reproduced.path / "metrics/evaluate.json").read_text())
    on_val = metrics["evaluate"]["val"]
    accuracies = [float(row["accuracy"]) for row in last]
    assert [row["replica"] for row in last] == ["0", "1", "2", "3", "4"]
    assert accuracies[0] == on_val["accuracy"]["value"]
    assert np.mean(accuracies) == pytest.approx(on_val["replicas"]["mean"], abs=2e-6)
    assert np.std(accuracies, ddof=1) == pytest.approx(on_val["replicas"]["sd"], abs=2e-6)
    assert float(last[0]["loss"]) == pytest.approx(on_val["cross_entropy"], abs=2e-6)


@pytest.mark.parametrize("together", [True, False])
def test_the_curves_are_written_at_most_once_a_second_while_it_trains(
    small_project: Project, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_project.path)
    if not together:
        monkeypatch.setattr(training, "STACKABLE", ())
    small_project.set_params("train.epochs=6")
    paths = [small_project.path / name for name in (CURVES, "metrics/train.json")]
    now: float = 100.0
    seen: list[list[Any]] = []
    train_epoch = Replicas.train_epoch

    def slow_epoch(self: Replicas) -> Iterator[None]:
        """Train, as in 0.6 seconds, and note first what others see meanwhile."""
        nonlocal now
        seen.append([path.exists() for path in paths])
        if all(seen[-1]):
            seen[-1] = [json.loads(paths[1].read_text()), curve_rows(small_project)]
        now += 0.6
        yield from train_epoch(self)

    monkeypatch.setattr(Replicas, "train_epoch", slow_epoch)
    monkeypatch.setattr("time.monotonic", lambda: now)
    for path in paths:
        path.unlink()
    train.main()
    final = curve_rows(small_project)
    assert seen[0] == [False, False]
    epochs = []
    for metrics, rows in seen[1:6]:
        on_val = [row for row in rows if (row["replica"], row["split"]) == ("0", "val")]
        assert all(row in final for row in on_val)
        assert float(on_val[-1]["accuracy"]) == metrics["train"]["val_accuracy"]
        epochs.append(int(on_val[-1]["epoch"]))
    assert epochs == [1, 1, 3, 3, 5]
    assert json.loads(paths[1].read_text()).keys() == {"train"}
    small_project.run("git", "checkout", "-q", ".")


def test_replicas_of_different_seeds_do_not_overlap() -> None:
    seeds = [seed for first in range(100) for seed in replica_seeds(first, 10)]
    assert len(set(seeds)) == 1_000
    assert all(0 <= seed < 2**32 for seed in seeds)  # as params.yaml allows


def test_each_epoch_is_a_line_and_without_a_terminal_there_is_no_bar(project: Project) -> None:
    process = project.run("python", "-m", "stages", "train")
    lines = process.stdout.splitlines()
    assert len(lines) == 14
    for number, line in enumerate(lines[:10], 1):
        expected = rf"epoch {number}/10: loss \d\.?\d*, accuracy train 0\.\d+, val 0\.\d+"
        assert re.fullmatch(expected, line)
    for number, line in enumerate(lines[10:], 2):
        assert re.fullmatch(rf"replica {number}/5: accuracy val 0\.\d+", line)
    assert process.stderr == ""
    assert project.status() == ""


def test_a_terminal_shows_a_progress_bar(project: Project) -> None:
    project.set_params("train.epochs=2", "train.replicas=2")
    terminal, of_process = pty.openpty()
    termios.tcsetwinsize(of_process, (24, 80))
    command = ["python", "-m", "stages", "train"]
    process = subprocess.run(
        command,
        cwd=project.path,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=of_process,
        check=True,
    )
    os.write(of_process, b"the end")  # without any output `os.read` would wait for ever
    output = os.read(terminal, 100_000).decode()
    os.close(of_process)
    os.close(terminal)
    # It is of the whole training, and the lines stand above it.
    assert "epoch 1/2:   0%|" in output
    assert re.search(r"epoch 2/2:  5\d%\|.* 0\d:\d\d left, loss \d", output)
    assert len(process.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("epochs", "printed"),
    [(3, [1, 2, 3]), (101, [*range(2, 101, 2), 101]), (250, [*range(3, 250, 3), 250])],
)
def test_at_most_a_hundred_epochs_are_printed_and_the_last_is_one_of_them(
    small_project: Project,
    epochs: int,
    printed: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(small_project.path)
    small_project.set_params(
        f"train.epochs={epochs}", "train.batch_size=full", "train.replicas=1", "train.log_every=100"
    )
    train.main()
    lines = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "epoch" in line] == [f"epoch {n}/{epochs}" for n in printed]
    iterations = range(100, epochs + 1, 100)  # as rare as that they are printed, too
    assert [line for line in lines if "epoch" not in line] == [f"iteration {n}" for n in iterations]


@pytest.fixture
def fit(
    small_project: Project, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, int, bool], list[bytes]]:
    """Return a function that trains, perhaps with states that are kept, and returns the results."""
    monkeypatch.chdir(small_project.path)

    def run(epochs: int, replicas: int, keep: bool) -> list[bytes]:
        small_project.set_params(f"train.epochs={epochs}", f"train.replicas={replicas}")
        if keep:
            monkeypatch.setenv("FAIRTRIAL_STATES", "states")
        else:
            monkeypatch.delenv("FAIRTRIAL_STATES", raising=False)
        train.main()
        return [Path(path).read_bytes() for path in (CURVES, "metrics/train.json", CHECKPOINT)]

    return run


def test_a_longer_training_continues_from_a_state_that_is_kept(
    fit: Callable[[int, int, bool], list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    shorter, longer = fit(2, 1, False), fit(5, 3, False)
    assert not Path("states").exists()
    capsys.readouterr()
    assert fit(2, 1, True) == shorter
    assert "resuming" not in capsys.readouterr().out
    assert fit(5, 3, True) == longer
    # The first model, whose epochs are printed, goes on; the others are new.
    assert re.findall(r"epoch (\d)/5", capsys.readouterr().out) == ["3", "4", "5"]
    assert len(list(Path("states").glob("*.safetensors"))) == 3
    assert fit(5, 3, True) == longer  # nothing is left to train
    assert "epoch" not in capsys.readouterr().out


def test_a_state_of_more_epochs_is_not_that_of_a_shorter_training(
    fit: Callable[[int, int, bool], list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = fit(2, 1, False)
    fit(3, 1, True)
    capsys.readouterr()
    assert fit(2, 1, True) == shorter
    assert "epoch 1/2" in capsys.readouterr().out


def test_states_are_not_kept_of_a_schedule_that_depends_on_the_number_of_epochs(
    small_project: Project,
) -> None:
    small_project.set_params("train.schedule=one_cycle")
    small_project.env["FAIRTRIAL_STATES"] = "states"
    assert small_project.refused("train").startswith("params.yaml: train.schedule: with one_cycle")
