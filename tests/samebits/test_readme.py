"""The example of the README, and the package as another project installs it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "samebits"
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package alone, installed by pip from its sub-folder."""
    folder = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(PACKAGE, folder / "clone/samebits")  # a build leaves files beside it
    subprocess.run(
        [
            *("uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--no-build-isolation"),
            *("--python", sys.executable, "--target", str(folder / "site"), str(source)),
        ],
        check=True,
    )
    return folder / "site"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ATEN_CPU_CAPABILITY": "avx2"},
        {"ATEN_CPU_CAPABILITY": "default"},
        {"OMP_NUM_THREADS": "2"},
        {"MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "2"},
    ],
)
def test_the_example_prints_the_hash_of_the_readme(
    installed: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLE],
        cwd=tmp_path,
        env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"`{result.stdout.strip()}`" in README


def test_nothing_but_torch_and_numpy_is_imported(installed: Path, tmp_path: Path) -> None:
    code = (
        "import sys, numpy, torch; old = {*sys.modules}; import samebits\n"
        "print({*sys.modules} - old)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    new = {name.split(".")[0] for name in re.findall(r"'([\w.]+)'", result.stdout)}
    assert new == {"samebits"}, new
