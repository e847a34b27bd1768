"""The stage `train`: what it prints, and that replicas do not affect one another."""

import os
import pty
import re
import subprocess
import termios
from pathlib import Path

import numpy as np
import pytest

from stages import train
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, read_checkpoint, read_replicas
from stages.learning.models import PRECISIONS
from stages.params.train import replica_seeds
from stages.storage.tensors import Array
from tests.helpers.project import Project


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_model_is_the_same_for_any_number_of_replicas(
    project: Project, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    project.set_params(f"train.precision={precision}", "train.epochs=2")
    third_seed = replica_seeds(0, 3)[2]
    files = CHECKPOINT, "metrics/accuracy.csv", "metrics/history.csv", "metrics/train.json"
    contents: list[list[bytes]] = []
    replicas: list[list[Array]] = []
    for count, seed in ((5, 0), (3, 0), (1, 0), (1, third_seed)):
        project.set_params(f"train.replicas={count}", f"train.seed={seed}")
        train.main()
        contents.append([(project.path / file).read_bytes() for file in files])
        models = read_replicas(REPLICAS)
        replicas.append([model.filters.detach().numpy() for model in models])
        assert len(models) == count - 1
    assert contents[0] == contents[1] == contents[2] != contents[3]
    np.testing.assert_array_equal(replicas[0][:2], replicas[1])
    # The third replica is the model of its seed.
    model, _ = read_checkpoint(CHECKPOINT)
    np.testing.assert_array_equal(replicas[0][1], model.filters.detach())


def test_replicas_of_different_seeds_do_not_overlap() -> None:
    seeds = [seed for first in range(100) for seed in replica_seeds(first, 10)]
    assert len(set(seeds)) == 1_000
    assert all(0 <= seed < 2**32 for seed in seeds)  # as params.yaml allows


def test_each_epoch_is_a_line_and_without_a_terminal_there_is_no_bar(project: Project) -> None:
    process = project.run("python", "-m", "stages.train")
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
    command = ["python", "-m", "stages.train"]
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
    assert "epoch 1/2:   0%|" in output
    assert "/32 [" in output
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
