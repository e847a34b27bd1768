"""Every recipe, as `make recipe` runs it, on small data."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.helpers.project import ROOT, Project

RECIPES = sorted(path.name for path in (ROOT / "recipes").iterdir())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
# A recipe does not choose these.
FREE = {"prepare.seed", "train.seed"}


def changes(name: str) -> dict[str, str]:
    lines = (ROOT / "recipes" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def make(project: Project, name: str, ok: bool = True) -> str:
    # What is installed here, instead of a .venv of the clone's own.
    (project.path / ".venv").mkdir(exist_ok=True)
    (project.path / ".venv/installed").touch()
    done = project.run("make", "recipe", f"NAME={name}", ok=ok)
    return done.stdout if ok else done.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_everything_that_decides_its_result(name: str) -> None:
    """So that it gives the same whatever stands in params.yaml."""
    all_of_them = {
        f"{section}.{key}" for section in ("fetch", "prepare", "train") for key in PARAMS[section]
    }
    assert set(changes(name)) == all_of_them - FREE
    assert (ROOT / "recipes" / name).read_text().startswith("# ")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_and_prints_its_metrics(project: Project, name: str) -> None:
    recipe = project.path / "recipes" / name
    chosen = changes(name)
    small = {"fetch.dataset": "mnist-5k", "prepare.train_size": "100", "prepare.val_size": "50"}
    if "cnn" in chosen["train.model"]:
        small |= {"train.width": "3", "train.epochs": "2"}
    text = recipe.read_text()
    for key, value in small.items():
        text = text.replace(f"{key}={chosen[key]}\n", f"{key}={value}\n")
    recipe.write_text(text)
    project.commit("small")
    said = make(project, name)
    assert "val.accuracy.value" in said
    assert "test.accuracy.value" in said
    assert name in project.run("dvc", "exp", "list").stdout
    ran = YAML(typ="safe").load((project.path / "params.yaml").read_text())
    for key, value in {**chosen, **small}.items():
        section, _, name_of_it = key.partition(".")
        assert str(ran[section][name_of_it]).lower() == value


@pytest.mark.parametrize("name", ["", "nonsense", "../params.yaml"])
def test_another_name_is_answered_with_the_names(project: Project, name: str) -> None:
    said = make(project, name, ok=False)
    assert f"needs one of: {' '.join(RECIPES)}" in said


def test_the_readme_has_a_row_for_each() -> None:
    readme = Path(ROOT / "README.md").read_text()
    for name in RECIPES:
        assert f"| `{name}` |" in readme
