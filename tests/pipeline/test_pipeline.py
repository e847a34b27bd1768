"""The pipeline as its users run it: through dvc, in clones."""

import csv
import hashlib
import json
from typing import Any

import numpy as np
import pytest

from stages.storage.split_files import read_split
from tests.helpers.project import Project

CHECKPOINT = "data/checkpoints/model.safetensors"
FROM_PREPARE = ["check", "prepare", "train", "evaluate"]
FROM_TRAIN = ["check", "train", "evaluate"]


def metrics(project: Project, name: str) -> Any:
    return json.loads((project.path / f"metrics/{name}.json").read_text())[name]


def test_a_fresh_clone_gives_the_committed_bytes(project: Project) -> None:
    """In `project`, a fresh clone, every stage has run."""
    assert project.status() == ""
    assert project.ran("repro") == []


# Parameters, the stages that DVC runs when they change, and the iterations of the training then:
# ten epochs of five batches, unless the change is of their number. DVC compares a section as a
# whole. `make test` runs these rows, and the tests in tests/stages show what each parameter does.
CHANGES = [
    ("evaluate.calibration_bins=100", ["check", "evaluate"], 50),
    ("train.lr=0.005", FROM_TRAIN, 50),
    ("train.model=mlp train.width=32", FROM_TRAIN, 50),
    ("train.batch_size=full", FROM_TRAIN, 10),
    ("train.replicas=1", FROM_TRAIN, 50),
    ("train.log_every=5", ["check", "train"], 50),  # more rows of the curves, the same weights
    ("prepare.train_size=200", FROM_PREPARE, 40),
]
MORE_CHANGES = [
    ("evaluate.mistakes=6", ["check", "evaluate"], 50),
    ("train.momentum=0.9", FROM_TRAIN, 50),
    ("train.weight_decay=0.01", FROM_TRAIN, 50),
    ("train.batch_size=32", FROM_TRAIN, 100),
    ("train.drop_last=true", FROM_TRAIN, 40),
    ("train.epochs=2", FROM_TRAIN, 10),
    ("train.seed=1", FROM_TRAIN, 50),
    ("train.model=cnn train.width=2", FROM_TRAIN, 50),
    ("train.augment=affine", FROM_TRAIN, 50),
    ("train.loss=mse", FROM_TRAIN, 50),
    ("train.label_smoothing=0.1", FROM_TRAIN, 50),
    ("prepare.sampling=random train.class_weights=balanced", FROM_PREPARE, 50),
    ("train.augment=affine_mirror", FROM_TRAIN, 50),
    ("train.optimizer=adam", FROM_TRAIN, 50),
    ("train.schedule=one_cycle", FROM_TRAIN, 50),
    ("train.momentum=0.9 train.nesterov=true", FROM_TRAIN, 50),
    ("prepare.val_size=50", FROM_PREPARE, 50),
    ("prepare.sampling=first", FROM_PREPARE, 50),
    ("prepare.seed=1", FROM_PREPARE, 50),
]


@pytest.mark.parametrize(
    ("change", "stages", "iterations"),
    [*CHANGES, *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE_CHANGES)],
)
def test_a_parameter_runs_what_it_affects_and_changes_its_result(
    small_project: Project, change: str, stages: list[str], iterations: int
) -> None:
    small_project.set_params(*change.split())
    assert small_project.ran("repro") == stages
    changed = small_project.run("git", "diff", "--name-only").stdout
    assert "params.yaml" in changed
    assert "metrics/" in changed
    with (small_project.path / "metrics/curves.csv").open() as file:
        *_, last = csv.DictReader(file)
    assert int(last["iteration"]) == iterations


def test_a_parameter_set_back_is_restored_without_running(small_project: Project) -> None:
    """The value is one that DVC writes into params.yaml as YAML 1.2 has it."""
    assert small_project.ran("exp", "run", "-S", "train.lr=1e-5") == FROM_TRAIN
    assert "lr: 1e-05" in (small_project.path / "params.yaml").read_text()
    out = small_project.run("dvc", "exp", "run", "-S", "train.lr=0.01").stdout
    assert "Running stage" not in out
    assert "is cached" in out
    assert small_project.status() == ""


def test_a_comment_in_params_runs_only_the_check(small_project: Project) -> None:
    small_project.edit("params.yaml", "# learning rate", "# step size")
    assert small_project.ran("repro") == ["check"]


def test_bad_parameters_are_refused_before_an_output_is_removed(small_project: Project) -> None:
    small_project.edit("params.yaml", "  lr:", "  lrr:")
    for target in ("evaluate", "train"):  # a target does not get around the check
        done = small_project.run("dvc", "repro", target, ok=False)
        assert "params.yaml: train.lrr: unknown parameter; did you mean lr?" in done.stderr
        assert "Traceback" not in done.stderr
    for name in (CHECKPOINT, "metrics/train.json"):
        assert (small_project.path / name).exists()
    small_project.run("git", "checkout", "params.yaml")
    small_project.run("dvc", "repro")
    assert small_project.status() == ""


@pytest.mark.parametrize(
    "attempt", [1, *(pytest.param(number, marks=pytest.mark.slow) for number in (2, 3))]
)
def test_a_refused_experiment_can_be_taken_back(small_project: Project, attempt: int) -> None:
    """Whose change of params.yaml git may miss: same second, same size."""
    small_project.run("dvc", "exp", "run", "-S", "train.epochs=11", "-S", "train.lr=abcd", ok=False)
    assert "params.yaml" in small_project.status()
    small_project.run("git", "checkout", "HEAD", ".")
    small_project.run("dvc", "repro")
    assert small_project.status() == ""


def test_a_failed_run_leaves_the_last_one_restorable(small_project: Project) -> None:
    before = (small_project.path / CHECKPOINT).read_bytes()
    too_much = ("-S", "train.lr=1e38", "-S", "train.weight_decay=1e38")
    done = small_project.run("dvc", "exp", "run", *too_much, ok=False)
    assert "params.yaml: train.lr: with 1e+38 the loss became" in done.stderr
    assert "Traceback" not in done.stderr
    small_project.run("git", "checkout", ".")
    small_project.run("dvc", "checkout")
    assert (small_project.path / CHECKPOINT).read_bytes() == before
    assert small_project.ran("repro") == []


@pytest.mark.slow
def test_an_experiment_in_a_temporary_folder_uses_its_own_parameters(
    small_project: Project,
) -> None:
    before = metrics(small_project, "train")
    small_project.run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", "train.lr=0.1")
    assert metrics(small_project, "train") == before
    small_project.run("dvc", "exp", "apply", "elsewhere")
    assert metrics(small_project, "train") != before


def test_accuracy_is_that_of_the_tutorial(reproduced: Project) -> None:
    for split in ("val", "test"):
        accuracy = metrics(reproduced, "evaluate")[split]["accuracy"]
        assert 0.77 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 0.88


def table(project: Project, name: str, split: str) -> list[dict[str, str]]:
    with (project.path / f"metrics/{name}.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == split]


@pytest.mark.parametrize(("split", "n"), [("val", 500), ("test", 2_500)])
def test_the_metrics_are_means_of_the_scores(reproduced: Project, split: str, n: int) -> None:
    rows = table(reproduced, "scores", split)
    found = metrics(reproduced, "evaluate")[split]
    accuracies, losses = (
        [np.mean([float(row[f"{metric}.{r}"]) for row in rows]) for r in range(5)]
        for metric in ("accuracy", "cross_entropy")
    )
    assert found["n"] == len(rows) == n
    assert found["accuracy"]["value"] == accuracies[0]
    assert found["cross_entropy"] == pytest.approx(losses[0], abs=2e-6)
    assert found["replicas"]["n"] == 5
    assert found["replicas"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-6)
    assert found["replicas"]["sd"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-6)


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_rows_of_scores_are_the_images_of_the_split(reproduced: Project, split: str) -> None:
    rows = table(reproduced, "scores", split)
    _, data = read_split(reproduced.path / f"data/prepared/{split}.safetensors")
    assert [int(row["label"]) for row in rows] == data["labels"].tolist()
    assert len({row["example"] for row in rows}) == len(rows)
    hashes = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in data["images"]]
    assert [row["example"].partition("-")[0] for row in rows] == hashes


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_tables_of_the_plots_agree_with_the_scores(reproduced: Project, split: str) -> None:
    scores, predictions = (table(reproduced, name, split) for name in ("scores", "predictions"))
    assert [int(row["label"] == row["predicted"]) for row in predictions] == [
        int(row["accuracy.0"]) for row in scores
    ]
    bins = table(reproduced, "calibration", split)
    right = sum(int(row["n"]) * float(row["accuracy"]) for row in bins)
    assert sum(int(row["n"]) for row in bins) == len(scores)
    assert right == pytest.approx(sum(int(row["accuracy.0"]) for row in scores), abs=0.01)
    recalls = [float(row["recall"]) for row in table(reproduced, "classes", split)]
    balanced = metrics(reproduced, "evaluate")[split]["balanced_accuracy"]
    assert np.mean(recalls) == pytest.approx(balanced, abs=2e-6)


def test_train_and_evaluate_agree_on_val(reproduced: Project) -> None:
    trained, on_val = metrics(reproduced, "train"), metrics(reproduced, "evaluate")["val"]
    assert trained["val_accuracy"] == on_val["accuracy"]["value"]
    assert trained["val_loss"] == pytest.approx(on_val["cross_entropy"], abs=2e-6)


def test_the_clients_of_dvc_read_each_metric_by_a_name_of_its_own(reproduced: Project) -> None:
    """`dvc.api.metrics_show` merges all files, and raises where two have the same keys."""
    code = "import dvc.api, json; print(json.dumps(dvc.api.metrics_show()))"
    shown = json.loads(reproduced.run("python", "-c", code).stdout)
    assert shown == {
        name: metrics(reproduced, name) for name in ("evaluate", "fetch", "prepare", "train")
    }


@pytest.mark.slow
def test_dvc_compares_and_shows(small_project: Project) -> None:
    small_project.run("dvc", "exp", "run", "-n", "slower", "-S", "train.lr=0.005")
    diff = json.loads(small_project.run("dvc", "metrics", "diff", "--json").stdout)
    changed = diff["metrics/evaluate.json"]
    assert changed["evaluate.val.accuracy.value"]["diff"] < 0
    params = json.loads(small_project.run("dvc", "params", "diff", "--json").stdout)
    assert params["params.yaml"] == {"train.lr": {"old": 0.01, "new": 0.005, "diff": -0.005}}
    assert "slower" in small_project.run("dvc", "exp", "show", "--csv").stdout
    plots = json.loads(small_project.run("dvc", "plots", "diff", "--json").stdout)["data"]
    assert sorted(plots) == [
        "Loss",
        "metrics/calibration.csv",
        "metrics/classes.csv",
        "metrics/curves.csv",
        "metrics/mistakes.png",
        "metrics/predictions.csv",
        "metrics/samples.png",
        "metrics/scores.csv",
        "metrics/weights.png",
    ]
    for name in [name for name in plots if not name.endswith(".png")]:
        [plot] = plots[name]
        points = plot["content"]["data"]["values"]
        assert {point["rev"] for point in points} == {"HEAD", "workspace"}
        assert "<DVC_METRIC" not in json.dumps(plot["content"])
