"""Every recipe, as `make recipe` runs it: on few images, and two of them on all of MNIST."""

import json
import re

import pytest
from ruamel.yaml import YAML

from tests.helpers.project import MNIST, ROOT, Project, needs_mnist

RECIPES = sorted(path.name for path in (ROOT / "recipes").iterdir())
PARAMS = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
# Parameters that a recipe does not set.
FREE = {"prepare.seed", "train.seed"}
# `make test` runs this one: convolutions, with augmentation.
FAST = ("best-2000",)
PAGES = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


def settings(name: str) -> dict[str, str]:
    lines = (ROOT / "recipes" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def make_recipe(project: Project, name: str, ok: bool = True) -> str:
    # Use what is installed here, instead of a .venv of the clone's own.
    (project.path / ".venv").mkdir(exist_ok=True)
    (project.path / ".venv/installed").touch()
    done = project.run("make", "recipe", f"NAME={name}", ok=ok)
    return done.stdout if ok else done.stderr


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_everything_that_decides_its_result(name: str) -> None:
    """So that it gives the same whatever stands in params.yaml."""
    keys = {
        f"{section}.{key}" for section in ("fetch", "prepare", "train") for key in PARAMS[section]
    }
    assert set(settings(name)) == keys - FREE
    assert (ROOT / "recipes" / name).read_text().startswith("# ")


@pytest.mark.parametrize("name", RECIPES)
def test_the_parameters_of_a_recipe_are_valid(small_project: Project, name: str) -> None:
    small_project.set_params(*(f"{key}={value}" for key, value in settings(name).items()))
    small_project.run("python", "-m", "stages.check")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in RECIPES],
)
def test_a_recipe_runs_and_prints_its_metrics(small_project: Project, name: str) -> None:
    recipe = small_project.path / "recipes" / name
    original = settings(name)
    small = {
        "fetch.source": "sources/mnist-5k.yaml",
        "prepare.train_size": "100",
        "prepare.val_size": "50",
    }
    if original["train.model"] == "cnn":
        small |= {"train.width": "3", "train.epochs": "2"}
    text = recipe.read_text()
    for key, value in small.items():
        text = text.replace(f"{key}={original[key]}\n", f"{key}={value}\n")
    recipe.write_text(text)
    small_project.commit("fewer images")
    out = make_recipe(small_project, name)
    assert "val.accuracy.value" in out
    assert "test.accuracy.value" in out
    assert name in small_project.run("dvc", "exp", "list").stdout
    params = YAML(typ="safe").load((small_project.path / "params.yaml").read_text())
    for key, value in {**original, **small}.items():
        section, _, parameter = key.partition(".")
        written = params[section][parameter]
        assert ("null" if written is None else str(written).lower()) == value


def published(name: str) -> tuple[float, float]:
    """Return mean and standard deviation over five seeds of the accuracy on test, in percent."""
    [row] = re.findall(rf"^\| `{name}` \|.*$", PAGES, re.MULTILINE)
    *_, (mean, sd) = re.findall(r"(\d+\.\d+) ± (\d+\.\d+) %", row)
    return float(mean), float(sd)


@pytest.mark.slow
@needs_mnist
@pytest.mark.parametrize("name", ["csc321", "mnist-classifier"])
def test_a_recipe_reaches_its_published_accuracy(small_project: Project, name: str) -> None:
    """On all of MNIST, within four standard errors of the published mean over five seeds.

    The published seeds are 0 to 4, those of the replicas others. So both means are over five
    seeds, and the standard error of their difference is sd * sqrt(1/5 + 1/5). The sampling of the
    images adds nothing to it: both train on the first images of the training pool, and are tested
    on all 10,000 test images. The arithmetic is exact, so the result is the same on every CPU.
    """
    assert settings(name)["train.precision"] == "exact"
    small_project.env["MNIST_MIRROR"] = str(MNIST)
    make_recipe(small_project, name)
    result = json.loads((small_project.path / "metrics/evaluate.json").read_text())["test"]
    mean, sd = published(name)
    assert result["n"] == 10_000
    assert result["replicas"]["n"] == 5
    assert abs(100 * result["replicas"]["mean"] - mean) <= 4 * sd * (1 / 5 + 1 / 5) ** 0.5


@pytest.mark.parametrize("name", ["", "nonsense", "../params.yaml"])
def test_an_unknown_name_is_answered_with_the_names(small_project: Project, name: str) -> None:
    err = make_recipe(small_project, name, ok=False)
    assert f"needs one of: {' '.join(RECIPES)}" in err


def test_the_readme_or_a_page_has_a_row_for_each() -> None:
    for name in RECIPES:
        assert f"| `{name}` |" in PAGES
