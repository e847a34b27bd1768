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

from fairtrial.cluster.client import CodeLocation
from fairtrial.project.contract import read_contract
from fairtrial.project.errors import InputError
from fairtrial.project.pipeline import read_pipeline
from fairtrial.project.revisions import read_files
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.search.goal import Goal
from fairtrial.search.optuna_search import Rung, SearchOptions, read_rungs, search
from fairtrial.search.point_runner import PointRunner
from fairtrial.search.points import Point, PointMaker, replace
from fairtrial.search.space import parse_space
from tests.fairtrial.clusters import kill_midway
from tests.fairtrial.commands import refused
from tests.helpers.project import ROOT, Project

PARAMS = {"fit.lr": 0.01, "fit.batch": 64, "fit.optimizer": "sgd", "fit.epochs": 5}
RANGES = ("-S", "fit.lr=interval(0.001,0.5)", "-S", "score.tolerance=0.4,0.5")


def run_search(
    project: Project, *arguments: str, ok: bool = True
) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "fairtrial", "sweep", *arguments, ok=ok)


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
        ("fit.lr=interval(0.01,1)", FloatDistribution(0.01, 1, log=True), ["0.01", "1.0"]),
        ("fit.lr=interval(0.5,1)", FloatDistribution(0.5, 1), ["0.5", "1.0"]),
        ("fit.lr=interval(0,1)", FloatDistribution(0, 1), ["0.0", "1.0"]),
        ("fit.lr=tag(log,interval(0.5,1))", FloatDistribution(0.5, 1, log=True), ["0.5", "1.0"]),
        ("fit.lr=tag(linear,interval(0.01,1))", FloatDistribution(0.01, 1), ["0.01", "1.0"]),
        ("fit.batch=interval(16,128)", IntDistribution(16, 128), ["16", "128"]),
        ("fit.batch=interval(8,128)", IntDistribution(8, 128, log=True), ["8", "128"]),
        ("fit.epochs=range(2,11,3)", IntDistribution(0, 2), ["2", "8"]),
        ("fit.optimizer=sgd,adam", CategoricalDistribution(["sgd", "adam"]), ["sgd", "adam"]),
        ("fit.lr=choice(0.1,1)", CategoricalDistribution(["0.1", "1"]), ["0.1", "1"]),
    ],
)
def test_a_setting_is_a_distribution(setting: str, distribution: object, ends: list[str]) -> None:
    fixed = ["fit.seed=3", "points.noise=0.5"]
    space = parse_space([setting, *fixed], PARAMS)
    assert space.default == ["points.noise=0.5"]  # the fit of params.yaml on these data
    name = setting.partition("=")[0]
    assert space.dimensions[name].distribution == distribution
    assert space.corners() == [[*fixed, f"{name}={end}"] for end in ends]


def test_the_values_of_a_trial_are_short_and_within_their_ends() -> None:
    settings = ["fit.lr=interval(0.012344,1)", "fit.epochs=range(2,11,3)", "fit.seed=3"]
    space = parse_space(settings, PARAMS)
    overrides = space.overrides({"fit.lr": 0.0123441, "fit.epochs": 1})
    assert overrides == ["fit.seed=3", "fit.lr=0.012344", "fit.epochs=5"]
    overrides = space.overrides({"fit.lr": 0.2345678, "fit.epochs": 2})
    assert overrides == ["fit.seed=3", "fit.lr=0.2346", "fit.epochs=8"]


def point_maker() -> PointMaker:
    contract = read_contract()
    return PointMaker(read_pipeline(contract), contract)


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_budgets_grow_threefold_for_a_third_of_the_trials(
    regression: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(regression.path)

    def rungs(*fixed: str) -> list[Rung]:
        space = parse_space(["points.noise=0.1,0.2", *fixed], PARAMS)
        return read_rungs(space, point_maker(), halving=True)

    first = Rung(["fit.epochs=1", "fit.replicas=1"], 1)
    second = Rung(["fit.epochs=2", "fit.replicas=2"], 1 / 3)
    full = Rung([], 1 / 9)
    assert rungs() == [first, second, full]
    # Budgets that are the same are one rung.
    assert rungs("fit.epochs=1", "fit.replicas=2") == [first, full]
    with pytest.raises(InputError, match=r"fit\.epochs and fit\.replicas cannot be less"):
        rungs("fit.epochs=1", "fit.replicas=1")
    # Without a budget in the contract it is the number of replicas alone.
    regression.edit("dvc.yaml", "        budget: fit.epochs\n", "")
    regression.commit("No budget")
    first, second = Rung(["fit.replicas=1"], 1), Rung(["fit.replicas=2"], 1 / 3)
    assert rungs() == [first, second, full]


def test_an_override_replaces_another_of_the_same_name() -> None:
    assert replace(["fit.lr=1", "fit.epochs=3"], ["fit.epochs=1"]) == ["fit.lr=1", "fit.epochs=1"]


# A variant of the second project whose fit keeps states, and notes each epoch that it computes.
KEEP_STATES = [
    (
        '        for epoch in range(of["epochs"]):\n',
        """\
        states, done = os.environ.get("FAIRTRIAL_STATES"), 0
        path = Path(states or ".", f"{of['lr']}-{of['seed']}-{replica}.pickle")
        if states and path.exists():
            weights, random, done, old = pickle.loads(path.read_bytes())
            curve += old
        for epoch in range(done, of["epochs"]):
            with open("EPOCHS", "a") as file:
                file.write(f"{path.name} {epoch}\\n")
""",
    ),
    (
        "        predicted.append(waves @ weights)\n",
        """\
        if states:
            path.parent.mkdir(exist_ok=True)
            old = [row for row in curve if row[0] == replica]
            path.write_bytes(pickle.dumps([weights, random, max(done, of["epochs"]), old]))
        predicted.append(waves @ weights)
""",
    ),
    ("import json\n", "import json\nimport os\nimport pickle\n"),
]


@pytest.mark.slow
def test_a_killed_search_continues_and_any_number_of_workers_gives_the_same(
    regression: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = tmp_path / "epochs"
    for old, new in KEEP_STATES:
        regression.edit("regression.py", old, new.replace("EPOCHS", str(epochs)))
    regression.commit("States are kept")
    arguments = (*RANGES, "--trials=12", "--halving", "--seed=1")
    other = Project(shutil.copytree(regression.path, tmp_path / "other/project"))
    other.env["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(
        ["python", "-m", "fairtrial", "sweep", "--workers=2", *arguments],
        cwd=regression.path,
        env=regression.env,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    kill_midway(regression, process, process, 14)  # in the second round
    process.wait()
    before = keys(regression)
    continued = run_search(regression, "--workers=2", *arguments).stdout
    epochs.unlink()
    output = run_search(other, "--workers=1", *arguments).stdout
    assert continued == output
    assert table(regression) == table(other)
    assert keys(regression)[: len(before)] == before
    # Two rounds of rungs of 9, 3 and 1 and of 3, 1 and 1 trials, and two points to confirm.
    assert len(keys(other)) == len(set(keys(other))) == 9 + 3 + 1 + 3 + 1 + 1 + 2
    # Two workers answer in any order.
    assert sorted(keys(regression)) == sorted(keys(other))
    assert not (regression.path / ".dvc/tmp/search").exists()

    # No trial computed an epoch of a replica twice; the experiments, which keep no states, did.
    best = table(other)[0]
    notes = epochs.read_text().splitlines()
    of_trials = [note for note in notes if float(note.partition("-")[0]) != float(best["fit.lr"])]
    searched = [note for note in of_trials if "-0-" in note]
    assert len(searched) == len(set(searched)) > 20
    # The best was trained in three steps, and its experiment, which has the same bits, in one.
    assert output.startswith("12 trials in rounds of 9\nround 1/2: best of 9 trials 0.")
    rows = table(other)
    assert [row["rung"] for row in rows] == ["3", "3", "2", "2"] + ["1"] * 8
    assert f"reproduced bit for bit as experiment {best['experiment']}: " in output
    # The confirmation is on other seeds than the search, and it knows of how many it is the best.
    [(default, confirmed)] = re.findall(r"fairtrial compare (sweep-\w+) (sweep-\w+)", output)
    chosen = json.loads((other.path / "sweeps/chosen.json").read_text())
    assert [one["settings"] for one in chosen.values()] == [12]
    compared = other.run("python", "-m", "fairtrial", "compare", default, confirmed).stdout
    [verdict] = [
        line for line in output.splitlines() if line.startswith(f"{confirmed}") and "CI" in line
    ]
    assert verdict in compared.splitlines()
    monkeypatch.chdir(other.path)
    of_best, of_default, of_confirmed = (
        parse_yaml(read_files(name, "params.yaml")[0].decode(), name)["fit"]
        for name in (best["experiment"], default, confirmed)
    )
    fresh = {"seed": of_default["seed"], "replicas": 5}
    assert of_confirmed == of_best | fresh
    assert of_best["seed"] == 0 != fresh["seed"]


class ClosedForm(PointRunner):
    """Gives points a value that depends on the learning rate alone, the best at 0.1.

    In the place of trainings, because their best setting is not known, and it takes hundreds of
    them to tell two samplers apart.
    """

    def compute(self, points: list[Point], label: str | None = None) -> None:
        for point in points:
            [lr] = [one for one in point.overrides if one.startswith("fit.lr=")]
            value = abs(math.log10(float(lr.partition("=")[2])) + 1)
            metrics = {"val": {"squared_error": {"mean": value, "sd": None}}}
            self.rows[point.key] = {"metrics": metrics, "seconds": 1.0}


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
def test_tpe_learns_from_the_rounds_before_and_random_does_not(
    reproduced_regression: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(reproduced_regression.path)
    space = parse_space(["fit.lr=interval(0.00001,1)"], PARAMS)
    maker = point_maker()
    goal = Goal(maker.contract, "squared_error")

    def distances(sampler: str, seed: int) -> list[float]:
        """Return how far each trial is from the best, in decades."""
        location = CodeLocation("", "", "", None)
        runner = ClosedForm({}, io.BytesIO(), location, None, 1, goal, ExitStack())
        options = SearchOptions(45, sampler, seed, 9, halving=False)
        trials = search(space, options, [Rung([], 1)], maker, runner)
        assert len(trials) == 45
        return [goal.value(runner.rows[trial.points[0].key]) for trial in trials]

    tpe, random = distances("TPESampler", 0), distances("RandomSampler", 0)
    assert distances("TPESampler", 0) == tpe != distances("TPESampler", 1)
    assert statistics.median(tpe[18:]) < 0.5 * statistics.median(random[18:])
    assert statistics.median(random[18:]) > 0.7


@pytest.mark.slow
def test_a_trial_that_is_refused_is_the_worst_of_the_search(regression: Project) -> None:
    start = '    with POINTS.open(newline="") as file:\n'
    refusal = (
        '    if params["points"]["noise"] > 1:\n'
        '        raise ValueError("params.yaml: points.noise: too much")\n'
    )
    regression.edit("regression.py", start, refusal + start)
    regression.commit("Noise is refused")
    arguments = ("-S", "points.noise=0.3,3.0", "-S", "fit.lr=interval(0.01,0.1)")
    done = run_search(regression, *arguments, "--trials=6", "--promote=0", "--seed=2")
    assert "params.yaml: points.noise: too much" in done.stderr
    assert "failed" not in done.stderr
    rows = table(regression)
    assert 0 < len(rows) < 6
    assert {row["points.noise"] for row in rows} == {"0.3"}
    arguments = ("-S", "points.noise=3.0", "-S", "fit.lr=interval(0.01,0.1)")
    none = run_search(regression, *arguments, "--trials=2", ok=False)
    assert none.returncode == 2
    assert "round 1/1: none of 2 trials could be trained\n" in none.stdout
    assert none.stderr.splitlines()[-1] == "none of 2 trials could be trained; narrow the ranges"


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "fit.lr=interval(1,0.1)"], "an interval goes up from its start to its end, not "),
        (["-S", "fit.lr=tag(log,interval(0,1))"], "a logarithmic interval starts above 0, not "),
        (["-S", "fit.lr=tag(lgo,interval(0.1,1))"], "unknown tag lgo; there are log and linear"),
        (["-S", "fit.lr=interval(0.1,inf)"], "an interval goes up from its start to its end"),
        (["-S", "fit.lr=tag(log,range(1,4))"], "the tag log belongs to an interval"),
        (["-S", "fit.epochs=interval(3.2,3.9)"], "there are not two whole numbers from 3.2"),
        (["-S", "fit.lr=interval(0.1"], "no viable alternative"),
        (["-S", "fit.lr=0.1"], "-S fit.lr=0.1: nothing to search; give a range, such as "),
        (["-S", "fit.lr=interval(-1,1)"], "-S fit.lr=-1.0: params.yaml: fit.lr: "),
        (["-S", "fit.rl=interval(0.1,1)"], "Is it in params.yaml?"),
        (["-S", "fit.lr=0.1,1.0", "-S", "fit.lr=1.0"], "-S: fit.lr more than once"),
        (["-S", "fit.seed=range(0,9)"], "-S fit.seed: the best of many seeds was only lucky"),
        (["-S", "fit.epochs=2,3", "--halving"], "-S fit.epochs: --halving varies it; give it one"),
        (["-S", "fit.lr=0.1,0.2", "--trials=0"], "--trials and --round have to be 1 or more"),
        (["-S", "fit.lr=0.1,0.2", "--round=0"], "--trials and --round have to be 1 or more"),
        (["-S", "fit.lr=0.1,0.2", "--seed=-1"], "--seed has to be from 0 to 4294967295"),
        (["-S", "fit.lr=0.1,0.2", "--skip-invalid"], "--skip-invalid belongs to a grid"),
        (["-S", "fit.lr=0.1,0.2", "--metric=loss"], "unknown metric 'loss'; known: squared_error,"),
    ],
)
def test_a_bad_search_is_refused_before_anything_runs(
    reproduced_regression: Project,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    assert message in refused(reproduced_regression, monkeypatch, "--trials=4", *arguments)


@pytest.mark.parametrize("option", ["--halving", "--sampler=tpe", "--seed=0", "--round=9"])
def test_an_option_of_a_search_is_refused_for_a_grid(
    reproduced_regression: Project, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    name = option.partition("=")[0]
    message = refused(reproduced_regression, monkeypatch, "-S", "fit.lr=0.1,1.0", option)
    assert message == f"{name} belongs to a search: add --trials"
