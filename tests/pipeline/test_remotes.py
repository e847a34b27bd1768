"""Results that a team shares by a DVC remote: a folder, an S3 store, a host reached by SSH."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project, needs_sweeps
from tests.helpers.services import BUCKET, CREDENTIALS, needs_sshd, s3_server, ssh_server

BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs/sharing.md").read_text(), re.DOTALL)
MODEL = "data/checkpoints/model.safetensors"


def add_origin(project: Project, folder: Path) -> None:
    """Give a project a bare git repository `folder / "git"` as `origin`."""
    project.run("git", "init", "--quiet", "--bare", "-b", "main", str(folder / "git"))
    project.run("git", "remote", "add", "origin", str(folder / "git"))
    project.run("git", "push", "--quiet", "--set-upstream", "origin", "main")


def add_remote(project: Project, url: str, **options: str) -> None:
    project.run("dvc", "remote", "add", "--default", "storage", url)
    for name, value in options.items():
        project.run("dvc", "remote", "modify", "storage", name, value)
    project.commit("A place to share results")
    project.run("git", "push", "--quiet")


@pytest.fixture(params=["s3", pytest.param("ssh", marks=needs_sshd)])
def shared(
    request: pytest.FixtureRequest, small_project: Project, tmp_path: Path
) -> Iterator[Project]:
    """A small reproduced project with a git remote and a DVC remote."""
    (tmp_path / "server").mkdir()
    add_origin(small_project, tmp_path)
    if request.param == "s3":
        with s3_server() as address:
            small_project.env |= CREDENTIALS
            add_remote(small_project, f"s3://{BUCKET}/project", endpointurl=address)
            yield small_project
    else:
        with ssh_server(tmp_path / "server") as (address, key):
            url = f"{address}{tmp_path / 'server/storage'}"
            add_remote(small_project, url, keyfile=str(key))
            yield small_project


def clone_of(project: Project, folder: Path) -> Project:
    """Return the clone of a colleague, who has nothing but the address of the git remote."""
    colleague = Project(folder / "colleague/project")
    colleague.path.parent.mkdir()
    colleague.env |= {key: value for key, value in project.env.items() if key in CREDENTIALS}
    origin = project.run("git", "remote", "get-url", "origin").stdout.strip()
    project.run("git", "clone", "--quiet", origin, str(colleague.path))
    for key in ("user.name", "user.email"):
        colleague.run("git", "config", key, "a@example.org")
    return colleague


@pytest.mark.slow
def test_a_colleague_gets_what_was_shared(shared: Project, tmp_path: Path) -> None:
    shared.run("dvc", "push")
    colleague = clone_of(shared, tmp_path)
    assert colleague.ran("repro", "--pull") == []  # nothing is computed
    colleague.run("dvc", "pull")
    assert colleague.status() == ""
    # Of an experiment of theirs, too, made and pushed by us.
    shared.run("dvc", "exp", "run", "--name", "slower", "-S", "train.lr=0.004")
    expected = (shared.path / MODEL).read_bytes()
    shared.run("dvc", "exp", "push", "origin", "slower")
    colleague.run("dvc", "exp", "pull", "origin", "slower")
    colleague.run("dvc", "exp", "apply", "slower")
    assert (colleague.path / MODEL).read_bytes() == expected


@pytest.mark.slow
@needs_sweeps
def test_a_sweep_here_asks_no_remote_for_what_the_cache_has(shared: Project) -> None:
    """Nothing was pushed, and there are no credentials."""
    for key in CREDENTIALS:
        shared.env.pop(key, None)
    shutil.rmtree(shared.path.parent / "server")  # the keys of SSH
    arguments = "-S", "train.lr=0.01,0.02", "--workers=2", "--promote=1"
    done = shared.run("python", "-m", "fairtrial", "sweep", *arguments)
    assert "reproduced bit for bit as experiment sweep-" in done.stdout


@pytest.mark.slow
def test_the_page_is_what_two_people_type(small_project: Project, tmp_path: Path) -> None:
    add_origin(small_project, tmp_path)
    people = {
        "# you": small_project,
        "# a colleague, in a clone": clone_of(small_project, tmp_path),
    }
    blocks = [block.splitlines() for language, block in BLOCKS if language == "sh"]
    assert len(blocks) >= 6
    for who, *lines in blocks:
        for line in lines:
            command = line.replace("/path/to/a/shared/folder", str(tmp_path / "storage"))
            people[who].run("bash", "-euc", command)


@pytest.mark.slow
def test_an_experiment_of_before_the_remote(small_project: Project, tmp_path: Path) -> None:
    """Pushed as it is, it arrives without its outputs."""
    add_origin(small_project, tmp_path)
    small_project.run("dvc", "exp", "run", "--name", "higher-lr", "-S", "train.lr=0.05")
    expected = (small_project.path / MODEL).read_bytes()
    small_project.run("git", "checkout", "HEAD", ".")
    add_remote(small_project, str(tmp_path / "storage"))
    colleague = clone_of(small_project, tmp_path)
    small_project.run("dvc", "exp", "push", "origin", "higher-lr")
    colleague.run("dvc", "exp", "pull", "origin", "higher-lr")
    colleague.run("dvc", "exp", "apply", "higher-lr", ok=False)
    colleague.run("git", "checkout", "HEAD", ".")
    colleague.run("dvc", "exp", "remove", "higher-lr")
    [block] = [block for language, block in BLOCKS if language == "text"]
    small_project.run("bash", "-euc", block)
    colleague.run("dvc", "exp", "pull", "origin", "higher-lr")
    colleague.run("dvc", "exp", "apply", "higher-lr")
    assert (colleague.path / MODEL).read_bytes() == expected
