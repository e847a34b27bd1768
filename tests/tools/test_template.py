"""A new project is made of the template: it gets a title, and parts are removed."""

import tomllib

import pytest
import yaml

from tests.helpers.project import ROOT, Project
from tools.template import OURS, PARTS

PAGE = (ROOT / "docs/template.md").read_text()
HERE = [name for name, part in PARTS.items() if (ROOT / part.paths[0]).exists()]


def template(project: Project, *arguments: str, ok: bool = True) -> str:
    done = project.run("python", "-m", "tools", "template", *arguments, ok=ok)
    return done.stdout if ok else done.stderr


def test_a_title_replaces_ours_everywhere(small_project: Project) -> None:
    template(small_project, "rename", "Leaves & nuts: 4 kinds")
    files = {
        name: (small_project.path / name).read_text()
        for name in ("README.md", "pyproject.toml", "CITATION.cff", "dvc.yaml")
    }
    assert files["README.md"].startswith("# Leaves & nuts: 4 kinds\n\nA pipeline of")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert (project["name"], project["description"]) == (
        "leaves-nuts-4-kinds",
        "Leaves & nuts: 4 kinds",
    )
    assert yaml.safe_load(files["CITATION.cff"])["title"] == "Leaves & nuts: 4 kinds"
    for name in ("pyproject.toml", "CITATION.cff", "dvc.yaml"):
        assert not OURS.search(files[name])


@pytest.mark.parametrize("title", ['a "quoted" one', "back\\slash", "日本", "two\nlines", ""])
def test_a_title_that_would_break_a_file_is_refused(small_project: Project, title: str) -> None:
    said = template(small_project, "rename", title, ok=False)
    assert said == "title: has to have a letter a to z, and no quote or backslash\n"
    assert small_project.status() == ""


def check_what_is_left(project: Project) -> None:
    """The commands start, the tests can be collected, the pages point at what is there."""
    for package in ("fairtrial", "tools"):
        project.run("python", "-m", package, "--help")
    project.run("python", "-m", "fairtrial", "compare", "HEAD", "workspace")
    project.run("python", "-m", "pytest", "-q", "--collect-only", "tests")
    project.run(
        *("python", "-m", "pytest", "-q", "-p", "no:xdist", "tests/pipeline/test_docs.py"),
        *("tests/fairtrial/test_install.py", "-k", "points or linked or target or folder"),
    )


@pytest.mark.slow
def test_all_parts_are_removed_without_a_trace(small_project: Project) -> None:
    template(small_project, "remove", *PARTS)
    for part in PARTS.values():
        assert not any((small_project.path / path).exists() for path in part.paths)
    check_what_is_left(small_project)
    small_project.run("ruff", "check")
    small_project.run("ruff", "format", "--check")
    for command, known in (
        ("fairtrial sweep", "compare, mend, plan, rank"),
        ("tools draw", "setup"),
    ):
        error = small_project.run("python", "-m", *command.split(), ok=False).stderr
        assert known in error
        assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_each_part_may_be_removed_alone(small_project: Project, name: str) -> None:
    template(small_project, "remove", name)
    small_project.run("python", "-m", "pytest", "-q", "--collect-only", "tests")


def test_the_page_has_a_row_for_each_part() -> None:
    assert all(f"\n| `{name}` | " in PAGE for name in PARTS)
