"""The example of the README, with the package as another project installs it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers.project import ROOT
from tests.helpers.shapes import make_shapes

README = (ROOT / "anypictures/README.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]


def test_the_example_runs_where_nothing_else_of_ours_is(tmp_path: Path) -> None:
    source = shutil.copytree(ROOT / "anypictures", tmp_path / "clone/anypictures")
    site = tmp_path / "site"
    install = ["uv", "pip", "install", "-q", "--offline", "--no-deps", "--no-build-isolation"]
    where = ["--python", sys.executable, "--target", str(site), str(source)]
    subprocess.run([*install, *where], check=True)
    make_shapes(tmp_path / "pictures")
    shutil.make_archive(str(tmp_path / "pictures"), "zip", tmp_path / "pictures")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLE],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.match(r"\(\d+, 3, 32, 32\) \['", result.stdout)
