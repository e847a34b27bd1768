"""What each of the five packages may import."""

import ast
import sys

import pytest

from tests.helpers.project import ROOT

PACKAGES = {"anypictures", "fairtrial", "samebits", "stages", "tools"}
FORBIDDEN = {
    "anypictures": (PACKAGES | {"torch", "torchvision"}) - {"anypictures"},
    "samebits": PACKAGES - {"samebits"},
    "fairtrial": (PACKAGES | {"torch", "torchvision"}) - {"fairtrial"},
    "stages": {"fairtrial", "tools"},
    "tools": set(),
}


def imported(package: str) -> dict[str, set[str]]:
    """Return the packages that are imported, also in functions, each with its files."""
    files: dict[str, set[str]] = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                names = [node.module or ""]
            for name in names:
                files.setdefault(name.split(".")[0], set()).add(str(path.relative_to(ROOT)))
    return files


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_imports_go_one_way(package: str) -> None:
    files = imported(package)
    assert files, f"{package} imports nothing"
    assert {name: files[name] for name in FORBIDDEN[package] & files.keys()} == {}


def test_samebits_needs_torch_and_numpy_alone() -> None:
    others = imported("samebits").keys() - sys.stdlib_module_names - {"samebits"}
    assert others <= {"torch", "numpy"}
