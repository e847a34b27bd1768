"""What a stage imports: all of ours is a dependency in dvc.yaml, and nothing heavy is idle."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.params.fetch import Fetch
from tests.helpers.dependencies import files_of, imports_of, missing_dependencies
from tests.helpers.project import DEFAULT, ROOT, Project

STAGES: dict[str, Any] = YAML(typ="safe").load(DEFAULT / "dvc.yaml")["stages"]
NAMES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
# Files of the folders that a stage names although it does not import them.
UNUSED = {
    "check": {f"stages/storage/{name}.py" for name in ("image_files", "split_files", "tensors")},
    "train": {"stages/storage/image_files.py"},
    "fetch": {"anypictures/grids.py"},
    **{stage: set[str]() for stage in ("prepare", "evaluate")},
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_a_stage_imports_is_what_it_depends_on(stage: str) -> None:
    assert STAGES[stage]["cmd"].removeprefix("exec ") == f"python -m stages {stage}"
    declared = set().union(*map(files_of, STAGES[stage]["deps"]))
    assert not missing_dependencies("tests/default/dvc.yaml", stage, STAGES[stage])
    assert declared - imports_of(stage) == UNUSED[stage]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_says_what_it_does_and_reads_its_own_parameters_alone(stage: str) -> None:
    assert STAGES[stage]["desc"]
    sections = {"check": None, "fetch": [f"fetch.{name}" for name in sorted(Fetch.model_fields)]}
    assert STAGES[stage].get("params") == sections.get(stage, [stage])


@pytest.mark.parametrize(
    ("stage", "unwanted"),
    [
        ("check", "numpy torch pandas matplotlib sklearn PIL"),
        ("fetch", "torch torchvision pandas matplotlib sklearn mlxtend PIL"),
        ("prepare", "torch torchvision pandas matplotlib sklearn"),
        ("train", "torchvision pandas matplotlib scipy sympy torch._dynamo PIL"),
        ("evaluate", "torchvision pandas matplotlib scipy sympy torch._dynamo"),
    ],
)
def test_a_stage_imports_nothing_heavy_that_it_does_not_need(
    small_project: Project, stage: str, unwanted: str
) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['stages', '{stage}']\n"
        "runpy.run_module('stages', run_name='__main__', alter_sys=True)\n"
        "print('\\n'.join(sys.modules))"
    )
    loaded = set(small_project.run("python", "-c", script).stdout.split())
    assert "pydantic" in loaded
    assert loaded & set(unwanted.split()) == set()


# What a program may have set for itself.
STATE = """
import gc, os, signal, sys, warnings
state = lambda: (
    sys.excepthook, dict(os.environ), gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(),
    os.getcwd(), sys.stdout, sys.getswitchinterval(), sys.getrecursionlimit(),
    [signal.getsignal(number) for number in signal.valid_signals()],
)
"""
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("samebits", "stages", "tools")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__main__.py"  # which runs a command
)


def test_an_import_changes_nothing_in_the_process() -> None:
    script = STATE + (
        "import importlib\n"
        "before = state()\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert state() == before, f'{name} changes {before} to {state()}'\n"
        "print('all')\n"
    )
    assert len(MODULES) > 30
    command = [sys.executable, "-c", script, *MODULES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "all\n", done.stderr


@pytest.mark.parametrize(("package", "name"), [("stages", "check"), ("tools", "export")])
def test_a_command_prepares_its_process_and_collects_garbage_again(
    package: str, name: str, tmp_path: Path
) -> None:
    """A stand-in for a command of the package, which shows what it finds."""
    code = (
        "import gc, os, sys\n"
        "print(gc.isenabled(), sys.excepthook.__name__, os.environ['OMP_NUM_THREADS'])\n"
        "def main(*_): print(gc.isenabled(), gc.get_freeze_count())\n"
    )
    for folder in ("stages", "tools", "fairtrial", "samebits"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / package / f"{name}.py").write_text(code)
    environment = {name: of for name, of in os.environ.items() if name != "OMP_NUM_THREADS"}
    out = subprocess.check_output(
        [sys.executable, "-m", package, name], cwd=tmp_path, env=environment, text=True
    )
    first, second = out.splitlines()
    # The imports of a stage are not scanned for garbage. Those of tools come when it runs.
    assert first == f"{package == 'tools'} report_interrupt 1"
    enabled, frozen = second.split()
    assert enabled == "True"
    assert int(frozen) > 1_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "python -m stages trian: unknown stage; did you mean train?"),
        ([], f"python -m stages: unknown stage; name one of {', '.join(NAMES)}"),
        (["train", "now"], "python -m stages train now: unknown stage; did you mean train?"),
    ],
)
def test_an_unknown_stage_is_refused(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "stages", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{message}\n")


def test_help_names_every_stage() -> None:
    command = [sys.executable, "-m", "stages", "--help"]
    out = subprocess.check_output(command, cwd=ROOT, text=True)
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == NAMES


def test_text_is_utf8_in_every_locale() -> None:
    """Python up to 3.14 takes the encoding of the locale where none is named."""
    for file in [*ROOT.glob("stages/**/*.py"), *ROOT.glob("tools/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                call, keywords = ast.unparse(node), {keyword.arg for keyword in node.keywords}
                assert "encoding" in keywords or not (
                    "text=True" in call
                    or ast.unparse(node.func).endswith(("read_text", "write_text"))
                ), f"{file}:{node.lineno}: {call}"
