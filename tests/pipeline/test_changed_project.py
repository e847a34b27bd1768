"""A project of somebody else's: five changes of the template, and its tests afterwards.

Photos, a stage, a metric, a model, and parts removed, each as the pages say. What was forgotten on
the way is said by one test.
"""

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.helpers.documented_stage import add_documented_stage
from tests.helpers.project import ROOT, Project
from tests.helpers.shapes import make_shapes
from tools.template import PARTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((ROOT / part.paths[0]).exists() for part in PARTS.values()),
        reason="this project has removed some parts already",
    ),
]
PAGE = (ROOT / "docs/template.md").read_text()
# Those that read the project or its pages. The others know only the code.
RELEVANT = "tests/project tests/test_default.py tests/test_arrows.py tests/tools/test_export.py"
RELEVANT += " tests/pipeline/test_docs.py tests/pipeline/test_dependencies.py"
RELEVANT += " tests/stages/test_params.py tests/stages/test_models.py tests/stages/test_evaluate.py"
QUICK = "tests/project tests/test_default.py tests/stages/test_params.py -k not(before_it)"


def run_tests(project: Project, files: str) -> list[str]:
    """Return why tests of a project fail, a text for each; these are not slow."""
    command = ["python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    report = project.path.parent / "junit.xml"
    command += ["-m", "not slow", f"--junit-xml={report}", *files.split()]
    project.run("bash", "-c", '"$@" || test $? = 1', "bash", *command)
    cases = list(ElementTree.parse(report).iter("testcase"))
    assert len(cases) > 10
    return [
        f"{case.get('name')}: {one.get('message')}"
        for case in cases
        for kind in ("failure", "error")
        for one in case.iter(kind)
    ]


def add_model(project: Project) -> None:
    for file, pattern, addition in (
        ("stages/learning/models.py", r"(MODELS\b[^}]*)(\})", ', "perceptron": MLP'),
        ("stages/params/train.py", r"(    model: Literal\[[^\]]*)(\])", ', "perceptron"'),
        ("stages/params/train.py", r"(not value and model in \([^)]*)(\))", ', "perceptron"'),
    ):
        path = project.path / file
        text, count = re.subn(pattern, rf"\g<1>{addition}\g<2>", path.read_text(), count=1)
        assert count == 1, f"{file} has changed: add the model here as docs/stages.md says"
        path.write_text(text)


def add_metric(project: Project) -> None:
    [line] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    [entry] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    mark = "METRICS: dict[str, Callable[[Predictions], Array]] = {\n"
    project.edit("stages/evaluate.py", mark, mark + line)
    mark = "          cross_entropy: {better: lower}\n"
    project.edit("dvc.yaml", mark, mark + entry)


@pytest.fixture(scope="module")
def changed(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("changed") / "project"
    return Project(shutil.copytree(reproduced.path, folder))


def test_after_photos_without_their_results_one_test_says_so(changed: Project) -> None:
    make_shapes(changed.path / "data/pictures", count=40)
    changed.run("dvc", "add", "data/pictures")
    changed.set_params(
        *("fetch.source=data/pictures", "fetch.size=24", "fetch.mode=rgb"),
        *("prepare.train_size=rest", "prepare.val_size=0.3"),
        *("train.model=cnn", "train.width=8", "train.optimizer=adam", "train.replicas=2"),
        *("train.epochs=20", "train.batch_size=16"),
    )
    changed.commit("Our pictures")
    [failure] = run_tests(changed, QUICK)
    assert "params.yaml has another" in failure
    assert "`dvc repro` there makes its results again" in failure


def test_a_section_that_the_tests_lack_is_named_by_one_test(changed: Project) -> None:
    add_documented_stage(changed)
    changed.run("dvc", "repro")
    changed.run("git", "checkout", "tests/default/params.yaml")
    [failure] = run_tests(changed, QUICK)
    assert "tests/default/params.yaml: disagree: missing" in failure
    add = "printf 'disagree:\\n  at_least: 1\\n' >> tests/default/params.yaml"
    changed.run("bash", "-c", add)


def test_a_metric_without_its_column_is_named_by_one_test(changed: Project) -> None:
    add_metric(changed)
    changed.edit("stages/evaluate.py", '"sure"', '"secure"')
    changed.run("dvc", "repro")
    [failure] = run_tests(changed, QUICK)
    assert "needs the columns sure.0 to sure.1" in failure
    changed.edit("stages/evaluate.py", '"secure"', '"sure"')


def test_after_all_five_the_tests_pass(changed: Project) -> None:
    add_model(changed)
    [block] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    changed.run("bash", "-euc", block)
    changed.run("dvc", "repro")
    changed.commit("Our results")
    assert run_tests(changed, RELEVANT) == []
    changed.run("ruff", "check")
    changed.run("mypy")
    # What was added appears, and what is not there is not spoken of.
    assert (
        " sure "
        in changed.run(
            "python", "-m", "fairtrial", "compare", "HEAD", "HEAD", "--metric", "sure"
        ).stdout
    )
    changed.run("python", "-m", "tools", "card")
    card = (changed.path / "metrics/model-card.md").read_text()
    assert "| sure |" in card
    changed.run("python", "-m", "fairtrial", "report")
    page = (changed.path / "report.html").read_text()
    assert "sure" in page
    outputs = [card, page.partition("<script")[0]]
    outputs += [path.read_text() for path in Path(changed.path, "metrics").glob("*.json")]
    outputs += [changed.run("python", "-m", "tools", "predict", "data/pictures").stdout]
    for name in ("dvc.yaml", "pyproject.toml", "CITATION.cff", ".devcontainer/devcontainer.json"):
        outputs.append((changed.path / name).read_text())
    for output in outputs:
        assert not re.search(r"digit|mnist", output, re.IGNORECASE)
