"""Branches of people whom one does not trust are compared and shown, and nothing of theirs runs."""

import shutil
from pathlib import Path

import pytest

from fairtrial.project.errors import InputError
from fairtrial.project.scratch import run_captured
from tests.helpers.project import ROOT, Project

CONFIG = """\
[core]
    remote = theirs
    site_cache_dir = {folder}/databases
[cache]
    dir = {folder}/cache
['remote "theirs"']
    url = s3://bucket/path
    configpath = {folder}/aws
    endpointurl = http://127.0.0.1:9
"""


@pytest.mark.parametrize("place", ["here", "a folder of a repository"])
def test_the_configuration_of_a_revision_is_not_read(
    regression: Project, tmp_path: Path, place: str
) -> None:
    """It can name a program that gives credentials, and folders whose databases DVC unpickles."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "aws").write_text(f"[default]\ncredential_process = touch {folder}/ran\n")
    if place != "here":
        (tmp_path / "above").mkdir()
        regression.path = regression.path.rename(tmp_path / "above/project")
        (regression.path / ".git").rename(tmp_path / "above/.git")
        regression.commit("moved")
    regression.run("git", "switch", "-qc", "theirs")
    (regression.path / ".dvc/config").write_text(CONFIG.format(folder=folder))
    for name in ("scores", "curve"):
        regression.edit("dvc.yaml", f"{name}.csv: {{cache: false", f"{name}.csv: {{cache: true")
        regression.run("git", "rm", "-q", "--cached", f"{name}.csv")
        with (regression.path / ".gitignore").open("a") as file:
            file.write(f"/{name}.csv\n")
    regression.commit("What has to be fetched")
    regression.run("git", "switch", "-q", "main")
    regression.run("dvc", "checkout", "-q")
    shutil.rmtree(regression.path / ".dvc/cache/files")
    done = regression.run("python", "-m", "fairtrial", "compare", "main", "theirs", ok=False)
    assert done.stderr.startswith("theirs: scores.csv is not there")
    # The scores again, so that the report comes to the plots.
    regression.run("git", "switch", "-q", "theirs")
    regression.run("git", "checkout", "main", "scores.csv")
    regression.edit("dvc.yaml", "scores.csv: {cache: true", "scores.csv: {cache: false")
    regression.run("git", "add", "-f", "scores.csv")
    regression.commit("With scores")
    regression.run("git", "switch", "-q", "main")
    regression.run("python", "-m", "fairtrial", "report", "main", "theirs")
    assert [path.name for path in folder.iterdir()] == ["aws"]


TYPED = '"; touch ran; "', "$$(touch ran)", "`touch ran`", "$(shell touch ran)", "--output=ran"


@pytest.mark.parametrize(
    ("target", "variable"),
    [
        pytest.param("compare", "A", marks=pytest.mark.slow),
        pytest.param("report", "REVS", marks=pytest.mark.slow),
        ("recipe", "NAME"),
    ],
)
def test_what_is_typed_for_make_is_no_command(
    regression: Project, target: str, variable: str
) -> None:
    """Such as the name of somebody's branch, in a script."""
    shutil.copy(ROOT / "Makefile", regression.path)
    (regression.path / "recipes").mkdir()
    for text in TYPED:
        command = ["make", "--old-file=.venv/installed", target, f"{variable}={text}"]
        regression.run(*command, ok=False)
        assert not (regression.path / "ran").exists(), text
    regression.run("make", "--old-file=.venv/installed", "compare", "A=main", "B=slow")


def test_a_command_that_has_no_end_is_stopped() -> None:
    """Such as DVC, if somebody's `dvc.yaml` has a matrix of a billion stages."""
    with pytest.raises(InputError, match=r"^dvc plots diff: has no end after 0 seconds; look into"):
        run_captured(["tail", "-f", "/dev/null", "plots", "diff"], seconds=0.1)
