"""Every recipe, as `make recipe` runs it: on few images, and two of them on all of MNIST."""

import json
import re

import pytest
from ruamel.yaml import YAML

from benchmarks.recipes import read_recipe
from fairtrial.project.revisions import flatten
from tests.helpers.project import DEFAULT, MNIST, ROOT, Project, needs_mnist
from tests.helpers.shapes import make_shapes

RECIPES = sorted(path.name for path in (ROOT / "recipes").iterdir())
PARAMS = YAML(typ="safe").load((DEFAULT / "params.yaml").read_text())
# Parameters that a recipe does not set.
FREE = {"prepare.seed", "train.seed"}
# `make test` runs this one: convolutions, with augmentation.
FAST = ("best-2000",)
PAGES = "".join(path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))


def settings(name: str) -> dict[str, str]:
    """Return all settings of a recipe, by the dotted names of the parameters."""
    return dict(setting.split("=", 1) for setting in read_recipe(ROOT / "recipes" / name))


def make_recipe(project: Project, name: str, ok: bool = True) -> str:
    # Use what is installed here, instead of a .venv of the clone's own.
    (project.path / ".venv").mkdir(exist_ok=True)
    (project.path / ".venv/installed").touch()
    done = project.run("make", "recipe", f"NAME={name}", ok=ok)
    return done.stdout if ok else done.stderr


def test_the_default_is_all_that_params_yaml_says_but_the_seeds() -> None:
    """So that a recipe gives the same whatever stands in params.yaml."""
    sections = {name: PARAMS[name] for name in ("fetch", "prepare", "train")}
    values = {name: text(value) for name, value in flatten(sections) if name not in FREE}
    assert settings("default") == values


@pytest.mark.parametrize("name", sorted({*RECIPES} - {"default"}))
def test_a_recipe_says_what_it_is_and_what_differs_from_the_default(name: str) -> None:
    first, *lines = (ROOT / "recipes" / name).read_text().splitlines()
    assert first.startswith("# ")
    own = [line for line in lines if not line.startswith("#")]
    assert len(own) == sum(
        settings(name)[key] != value for key, value in settings("default").items()
    )


def text(value: object) -> str:
    """Return a value of params.yaml as a recipe writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize("name", RECIPES)
def test_the_parameters_of_a_recipe_are_valid(small_project: Project, name: str) -> None:
    (small_project.path / "data/pictures").mkdir()
    small_project.set_params(*(f"{key}={value}" for key, value in settings(name).items()))
    small_project.run("python", "-m", "stages", "check")


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
    of_pictures = original["fetch.source"] == "data/pictures"
    if of_pictures:
        make_shapes(small_project.path / "data/pictures", 12)
        small = {}
    if original["train.model"] == "cnn":
        small |= {"train.width": "3", "train.epochs": "2"}
    with recipe.open("a") as file:
        file.writelines(f"{key}={value}\n" for key, value in small.items())
    small_project.commit("fewer images")
    out = make_recipe(small_project, name)
    if not of_pictures:  # of which there is no comparison with digits
        assert f"\n{name}" in out.partition("revision ")[2]
    assert name in small_project.run("dvc", "exp", "list").stdout
    params = YAML(typ="safe").load((small_project.path / "params.yaml").read_text())
    for key, value in {**original, **small}.items():
        section, _, parameter = key.partition(".")
        written = params[section][parameter]
        assert text(written) == value


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
    on all 10,000 test images. The result is the same on every CPU.
    """
    assert settings(name)["train.device"] == "cpu"
    small_project.env["MNIST_MIRROR"] = str(MNIST)
    make_recipe(small_project, name)
    metrics = json.loads((small_project.path / "metrics/evaluate.json").read_text())
    result = metrics["evaluate"]["test"]
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


def test_the_python_of_the_recipes_works(small_reproduced: Project) -> None:
    text = (ROOT / "docs/recipes.md").read_text()
    [script] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(re.findall(r"\d", small_reproduced.run("python", "-c", script).stdout)) == 42
