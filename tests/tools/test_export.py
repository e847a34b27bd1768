"""The model as ONNX, computed by the ONNX runtime."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import samebits
from samebits import plain_float32
from stages.learning.checkpoints import CHECKPOINT, write_checkpoint
from stages.learning.models import MODELS, build_model
from stages.storage.split_files import read_split
from stages.storage.tensors import Array
from tests.helpers.project import ROOT, Project
from tests.helpers.training import WIDTHS
from tools.export import run_onnx, to_onnx


def logits_of(path: Path, images: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path))
    result: Array = session.run(["logits"], {"images": images})[0]
    return result


def export(project: Project, ok: bool = True) -> str:
    done = project.run("python", "-m", "tools", "export", ok=ok)
    return done.stdout if ok else done.stderr


def test_the_exported_model_gives_the_logits_of_the_pipeline(small_project: Project) -> None:
    output = export(small_project)
    assert re.search(r"On 2,500 .* by at most \d\.\de-0[67]; .* another class is 0\n$", output)
    _, test = read_split(small_project.path / "data/prepared/test.safetensors")
    logits = logits_of(small_project.path / "model.onnx", test["images"])
    predicted = logits.argmax(1).tolist()
    table = (small_project.path / "metrics/predictions.csv").read_text().splitlines()
    rows = [row.split(",") for row in table if row.startswith("test,")]
    column = table[0].split(",").index("predicted")
    assert [int(row[column]) for row in rows] == predicted
    # Of one image, too, and of none of this batch size before.
    np.testing.assert_allclose(
        logits_of(small_project.path / "model.onnx", test["images"][:1]), logits[:1], atol=1e-5
    )
    assert small_project.status() == ""
    [script] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/sharing.md").read_text(), re.DOTALL)
    output = small_project.run(sys.executable, "-c", script).stdout
    assert re.fullmatch(r"\['\d', '\d'\]\n", output)


@pytest.mark.slow
def test_its_metadata_say_what_it_is_and_its_bytes_depend_on_nothing_else(
    small_project: Project,
) -> None:
    export(small_project)
    path = small_project.path / "model.onnx"
    first = path.read_bytes()
    texts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    properties = {name: json.loads(text) for name, text in texts.items()}
    assert properties["classes"] == list("0123456789")
    assert properties["shape"] == [1, 28, 28]
    assert properties["params"]["prepare.train_size"] == 300
    assert properties["commit"] == small_project.run("git", "rev-parse", "HEAD").stdout.strip()
    small_project.env["PYTHONHASHSEED"] = "1"
    (small_project.path / "notes.txt").write_text("Tried it.")
    small_project.commit("No other results")
    export(small_project)
    assert path.read_bytes() == first
    small_project.run("dvc", "exp", "run", "-S", "train.lr=0.02")
    export(small_project)
    texts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert json.loads(texts["commit"]) is None  # no commit has these results
    assert json.loads(texts["params"])["train.lr"] == 0.02


@pytest.mark.parametrize("name", MODELS)
def test_each_model_is_exported(small_reproduced: Project, name: str) -> None:
    info, test = read_split(small_reproduced.path / "data/prepared/test.safetensors")
    model, twin = (
        build_model(
            name, WIDTHS[name], info.shape, 10, torch.Generator().manual_seed(0), ops
        ).eval()
        for ops in (samebits, plain_float32)
    )
    for one in (model, twin):
        for buffer in one.buffers():  # of batch normalization; other than at the start
            buffer += 0.25
    content = to_onnx(twin, info, {})
    images = test["images"][:300]  # more than a part
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run_onnx(content, images), expected, atol=2e-5)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    [none] = session.run(["logits"], {"images": images[:0]})
    assert none.shape == (0, len(info.classes))
    assert expected.std() > 0.01


@pytest.mark.slow
def test_what_cannot_be_exported_is_refused(small_project: Project) -> None:
    without = "import runpy, sys; sys.modules['onnxruntime'] = None; sys.argv[1:] = ['export']\n"
    script = f"{without}runpy.run_module('tools', run_name='__main__')"
    done = small_project.run("python", "-c", script, ok=False)
    assert done.returncode == 2
    assert done.stderr == (
        "onnxruntime is not installed; install it by `make repro` or "
        "`uv pip install --group export`\n"
    )
    small_project.edit("params.yaml", "  lr: 0.01 ", "  lr: 0.02 ")
    assert "params.yaml has another train.lr than its results were made with" in export(
        small_project, ok=False
    )
    small_project.set_params("train.lr=0.01", "train.model=mlp", "train.width=8")
    small_project.run("dvc", "commit", "--force")
    assert "holds a model linear of width 0, unlike params.yaml" in export(small_project, ok=False)
    small_project.run("git", "checkout", ".")
    generator = torch.Generator()
    info, _ = read_split(small_project.path / "data/prepared/test.safetensors")
    letters = info.model_copy(update={"classes": tuple("abcdefghij")})
    path = small_project.path / CHECKPOINT
    path.unlink()
    write_checkpoint(
        path, build_model("linear", 0, info.shape, 10, generator), "linear", 0, letters
    )
    assert export(small_project, ok=False).startswith(
        "data/prepared/test.safetensors: has other images than the model was made for; run"
    )
    assert not (small_project.path / "model.onnx").exists()
