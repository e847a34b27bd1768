"""What a stage imports: all of ours is a dependency in dvc.yaml, and nothing heavy is idle."""

import ast
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.helpers.project import ROOT, Project

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


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


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_a_stage_imports_is_what_it_depends_on(stage: str) -> None:
    assert STAGES[stage]["cmd"].removeprefix("exec ") == f"python -m stages.{stage}"
    declared = [dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")]
    imported = closure(ROOT / "stages" / f"{stage}.py")
    assert declared == sorted(str(path.relative_to(ROOT)) for path in imported)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_it_does_and_reads_its_own_parameters_alone(stage: str) -> None:
    assert STAGES[stage]["desc"]
    assert STAGES[stage].get("params") == (None if stage == "check" else [stage])


@pytest.mark.parametrize(
    ("stage", "unwanted"),
    [
        ("check", "numpy torch pandas matplotlib sklearn PIL"),
        ("fetch", "torch torchvision pandas matplotlib sklearn mlxtend PIL"),
        ("prepare", "torch torchvision pandas matplotlib sklearn"),
        ("train", "torchvision pandas matplotlib scipy torch._dynamo PIL"),
        ("evaluate", "torchvision pandas matplotlib scipy torch._dynamo"),
    ],
)
def test_a_stage_imports_nothing_heavy_that_it_does_not_need(
    project: Project, stage: str, unwanted: str
) -> None:
    script = (
        "import runpy, sys\n"
        f"runpy.run_module('stages.{stage}', run_name='__main__', alter_sys=True)\n"
        "print('\\n'.join(sys.modules))"
    )
    loaded = set(project.run("python", "-c", script).stdout.split())
    assert "pydantic" in loaded
    assert loaded & set(unwanted.split()) == set()


def test_only_a_stage_does_without_the_garbage_collector_and_only_to_import(
    project: Project,
) -> None:
    project.run("python", "-c", "import gc, stages.learning.models; assert gc.isenabled()")
    script = (
        "import gc, sys; sys.argv[0] = '-m'; import stages; assert not gc.isenabled()\n"
        "from stages.storage.errors import run; run(lambda: print(gc.isenabled(), gc.get_freeze_count()))"
    )
    enabled, frozen = project.run("python", "-c", script).stdout.split()
    assert enabled == "True"
    assert int(frozen) > 1_000
