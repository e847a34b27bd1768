"""The pipeline as its users run it: through dvc, in clones."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stages.storage.tensors import PREPARED_LAYOUT, read_split
from tests.helpers.project import Project

ALL = ["check", "fetch", "prepare", "train", "evaluate"]
CHECKPOINT = "data/checkpoints/model.safetensors"


def metrics(project: Project, name: str) -> Any:
    return json.loads((project.path / f"metrics/{name}.json").read_text())


def test_a_fresh_clone_gives_the_committed_bytes(clone: Callable[[], Project]) -> None:
    project = clone()
    assert project.ran("repro") == ALL
    assert project.status() == ""
    assert project.ran("repro") == []


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("evaluate.calibration_bins=10", ["check", "evaluate"]),
        ("evaluate.mistakes=6", ["check", "evaluate"]),
        ("train.lr=0.005", ["check", "train", "evaluate"]),
        ("train.momentum=0.9", ["check", "train", "evaluate"]),
        ("train.weight_decay=0.01", ["check", "train", "evaluate"]),
        ("train.batch_size=32", ["check", "train", "evaluate"]),
        ("train.drop_last=true", ["check", "train", "evaluate"]),
        ("train.epochs=2", ["check", "train", "evaluate"]),
        ("train.seed=1", ["check", "train", "evaluate"]),
        ("train.model=mlp train.width=32", ["check", "train", "evaluate"]),
        ("train.model=cnn train.width=2", ["check", "train", "evaluate"]),
        ("train.precision=float32", ["check", "train", "evaluate"]),
        ("train.augment=affine", ["check", "train", "evaluate"]),
        ("train.loss=mse", ["check", "train", "evaluate"]),
        ("train.label_smoothing=0.1", ["check", "train", "evaluate"]),
        ("train.optimizer=adam", ["check", "train", "evaluate"]),
        ("train.schedule=one_cycle", ["check", "train", "evaluate"]),
        ("train.momentum=0.9 train.nesterov=true", ["check", "train", "evaluate"]),
        ("train.batch_size=full", ["check", "train", "evaluate"]),
        ("train.replicas=1", ["check", "train", "evaluate"]),
        ("train.log_every=5", ["check", "train"]),  # the same weights, looked at more often
        ("prepare.train_size=1000", ["check", "prepare", "train", "evaluate"]),
        ("prepare.val_size=100", ["check", "prepare", "train", "evaluate"]),
        ("prepare.sampling=first", ["check", "prepare", "train", "evaluate"]),
        ("prepare.seed=1", ["check", "prepare", "train", "evaluate"]),
    ],
)
def test_a_parameter_runs_what_it_affects_and_changes_its_result(
    project: Project, change: str, stages: list[str]
) -> None:
    changes = [part for one in change.split() for part in ("-S", one)]
    assert project.ran("exp", "run", *changes) == stages
    changed = project.run("git", "diff", "--name-only").stdout
    assert "params.yaml" in changed
    assert "metrics/" in changed


def test_a_parameter_set_back_is_restored_without_running(project: Project) -> None:
    project.run("dvc", "exp", "run", "-S", "train.lr=0.005")
    out = project.run("dvc", "exp", "run", "-S", "train.lr=0.01").stdout
    assert "Running stage" not in out
    assert "is cached" in out
    assert project.status() == ""


def test_a_comment_in_params_runs_the_check_alone(project: Project) -> None:
    project.edit("params.yaml", "# learning rate", "# step size")
    assert project.ran("repro") == ["check"]


def test_bad_parameters_are_refused_before_an_output_is_removed(project: Project) -> None:
    project.edit("params.yaml", "  lr:", "  lrr:")
    for target in ("evaluate", "train"):  # a target does not get around the check
        done = project.run("dvc", "repro", target, ok=False)
        assert "params.yaml: train.lrr: unknown parameter; did you mean lr?" in done.stderr
        assert "Traceback" not in done.stderr
    for name in (CHECKPOINT, "metrics/train.json"):
        assert (project.path / name).exists()
    project.run("git", "checkout", "params.yaml")
    project.run("dvc", "repro")
    assert project.status() == ""


@pytest.mark.parametrize("attempt", range(3))
def test_a_refused_experiment_can_be_taken_back(project: Project, attempt: int) -> None:
    """Whose change of params.yaml git may miss: same second, same size."""
    project.run("dvc", "exp", "run", "-S", "train.epochs=11", "-S", "train.lr=abcd", ok=False)
    assert "params.yaml" in project.status()
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "repro")
    assert project.status() == ""


def test_a_failed_run_leaves_the_last_one_restorable(project: Project) -> None:
    before = (project.path / CHECKPOINT).read_bytes()
    too_much = ("-S", "train.lr=1e38", "-S", "train.weight_decay=1e38")
    done = project.run("dvc", "exp", "run", *too_much, ok=False)
    assert "params.yaml: train.lr: with 1e+38 the loss became" in done.stderr
    assert "Traceback" not in done.stderr
    project.run("git", "checkout", ".")
    project.run("dvc", "checkout")
    assert (project.path / CHECKPOINT).read_bytes() == before
    assert project.ran("repro") == []


def test_what_dvc_writes_into_params_arrives_as_a_number(project: Project) -> None:
    project.run("dvc", "exp", "run", "-S", "train.lr=1e-5", "-S", "train.epochs=1")
    assert "lr: 1e-05" in (project.path / "params.yaml").read_text()


def test_an_experiment_in_a_temporary_folder_uses_its_own_parameters(project: Project) -> None:
    before = metrics(project, "train")
    project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", "train.lr=0.1")
    assert metrics(project, "train") == before
    project.run("dvc", "exp", "apply", "elsewhere")
    assert metrics(project, "train") != before


def test_accuracy_is_that_of_the_tutorial(reproduced: Project) -> None:
    for split in ("val", "test"):
        accuracy = metrics(reproduced, "evaluate")[split]["accuracy"]
        assert 0.77 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 0.88


def test_the_metrics_agree_with_the_predictions(reproduced: Project) -> None:
    with (reproduced.path / "metrics/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    evaluated = metrics(reproduced, "evaluate")
    for split, n in (("val", 500), ("test", 2_500)):
        mine = [row for row in rows if row["split"] == split]
        data = read_split(reproduced.path / f"data/prepared/{split}.safetensors", PREPARED_LAYOUT)
        assert [int(row["label"]) for row in mine] == data["labels"].tolist()
        assert [int(row["index"]) for row in mine] == data["index"].tolist()
        correct = sum(row["label"] == row["predicted"] for row in mine)
        assert evaluated[split]["n"] == len(mine) == n
        assert evaluated[split]["accuracy"]["value"] == correct / n
        accuracies = [
            sum(row["label"] == row[column] for row in mine) / n
            for column in ("predicted", *(f"replica_{number}" for number in range(1, 5)))
        ]
        replicas = evaluated[split]["replicas"]
        assert replicas["n"] == 5
        assert replicas["mean"] == pytest.approx(np.mean(accuracies), abs=1e-6)
        assert replicas["sd"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)
        assert Counter(row["label"] for row in mine) == {str(d): n // 10 for d in range(10)}
    assert metrics(reproduced, "train")["val_accuracy"] == evaluated["val"]["accuracy"]["value"]


def test_dvc_compares_and_shows(project: Project) -> None:
    project.run("dvc", "exp", "run", "-n", "slower", "-S", "train.lr=0.005")
    diff = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert diff["metrics/evaluate.json"]["val.accuracy.value"]["diff"] < 0
    params = json.loads(project.run("dvc", "params", "diff", "--json").stdout)
    assert params["params.yaml"] == {"train.lr": {"old": 0.01, "new": 0.005, "diff": -0.005}}
    assert "slower" in project.run("dvc", "exp", "show", "--csv").stdout
    plots = json.loads(project.run("dvc", "plots", "diff", "--json").stdout)["data"]
    assert sorted(plots) == [
        "accuracy",
        "metrics/history.csv",
        "metrics/mistakes.png",
        "metrics/predictions.csv",
        "metrics/samples.png",
        "metrics/weights.png",
    ]
    for name in ("accuracy", "metrics/history.csv", "metrics/predictions.csv"):
        [plot] = plots[name]
        points = plot["content"]["data"]["values"]
        assert {point["rev"] for point in points} == {"HEAD", "workspace"}
        assert "<DVC_METRIC" not in json.dumps(plot["content"])
