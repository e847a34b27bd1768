"""This project as it is: parameters, dependencies, results. What it has, `dvc.yaml` says.

With long trainings, mark `test_the_results_come_out_again` as slow.
"""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from fairtrial.project.contract import read_contract
from fairtrial.project.revisions import flatten
from fairtrial.project.scores import load_scores
from stages.check import check_params
from stages.datasets.cards import find_card
from stages.evaluate import wilson_interval
from stages.storage.split_files import read_split
from tests.helpers.dependencies import missing_dependencies
from tests.helpers.project import ROOT, Project
from tests.project.conftest import STAGES, read

PARAMS = dict(flatten(read("params.yaml")))


def test_the_parameters_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    check_params()


def stages_of(parameter: str) -> list[str]:
    """Return the stages that depend on a parameter: by its name, or by that of its section."""
    return [
        name
        for name, stage in STAGES.items()
        if any(f"{parameter}.".startswith(f"{listed}.") for listed in stage.get("params", []))
    ]


def test_every_parameter_belongs_to_a_stage() -> None:
    idle = [name for name in PARAMS if not stages_of(name)]
    assert not idle, f"dvc.yaml: no stage has these in its params: {', '.join(idle)}"


def test_no_parameter_of_a_section_has_a_name_that_the_cache_of_runs_leaves_out() -> None:
    # DVC's cache of runs leaves these keys out of its own files, and so out of our sections.
    sections = {name for stage in STAGES.values() for name in stage.get("params", [])}
    for name in PARAMS:
        if name.endswith((".size", ".nfiles")):
            assert name.rpartition(".")[0] not in sections, f"dvc.yaml: list {name} by itself"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports(stage: str) -> None:
    if str(STAGES[stage].get("cmd")).removeprefix("exec ") != f"python -m stages {stage}":
        pytest.skip("not one of stages/")
    problems = missing_dependencies("dvc.yaml", stage, STAGES[stage])
    assert not problems, "\n".join(problems)


def test_dvc_ignores_what_is_not_code_in_the_folders_that_stages_depend_on() -> None:
    folders = {
        dep
        for stage in STAGES.values()
        for dep in stage["deps"]
        if next((ROOT / dep).rglob("*.py"), None)
    }
    code = (
        "import sys\n"
        "from dvc.repo import Repo\n"
        "ignore = Repo('.').dvcignore\n"
        "print([name for name in sys.argv[1:] if not ignore.is_ignored_file(name)])\n"
    )
    files = [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".c", ".h")
    ]
    command = [sys.executable, "-c", code, *files]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "[]\n"


def test_the_results_are_those_of_the_parameters_the_code_and_the_data(stale: str) -> None:
    assert not stale, stale


def test_the_results_come_out_again(reproduced_own: Project) -> None:
    changed = reproduced_own.status()
    assert not changed, f"type `dvc repro` and commit what it changes:\n{changed}"
    assert reproduced_own.ran("repro") == []


def test_a_changed_parameter_lets_its_stages_run(reproduced_own: Project) -> None:
    path = reproduced_own.path / "params.yaml"
    before = path.read_bytes()
    yaml = YAML()
    try:
        for name in {name.partition(".")[0]: name for name in PARAMS}.values():
            values = yaml.load(before)
            *sections, last = name.split(".")
            section = values
            for key in sections:
                section = section[key]
            section[last] = f"not {section[last]}"
            yaml.dump(values, path)
            status = json.loads(reproduced_own.run("dvc", "status", "--json").stdout)
            changed = {
                stage
                for stage, entries in status.items()
                for entry in entries
                if isinstance(entry, dict) and "params.yaml" in entry.get("changed deps", {})
            }
            assert set(stages_of(name)) <= changed <= {*stages_of(name), "check"}
    finally:
        path.write_bytes(before)


def test_the_data_are_what_the_card_says(reproduced_own: Project) -> None:
    with contextlib.chdir(reproduced_own.path):
        card = find_card(check_params().fetch)
        if card is None:
            pytest.skip("pictures have no card")
        for split in ("train", "test"):
            info, tensors = read_split(Path(f"data/raw/{split}.safetensors"))
            assert info == card.info
            assert tensors["images"].shape[1:] == info.shape
            assert not (count := getattr(card, split)) or len(tensors["labels"]) == count


def test_the_accuracy_is_above_chance(reproduced_own: Project) -> None:
    """Above that of always naming the commonest class, by more than chance."""
    with contextlib.chdir(reproduced_own.path):
        scores: Any = load_scores("workspace")
        if "accuracy" not in read_contract().metrics:
            pytest.skip("dvc.yaml names no accuracy")
    n = len(scores.labels)
    [(_, most)] = Counter(scores.labels).most_common(1)
    low, _ = wilson_interval(int(scores.scores["accuracy"][0].sum()), n)
    assert low > most / n, f"{low:.3f} is not above {most / n:.3f}, which a constant answer reaches"
