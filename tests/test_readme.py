"""The README's own commands, in its own order, in a clone."""

import re
from pathlib import Path

from conftest import MNIST, ROOT, Project

README = (ROOT / "README.md").read_text()


def test_its_commands_work(project: Project, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    # `make repro` and `make test` are what runs this, and .venv is in the PATH already.
    commands = [line for line in lines if not line.startswith(("make ", "source "))]
    assert len(commands) >= 8
    (tmp_path / "storage").mkdir()
    for command in commands:
        command = command.replace("/path/to/a/shared/folder", str(tmp_path / "storage"))
        if "/path/to/mnist" in command and not MNIST.is_dir():
            continue
        command = command.replace("/path/to/mnist", str(MNIST))
        done = project.run("bash", "-euc", command)
        assert "ERROR" not in done.stderr
        if command.startswith("git checkout"):
            assert project.status() == ""
            assert project.ran("repro") == []
            # It undoes an edit and its reproduction too, which leaves dvc.lock staged.
            project.edit("params.yaml", "  lr: 0.01 ", "  lr: 0.02 ")
            project.run("dvc", "repro")
            project.run("bash", "-euc", command)
            assert project.status() == ""
            assert project.ran("repro") == []
    assert list((tmp_path / "storage").iterdir())


def test_what_one_may_want_works(project: Project) -> None:
    table = README.partition("## I want to")[2].partition("| it says |")[0]
    rows = re.findall(r"^\| (.*?) \| (.*) \|$", table, re.MULTILINE)
    said = [c for _, cell in rows for c in re.findall(r"`([^`]+)`", cell)]
    commands = [command for command in said if command.startswith(("dvc ", "python "))]
    assert len(commands) >= 9
    project.run("dvc", "exp", "run", "-n", "slower", "-S", "train.lr=0.005")
    project.run("git", "commit", "-qam", "A lower learning rate")
    project.run("dvc", "exp", "run", "-f", "-n", "slower", "-S", "train.lr=0.006")
    for command in commands:
        if command != "dvc queue start":  # it goes on in the background
            project.run("bash", "-euc", command)


def test_its_python_works(project: Project) -> None:
    [script] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(re.findall(r"\d", project.run("python", "-c", script).stdout)) == 42


def test_its_pictures_and_files_exist() -> None:
    for name in re.findall(r"\]\((?!http)(\S+?)\)", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(stages/\w+\.py|metrics/\S+\.\w+)`", README):
        assert name == "stages/NAME.py" or (ROOT / name).exists(), name
