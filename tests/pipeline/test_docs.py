"""The commands of the README and of the other pages, in their own order, in a clone."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.documented_stage import add_documented_stage
from tests.helpers.project import MNIST, ROOT, Project
from tests.helpers.shapes import make_shapes

README = (ROOT / "README.md").read_text()
PAGES = [
    *sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")),
    Path("benchmarks/README.md"),
    Path("data/README.md"),
]
LIBRARIES = [
    *(Path(name, "README.md") for name in ("anypictures", "fairtrial", "samebits")),
    *sorted(path.relative_to(ROOT) for path in (ROOT / "fairtrial").glob("clusters.md")),
]  # with tests of their own
MADE_UP = (
    "stages/NAME.py",
    "stages/params/NAME.py",
    "stages/params/disagree.py",
    "stages/disagree.py",
    "metrics/disagree.json",
)


def commands(text: str) -> list[str]:
    """Return the commands of a page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    # `make repro` and `make test` are what runs this, and .venv is in the PATH already.
    return [line for line in lines if line and not line.startswith(("make ", "source "))]


def run(project: Project, command: str, storage: Path) -> None:
    pictures = project.path / "data/pictures"
    if command.startswith("dvc add data/pictures"):  # the user has new ones
        seed = len(list(pictures.glob("*/*")))
        make_shapes(pictures, count=20, seed=seed)
    if "/path/to/mnist" in command and not MNIST.is_dir():
        return
    command = command.replace("/path/to/mnist", str(MNIST))
    command = command.replace("/path/to/a/shared/folder", str(storage))
    result = project.run("bash", "-euc", command)
    assert "ERROR" not in result.stderr
    if command == "git status --porcelain":
        assert result.stdout == ""


@pytest.mark.slow
def test_the_commands_of_the_readme_work(small_project: Project, tmp_path: Path) -> None:
    blocks = commands(README)
    assert len(blocks) >= 5
    for command in blocks:
        run(small_project, command, tmp_path)
        if command.startswith("git checkout"):
            assert small_project.status() == ""
            assert small_project.ran("repro") == []
            # It undoes an edit and its reproduction too, which leaves dvc.lock staged.
            small_project.edit("params.yaml", "  lr: 0.01 ", "  lr: 0.02 ")
            small_project.run("dvc", "repro")
            small_project.run("bash", "-euc", command)
            assert small_project.status() == ""
            assert small_project.ran("repro") == []


@pytest.mark.slow
def test_the_comparison_in_the_readme_is_what_its_commands_print(project: Project) -> None:
    experiment, comparison = commands(README)[:2]
    project.run("bash", "-euc", experiment)
    out = project.run("bash", "-euc", comparison).stdout
    assert [line.rstrip() for line in out.splitlines()] == printed(README)


def printed(text: str) -> list[str]:
    """Return the lines of the only block of output of a page."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    [block] = [content for language, content in blocks if not language]
    return [line.rstrip() for line in block.splitlines()]


@pytest.mark.slow
def test_the_tour_shows_what_is_printed(project: Project) -> None:
    tour = (ROOT / "docs/tour.md").read_text()
    out = project.run("dvc", "repro", "--force", "--single-item", "evaluate").stdout
    for command in commands(tour):
        out += project.run("bash", "-euc", command).stdout
    blocks = re.findall(r"^```text\n(.*?)^```$", tour, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if "loss_f" not in line]
    shown = [line for line in lines if "loader" not in line and "optimizer" not in line]
    assert len(shown) == 5
    assert [line for line in shown if line not in out.splitlines()] == []


@pytest.mark.slow
def test_the_commands_in_the_table_of_the_readme_work(small_project: Project) -> None:
    table = README.partition("## What to type")[2].partition("## Where to read on")[0]
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", table, re.MULTILINE)
    cells = [code for _, cell in rows for code in re.findall(r"`([^`]+)`", cell)]
    commands = [command for command in cells if command.startswith(("dvc ", "python "))]
    assert len(commands) >= 9
    # As after the first experiment of the README: `higher-lr` is an experiment, and `HEAD~1 HEAD`
    # are two commits with results of the same images.
    small_project.run("dvc", "exp", "run", "-n", "higher-lr", "-S", "train.lr=0.1")
    small_project.commit("A higher learning rate")
    for command in commands:
        small_project.run("bash", "-euc", command)


# Pages whose commands cost much. `make test` runs the commands of `comparing` in the README, an
# experiment on MNIST in tests/stages/test_download.py and sweeps in tests/fairtrial/test_sweep.py.
SLOW_PAGES = ("comparing", "data", "results", "security", "sweeps", "tour", "your-pictures")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW_PAGES else [])
        for page in PAGES
        # Two people type the commands of the first, in test_remotes.py; test_changed_project.py
        # types those of the second.
        if page.stem not in ("sharing", "template")
    ],
    ids=str,
)
def test_the_commands_of_a_page_work(page: Path, small_project: Project, tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    for command in commands((ROOT / page).read_text()):
        run(small_project, command, tmp_path / "storage")


@pytest.mark.parametrize("page", [*PAGES, *LIBRARIES], ids=str)
def test_a_page_has_a_command_before_its_first_section(page: Path) -> None:
    assert "```sh\n" in (ROOT / page).read_text().partition("\n## ")[0]


@pytest.mark.parametrize(
    "page", [Path("README.md"), Path("CHANGELOG.md"), *PAGES, *LIBRARIES], ids=str
)
def test_what_a_page_points_at_exists(page: Path) -> None:
    text = (ROOT / page).read_text()
    links = re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text)
    for name, section in links:
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.exists(), name
        assert not section or section in sections(target), f"{name}#{section}"
    for name in re.findall(
        r"`((?:stages|samebits|fairtrial|tests|tools|docs|metrics|benchmarks)/[\w/.]+\.\w+)`", text
    ):
        assert name in MADE_UP or (ROOT / name).exists(), name


def sections(page: Path) -> list[str]:
    """Return the names by which links call the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_every_page_is_linked_from_the_readme() -> None:
    for page in PAGES:
        assert page == Path("data/README.md") or f"]({page}" in README, page


@pytest.mark.slow
def test_a_stage_is_added_as_the_page_says(project: Project) -> None:
    if (project.path / "stages/disagree.py").exists():
        pytest.skip("the project has the stage of the page")
    add_documented_stage(project)
    assert project.ran("repro") == ["check", "disagree"]
    said = json.loads((project.path / "metrics/disagree.json").read_text())["disagree"]
    assert said["n"] == 500
    assert 0 < said["disputed"] < 500
    project.run("python", "-m", "pytest", "-q", "tests/project/test_project.py", "-k", "depends")
    project.edit("params.yaml", "at_least: 1 ", "at_least: 0 ")
    assert "disagree.at_least" in project.run("dvc", "repro", ok=False).stderr


def test_the_graph_is_dvcs(small_reproduced: Project) -> None:
    assert (
        small_reproduced.run("dvc", "dag", "--md").stdout.strip()
        in (ROOT / "docs/stages.md").read_text()
    )


def test_make_help_lists_every_target(small_reproduced: Project) -> None:
    listed = [line.split()[0] for line in small_reproduced.run("make", "help").stdout.splitlines()]
    [phony] = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert listed == phony.split()
