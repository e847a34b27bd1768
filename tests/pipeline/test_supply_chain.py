"""What is installed has a hash in a file of ours, and code of a pull request has no rights."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from stages.storage.yaml_reader import read_yaml
from tests.helpers.project import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("name", [path.stem for path in ROOT.glob("requirements*.txt")])
def test_every_locked_package_has_a_version_and_hashes(name: str) -> None:
    lines = (ROOT / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in lines if not line.lstrip().startswith("#")]
    assert packages
    pattern = r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==[^ ]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+"
    for package in packages:
        assert re.fullmatch(pattern, package)


def test_what_torch_does_not_load_is_not_installed() -> None:
    excluded = tomllib.loads(PYPROJECT)["tool"]["uv"]["exclude-dependencies"]
    locked = re.findall(r"^([a-z0-9-]+)", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert excluded
    assert not set(excluded) & set(locked)
    # Their modules, hidden from an environment that has them for another reason.
    code = "import sys; sys.modules |= dict.fromkeys(['cuda', 'triton', 'nvtx'])\n"
    code += "import torch, torchvision; torch.ones(2, requires_grad=True).sum().backward()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_home_that_cannot_be_written_is_no_obstacle(tmp_path: Path) -> None:
    makefile = "include Makefile\nshow: ; @echo $$UV_CACHE_DIR\n"
    for home, cache in ((tmp_path, ""), ("/proc/nobody", f"{ROOT}/.venv/uv-cache")):
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        show = ["make", "--silent", "--file=-", "show"]
        shown = subprocess.check_output(show, input=makefile, cwd=ROOT, env=environment, text=True)
        assert shown.strip() == cache


def test_the_installation_takes_only_what_has_its_hash() -> None:
    recipes = re.findall(r"^\.venv/(?:installed|dev): .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    [sync] = re.findall(r"^SYNC := (.*)$", MAKEFILE.replace("\\\n\t", " "), re.MULTILINE)
    lines = "".join(recipes).replace("\\\n\t", " ").replace("$(SYNC)", sync)
    installs = re.findall(r"(?:pip install|uv pip sync) .*", lines)
    assert len(installs) == 3
    for install in installs:
        assert "--require-hashes --only-binary :all:" in " ".join(install.split())
    assert sum("--build-constraints requirements-build.txt" in one for one in installs) == 2


def test_every_action_is_a_commit_with_its_tag_in_a_comment() -> None:
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines()]
    actions = [line.strip(" -") for line in lines if "uses:" in line]
    assert len({action.partition("@")[0] for action in actions}) == 3
    for action in actions:
        assert re.fullmatch(r"uses: actions/[a-z-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action


def test_the_job_that_runs_code_of_a_pull_request_may_only_read() -> None:
    workflow = read_yaml(ROOT / ".github/workflows/ci.yml")
    assert list(workflow["on"]) == ["push", "pull_request"]  # without the secrets of the target
    assert workflow["permissions"] == {}
    [job] = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "read"}
    checkout = job["steps"][0]
    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"]["persist-credentials"] is False


def test_every_python_that_is_named_is_tried_each_week_without_rights() -> None:
    workflow = read_yaml(ROOT / ".github/workflows/systems.yml")
    assert list(workflow["on"]) == ["schedule", "workflow_dispatch"]
    [job] = workflow["jobs"].values()
    assert [workflow["permissions"], job["permissions"]] == [{}, {"contents": "read"}]
    classifiers = re.findall(r'"Programming Language :: Python :: (.*)"', PYPROJECT)
    assert job["strategy"]["matrix"]["python"] == classifiers


def test_the_newest_dvc_is_tried_each_week_without_rights() -> None:
    workflow = read_yaml(ROOT / ".github/workflows/newest-dvc.yml")
    assert list(workflow["on"]) == ["schedule", "workflow_dispatch"]
    [job] = workflow["jobs"].values()
    assert [workflow["permissions"], job["permissions"]] == [{}, {"contents": "read"}]
    install, test = (
        next(s["run"] for s in job["steps"] if "run" in s and w in s["run"])
        for w in ("uv pip", "pytest")
    )
    assert 'install --upgrade "dvc[' in install
    for folder in re.findall(r"tests/\w+", test):
        assert (ROOT / folder).is_dir()


def test_the_workflow_that_may_write_runs_no_code_of_a_pull_request() -> None:
    path = ROOT / ".github/workflows/comment.yml"
    workflow = read_yaml(path)
    assert workflow["on"] == {"workflow_run": {"workflows": ["CI"], "types": ["completed"]}}
    assert workflow["permissions"] == {}
    [job] = workflow["jobs"].values()
    assert job["permissions"] == {"actions": "read", "pull-requests": "write"}
    for step in job["steps"]:
        assert "uses" not in step
        # What an expression gives would become part of the script; a variable does not.
        assert "${{" not in step["run"]
