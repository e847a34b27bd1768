"""The code of docs/other-tools.md, where the tool is installed."""

import os
import re
import sqlite3

import pytest

from tests.helpers.project import ROOT, Project

PAGE = (ROOT / "docs/other-tools.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)$.*?```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def run(project: Project, tool: str) -> str:
    path = os.pathsep.join([str(project.path), os.environ.get("PYTHONPATH", "")])
    return project.run("env", f"PYTHONPATH={path}", "python", "-c", SECTIONS[tool]).stdout


def test_a_notebook_reads_metrics_and_curves(reproduced: Project) -> None:
    accuracy, *_ = run(reproduced, "Notebooks").split()
    assert accuracy == "0.836"


def test_mlflow_takes_parameters_metrics_and_curves(reproduced: Project) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: `uv pip install mlflow-skinny`")
    pytest.importorskip("sqlalchemy")
    run(reproduced, "MLflow")
    with sqlite3.connect(reproduced.path / "mlflow.db") as database:
        [(count,)] = database.execute("select count(*) from metrics where key = 'val_loss'")
        [(lr,)] = database.execute("select value from params where key = 'lr'")
    assert (count, lr) == (10, "0.01")


def test_tensorboard_takes_curves(reproduced: Project) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    run(reproduced, "TensorBoard")
    events = accumulator.EventAccumulator(str(reproduced.path / "runs/replica-4/val"))
    events.Reload()
    assert len(events.Scalars("loss")) == 10
