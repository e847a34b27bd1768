"""The stage `train`: what it prints, and that replicas do not affect one another."""

import csv
import json
import os
import pty
import re
import subprocess
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import train
from stages.learning import training
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, read_checkpoint, read_replicas
from stages.learning.models import PRECISIONS
from stages.params.train import replica_seeds
from stages.storage.tensors import Array
from tests.helpers.project import Project

CURVES = ("metrics/accuracy.csv", "metrics/history.csv", "metrics/replicas.csv")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_model_is_the_same_for_any_number_of_replicas(
    project: Project, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    project.set_params(f"train.precision={precision}", "train.epochs=2")
    third_seed = replica_seeds(0, 3)[2]
    files = CHECKPOINT, *CURVES[:2], "metrics/train.json"
    contents: list[list[bytes]] = []
    rows: list[list[str]] = []
    replicas: list[list[Array]] = []
    for count, seed in ((5, 0), (3, 0), (1, 0), (1, third_seed)):
        project.set_params(f"train.replicas={count}", f"train.seed={seed}")
        train.main()
        contents.append([(project.path / file).read_bytes() for file in files])
        rows.append((project.path / CURVES[2]).read_text().splitlines())
        models = read_replicas(REPLICAS)
        replicas.append([model.filters.detach().numpy() for model in models])
        assert len(models) == count - 1
    assert contents[0] == contents[1] == contents[2] != contents[3]
    np.testing.assert_array_equal(replicas[0][:2], replicas[1])
    assert [len(lines) for lines in rows] == [1 + 2 * 5, 1 + 2 * 3, 1 + 2, 1 + 2]
    assert rows[0][:7] == rows[1]
    assert rows[0][5:7] == [f"2{line[1:]}" for line in rows[3][1:]]
    # The third replica is the model of its seed.
    model, _ = read_checkpoint(CHECKPOINT)
    np.testing.assert_array_equal(replicas[0][1], model.filters.detach())


def test_the_last_row_of_each_replica_is_what_evaluate_finds(reproduced: Project) -> None:
    with (reproduced.path / CURVES[2]).open() as file:
        last = [row for row in csv.DictReader(file) if row["epoch"] == "10"]
    on_val = json.loads((reproduced.path / "metrics/evaluate.json").read_text())["val"]
    accuracies = [float(row["val_accuracy"]) for row in last]
    assert [row["replica"] for row in last] == ["0", "1", "2", "3", "4"]
    assert accuracies[0] == on_val["accuracy"]["value"]
    assert np.mean(accuracies) == pytest.approx(on_val["replicas"]["mean"], abs=2e-6)
    assert np.std(accuracies, ddof=1) == pytest.approx(on_val["replicas"]["sd"], abs=2e-6)
    assert float(last[0]["val_loss"]) == pytest.approx(on_val["cross_entropy"], abs=2e-6)


@pytest.mark.parametrize("precision", PRECISIONS)  # replicas together, and one after the other
def test_the_curves_are_written_at_most_once_a_second_while_it_trains(
    small_project: Project, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_project.path)
    small_project.set_params(f"train.precision={precision}", "train.epochs=6")
    paths = [small_project.path / name for name in CURVES]
    now, seen = 100.0, []

    def train_epoch(*args: Any) -> None:
        """Train, as in 0.6 seconds, and see first what others see meanwhile."""
        nonlocal now
        seen.append([path.read_text().splitlines() if path.exists() else [] for path in paths])
        now += 0.6
        training.train_epoch(*args)

    monkeypatch.setattr(train, "train_epoch", train_epoch)
    monkeypatch.setattr("time.monotonic", lambda: now)
    for path in paths:
        path.unlink()
    train.main()
    final = [path.read_text().splitlines() for path in paths]
    assert seen[0] == [[], [], []]
    for of_file, lines in zip(zip(*seen, strict=True), final, strict=True):
        for early in of_file[1:6]:
            assert early[0] == lines[0]
            assert {*early} < {*lines}
    epochs = [int(accuracy[-1].split(",")[1]) for accuracy, _, _ in seen[1:6]]
    assert epochs == [1, 1, 3, 3, 5]
    if precision == "float32":
        assert seen[-1][0] == final[0]  # the model's own curve, while the other replica trains
        assert [line.split(",")[0] for line in seen[-1][2][-2:]] == ["1", "1"]
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


def test_a_longer_training_continues_from_a_state_that_is_kept(
    small_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small_project.path)
    results = "metrics/history.csv", "metrics/accuracy.csv", "metrics/train.json", str(CHECKPOINT)

    def fit(epochs: int, replicas: int, states: Path | None) -> list[bytes]:
        small_project.set_params(f"train.epochs={epochs}", f"train.replicas={replicas}")
        train.main(states)
        return [Path(path).read_bytes() for path in results]

    shorter, longer = fit(2, 1, None), fit(5, 3, None)
    capsys.readouterr()
    assert fit(2, 1, Path("states")) == shorter
    assert "resuming" not in capsys.readouterr().out
    assert fit(5, 3, Path("states")) == longer
    # The first model, whose epochs are printed, waits for the others, which are new.
    assert re.findall(r"epoch (\d)/5", capsys.readouterr().out) == ["3", "4", "5"]
    assert len(list(Path("states").glob("*.safetensors"))) == 3
    # Nothing is left to train; a state of more epochs is not that of a shorter training.
    assert fit(5, 3, Path("states")) == longer
    assert "epoch" not in capsys.readouterr().out
    assert fit(2, 1, Path("states")) == shorter
    assert "epoch 1/2" in capsys.readouterr().out
    # With one cycle the learning rate of each step depends on the number of epochs.
    small_project.set_params("train.schedule=one_cycle")
    shorter, longer = fit(2, 1, None), fit(5, 1, None)
    assert fit(2, 1, Path("states")) == shorter
    assert fit(5, 1, Path("states")) == longer
