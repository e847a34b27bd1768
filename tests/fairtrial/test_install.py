"""`pip install` of fairtrial from its folder, and a comparison with nothing else of ours there."""

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project


def test_every_folder_with_code_is_a_package() -> None:
    settings = tomllib.loads((ROOT / "fairtrial/pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "fairtrial").rglob("*.py")}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert names == set(settings["packages"])


@pytest.mark.slow
def test_it_compares_in_an_environment_of_its_own(
    clone: Callable[[], Project], regression: Project, tmp_path: Path
) -> None:
    source = clone()
    environment = tmp_path / "environment"
    python = str(environment / "bin/python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    # What it needs of others is here already: nothing is asked of the network.
    [site_packages] = environment.glob("lib/python*/site-packages")
    [ours] = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "others.pth").write_text(f"{ours}\n")
    address = f"git+{source.path.as_uri()}#subdirectory=fairtrial"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    subprocess.run([*install, "--no-deps", "--no-build-isolation", address], check=True)
    assert source.status() == ""

    del regression.env["PYTHONPATH"]
    where = [python, "-c", "import fairtrial; print(fairtrial.__path__[0])"]
    assert regression.run(*where).stdout.startswith(str(environment))
    command = [python, "-m", "fairtrial", "compare", "HEAD", "slow"]
    assert "slow is worse" in regression.run(*command).stdout
    # Neither the pipeline nor the other parts came with it.
    for name in ("stages", "samebits", "tools", "tests"):
        assert (
            "ModuleNotFoundError" in regression.run(python, "-c", f"import {name}", ok=False).stderr
        )
    pages = sorted(path.name for path in (site_packages / "fairtrial/web").iterdir())
    assert "report.html" in pages
