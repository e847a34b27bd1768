"""Searches: what they may try, the same trials with any number of workers, and a confirmation."""

import csv
import io
import json
import math
import re
import shutil
import statistics
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.sweep import kill_midway
from stages.storage.errors import InputError
from stages.storage.yaml_reader import parse_yaml
from tests.helpers.project import Project
from fairtrial.project.revisions import read_files
from fairtrial.cluster.client import CodeLocation
from fairtrial.project.pipeline import read_pipeline
from fairtrial.search.execution import Computation
from fairtrial.search.grid import Point
from fairtrial.search.rows import METRIC, metric_value
from fairtrial.search.space import parse_space
from fairtrial.search.trials import Rung, SearchOptions, read_rungs, replace, search

PARAMS = {"train.lr": 0.01, "train.batch_size": 64, "train.optimizer": "sgd", "train.epochs": 10}
THREE = (
    "-S",
    "train.lr=interval(0.001,1)",
    "-S",
    "train.weight_decay=interval(0,0.1)",
    "-S",
    "train.optimizer=sgd,adam",
)


def run_search(
    project: Project, *arguments: str, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "fairtrial.sweep", *arguments, ok=ok)


def keys(project: Project) -> list[str]:
    lines = (project.path / "sweeps/points.jsonl").read_text().splitlines()
    return [json.loads(line)["key"] for line in lines]


def table(project: Project) -> list[dict[str, str]]:
    """Return the rows of the table without what is different in every run."""
    with (project.path / "sweeps/sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: row[name] for name in row if "seconds" not in name} for row in rows]


@pytest.mark.parametrize(
    ("setting", "distribution", "ends"),
    [
        ("train.lr=interval(0.01,1)", FloatDistribution(0.01, 1, log=True), ["0.01", "1.0"]),
        ("train.lr=interval(0.5,1)", FloatDistribution(0.5, 1), ["0.5", "1.0"]),
        ("train.lr=interval(0,1)", FloatDistribution(0, 1), ["0.0", "1.0"]),
        ("train.lr=tag(log,interval(0.5,1))", FloatDistribution(0.5, 1, log=True), ["0.5", "1.0"]),
        ("train.lr=tag(linear,interval(0.01,1))", FloatDistribution(0.01, 1), ["0.01", "1.0"]),
        ("train.batch_size=interval(16,128)", IntDistribution(16, 128), ["16", "128"]),
        ("train.batch_size=interval(8,128)", IntDistribution(8, 128, log=True), ["8", "128"]),
        ("train.epochs=range(2,11,3)", IntDistribution(0, 2), ["2", "8"]),
        ("train.optimizer=sgd,adam", CategoricalDistribution(["sgd", "adam"]), ["sgd", "adam"]),
        ("train.lr=choice(0.1,1)", CategoricalDistribution(["0.1", "1"]), ["0.1", "1"]),
    ],
)
def test_a_setting_is_a_distribution(setting: str, distribution: object, ends: list[str]) -> None:
    fixed = ["train.seed=3", "prepare.train_size=500"]
    space = parse_space([setting, *fixed], PARAMS)
    assert space.default == ["prepare.train_size=500"]  # the training of params.yaml on these data
    name = setting.partition("=")[0]
    assert space.dimensions[name].distribution == distribution
    assert space.corners == [*fixed, f"{name}={','.join(ends)}"]


def test_the_values_of_a_trial_are_short_and_within_their_ends() -> None:
    space = parse_space(
        ["train.lr=interval(0.012344,1)", "train.epochs=range(2,11,3)", "train.seed=3"], PARAMS
    )
    overrides = space.overrides({"train.lr": 0.0123441, "train.epochs": 1})
    assert overrides == ["train.seed=3", "train.lr=0.012344", "train.epochs=5"]
    overrides = space.overrides({"train.lr": 0.2345678, "train.epochs": 2})
    assert overrides == ["train.seed=3", "train.lr=0.2346", "train.epochs=8"]


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_budgets_grow_threefold_for_a_third_of_the_trials(
    reproduced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reproduced.path)

    def rungs(*fixed: str) -> list[Rung]:
        space = parse_space(["train.lr=0.1,1", *fixed], PARAMS)
        return read_rungs(space, read_pipeline(), halving=True)

    first = Rung(["train.epochs=2", "train.replicas=1"], 1)
    second = Rung(["train.epochs=4", "train.replicas=2"], 1 / 3)
    whole = Rung([], 1 / 9)
    assert rungs() == [first, second, whole]
    # Budgets that are the same are one rung.
    one = Rung(["train.epochs=1", "train.replicas=1"], 1)
    assert rungs("train.epochs=1", "train.replicas=2") == [one, whole]
    with pytest.raises(InputError, match="one epoch of one model cannot be shortened"):
        rungs("train.epochs=1", "train.replicas=1")


def test_an_override_takes_the_place_of_another() -> None:
    assert replace(["train.lr=1", "train.epochs=3"], ["train.epochs=1"]) == [
        "train.lr=1",
        "train.epochs=1",
    ]


@pytest.fixture
def short_project(small_project: Project) -> Project:
    small_project.set_params("train.epochs=3")
    small_project.run("dvc", "repro")
    small_project.commit("A short training")
    return small_project


@pytest.mark.slow
def test_a_killed_search_continues_and_any_number_of_workers_gives_the_same(
    short_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*THREE, "--trials=12", "--halving", "--seed=1")
    other = Project(shutil.copytree(short_project.path, tmp_path / "other/project"))
    process = subprocess.Popen(
        ["python", "-m", "fairtrial.sweep", "--workers=2", *arguments],
        cwd=short_project.path,
        env=short_project.env,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_midway(short_project.path, process, process, 11)  # in the second round
    process.wait()
    before = keys(short_project)
    continued = run_search(short_project, "--workers=2", *arguments).stdout
    whole = run_search(other, "--workers=1", *arguments).stdout
    assert continued == whole
    assert table(short_project) == table(other)
    assert keys(short_project)[: len(before)] == before
    # Two rounds of rungs of 9 and 1 and of 3 and 1 trials, and two points to confirm the best.
    assert len(keys(other)) == len(set(keys(other))) == 9 + 1 + 3 + 1 + 2
    # Two workers answer in any order.
    assert sorted(keys(short_project)) == sorted(keys(other))
    assert not (short_project.path / ".dvc/tmp/search").exists()

    # The best was trained in two steps, and its experiment, which has the same bits, in one.
    assert whole.startswith("12 trials in rounds of 9\nround 1/2: best of 9 trials 0.")
    rows = table(other)
    assert [row["whole"] for row in rows] == ["True"] * 2 + ["False"] * 10
    assert sorted({row["epochs"] for row in rows}) == ["1", "3"]
    best = rows[0]["experiment"]
    assert f"{best} is an experiment of the same bits" in whole
    # The confirmation is on other seeds than the search, and it knows of how many it is the best.
    [(default, confirmed)] = re.findall(r"tools\.compare (sweep-\w+) (sweep-\w+)", whole)
    chosen = json.loads((other.path / "sweeps/chosen.json").read_text())
    assert chosen == {confirmed: 12, best: 12}
    compared = other.run("python", "-m", "fairtrial.compare", default, confirmed).stdout
    [verdict] = [line for line in whole.splitlines() if re.match(rf"{confirmed}\b.* points", line)]
    assert verdict in compared.splitlines()
    monkeypatch.chdir(other.path)
    of_best, of_default, of_confirmed = (
        parse_yaml(read_files(name, "params.yaml")[0].decode(), name)["train"]
        for name in (best, default, confirmed)
    )
    fresh = {"seed": of_default["seed"], "replicas": 5}
    assert of_confirmed == of_best | fresh
    assert of_best["seed"] == 0 != fresh["seed"]
    other.run("python", "-m", "fairtrial.report", default, confirmed, "--sweep")
    page = (other.path / "report.html").read_text()
    titles = ["Sweep over train.lr", "Best of the search so far", "Parallel coordinates"]
    assert all(f"<h2>{title}</h2>" in page for title in titles)
    metrics = json.loads(read_files(confirmed, "metrics/evaluate.json")[0])
    assert f"confirmed {100 * metrics['val']['replicas']['mean']:.2f} ± " in whole


class ClosedForm(Computation):
    """Gives points a value that depends on the learning rate alone, the best at 0.1.

    In the place of trainings, because their best setting is not known, and it takes hundreds of
    them to tell two samplers apart.
    """

    def compute(self, points: list[Point], label: str | None = None) -> None:
        for point in points:
            lr = float(point.settings["train.lr"])
            value = -abs(math.log10(lr) + 1)
            metrics = {"evaluate": {"val": {"replicas": {"mean": value}}}}
            self.rows[point.key] = {"metrics": metrics, "seconds": 1.0}


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_tpe_learns_from_the_rounds_before_and_random_does_not(
    reproduced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reproduced.path)
    space = parse_space(["train.lr=interval(0.00001,1)"], PARAMS)

    def distances(sampler: str, seed: int) -> list[float]:
        """Return how far each trial is from the best, in decades."""
        location = CodeLocation("", "", None)
        computation = ClosedForm({}, io.BytesIO(), location, None, 1, METRIC, ExitStack())
        options = SearchOptions(45, sampler, seed, 9, halving=False)
        trials = search(space, options, [Rung([], 1)], read_pipeline(), computation)
        assert [trial.number for trial in trials] == list(range(45))
        assert [trial.total_seconds for trial in trials] == list(range(1, 46))
        return [
            -metric_value(computation.rows[trial.points[0].key]["metrics"], METRIC)
            for trial in trials
        ]

    tpe, random = distances("tpe", 0), distances("random", 0)
    assert distances("tpe", 0) == tpe != distances("tpe", 1)
    assert statistics.median(tpe[18:]) < 0.5 * statistics.median(random[18:])
    assert statistics.median(random[18:]) > 0.7


@pytest.mark.slow
def test_a_trial_that_cannot_be_trained_is_the_worst_of_the_search(short_project: Project) -> None:
    arguments = ("-S", "train.weight_decay=0,1e37", "-S", "train.lr=interval(0.1,10)")
    done = run_search(short_project, *arguments, "--trials=6", "--promote=0", "--seed=2")
    assert "params.yaml: train.lr: with " in done.stderr
    assert "failed" not in done.stderr
    rows = table(short_project)
    assert 0 < len(rows) < 6
    assert {row["train.weight_decay"] for row in rows} == {"0"}
    no_lr = "-S", "train.lr=interval(1e36,1e38)"
    none = run_search(
        short_project, *no_lr, "-S", "train.weight_decay=1e38", "--trials=2", ok=False
    )
    assert none.returncode == 2
    assert "round 1/1: none of 2 trials could be trained\n" in none.stdout
    assert none.stderr.splitlines()[-1] == "none of 2 trials could be trained; narrow the ranges"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "train.lr=interval(1,0.1)"], "an interval goes up from its start to its end, not "),
        (["-S", "train.lr=tag(log,interval(0,1))"], "a logarithmic interval starts above 0, not "),
        (["-S", "train.lr=tag(lgo,interval(0.1,1))"], "unknown tag lgo; there are log and linear"),
        (["-S", "train.lr=interval(0.1,inf)"], "an interval goes up from its start to its end"),
        (["-S", "train.lr=tag(log,range(1,4))"], "the tag log belongs to an interval"),
        (["-S", "train.batch_size=interval(3.2,3.9)"], "there are not two whole numbers from 3.2"),
        (["-S", "train.lr=interval(0.1"], "no viable alternative"),
        (["-S", "train.lr=0.1"], "-S train.lr=0.1: nothing to search; give a range, such as "),
        (["-S", "train.lr=interval(-1,1)"], "-S train.lr=-1.0: params.yaml: train.lr: "),
        (["-S", "train.rl=interval(0.1,1)"], "Is it in params.yaml?"),
        (
            ["-S", "train.optimizer=sgd,adam", "-S", "train.momentum=interval(0,0.9)"],
            "params.yaml: train.momentum: belongs to sgd; with adam it has to be 0, not 0.9",
        ),
        (["-S", "train.lr=0.1,1", "-S", "train.lr=1"], "-S: train.lr more than once"),
        (["-S", "train.seed=range(0,9)"], "-S train.seed: the best of many seeds was only lucky"),
        (["-S", "train.epochs=2,3", "--halving"], "-S train.epochs: --halving varies it; give it "),
        (
            ["-S", "train.lr=1,2", "-S", "train.schedule=one_cycle", "--halving"],
            "--halving: with train.schedule: one_cycle the learning rate depends on the number of ",
        ),
        (["-S", "train.lr=1,2", "--sampler=grid"], "argument --sampler: invalid choice: 'grid'"),
        (["-S", "train.lr=1,2", "--trials=0"], "--trials and --round have to be 1 or more"),
        (["-S", "train.lr=1,2", "--round=0"], "--trials and --round have to be 1 or more"),
        (["-S", "train.lr=1,2", "--seed=-1"], "--seed has to be from 0 to 4294967295"),
        (["-S", "train.lr=1,2", "--skip-invalid"], "--skip-invalid belongs to a grid"),
        (["-S", "train.lr=1,2", "--metric=loss"], "--metric loss: not a metric of val; there are "),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(
    reproduced: Project, arguments: list[str], message: str
) -> None:
    done = run_search(reproduced, "--trials=4", *arguments, ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (reproduced.path / "sweeps").exists()


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (None, "No such file"),
        (b"", "No columns to parse from file"),
        (b"experiment,train.lr\n", "index 2 is out of bounds"),
        (b"experiment,train.lr,metric\na,1,b\n", "could not convert string to float: 'b'"),
        (b"experiment,train.lr,evaluate.val.replicas.mean\na,1,2\n", "evaluate.val.replicas.sd"),
        (bytes(range(128, 256)), "can't decode byte"),
    ],
)
def test_a_report_refuses_the_table_of_a_sweep_that_is_none(
    small_project: Project, table: bytes | None, problem: str
) -> None:
    if table is not None:
        (small_project.path / "sweeps/x").mkdir(parents=True)
        (small_project.path / "sweeps/x/sweep.csv").write_bytes(table)
    done = small_project.run("python", "-m", "fairtrial.report", "--sweep=x", ok=False)
    assert done.returncode == 2
    [message] = done.stderr.splitlines()
    assert message.startswith("sweeps/x/sweep.csv: not the table of a sweep (")
    assert problem in message
    assert message.endswith("); `python -m fairtrial.sweep` writes it")


@pytest.mark.parametrize("option", ["--halving", "--sampler=tpe", "--seed=0", "--round=9"])
def test_an_option_of_a_search_is_refused_for_a_grid(reproduced: Project, option: str) -> None:
    done = run_search(reproduced, "-S", "train.lr=0.1,1", option, ok=False)
    assert done.returncode == 2
    name = option.partition("=")[0]
    assert done.stderr.endswith(f"{name} belongs to a search: add --trials\n")
