"""What a stage imports of our code, and what of it dvc.yaml lists."""

import ast
from pathlib import Path
from typing import Any

from tests.helpers.project import ROOT


def modules_of(file: Path) -> set[Path]:
    """Return the files of ours that `file` imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write the whole name"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b too
            path = ROOT.joinpath(*parts[:depth])
            found |= {p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()}
    return found


def closure(file: Path) -> set[Path]:
    reached: set[Path] = set()
    new = {file}
    while new:
        reached |= new
        new = {module for file in new for module in modules_of(file)} - reached
    return reached


def files_of(dependency: str) -> set[str]:
    """Return the Python files that a dependency stands for."""
    path = ROOT / dependency
    files = path.rglob("*.py") if path.is_dir() else [path] if path.suffix == ".py" else []
    return {str(file.relative_to(ROOT)) for file in files}


def imports_of(stage: str) -> set[str]:
    """Return the Python files that the process of a stage imports."""
    reached = closure(ROOT / "stages" / f"{stage}.py") | closure(ROOT / "stages/__main__.py")
    return {str(path.relative_to(ROOT)) for path in reached}


def missing_dependencies(file: str, stage: str, definition: dict[str, Any]) -> list[str]:
    """Return a sentence for each file that a stage imports and does not list in `file`."""
    declared = set().union(*map(files_of, definition["deps"]))
    return [
        f"{file}: {stage}: deps: add {path}, which it imports"
        for path in sorted(imports_of(stage) - declared)
    ]
