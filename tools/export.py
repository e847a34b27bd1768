"""Write the model as ONNX, for programs without torch, and check it on all test images.

Its input `images` is uint8 (N, C, H, W), as in `data/prepared`; its output `logits` is float32
(N, K). It computes in float32, so a logit differs from that of the exact model in its last bits.
Classes, shape, parameters and commit are in the metadata of the file.

    python -m tools export
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairtrial.project.revisions import commit_of_results
from fairtrial.project.scores import load_scores
from samebits import plain_float32
from stages.learning.checkpoints import CHECKPOINT, read_checkpoint, read_description
from stages.learning.models import Model, build_model, predict
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.files import write_bytes
from stages.storage.split_files import read_split
from stages.storage.tensors import Array

try:
    import onnx
    import onnxruntime
except ModuleNotFoundError as error:
    remedy = "install it by `make repro` or `uv pip install --group export`"
    raise InputError(f"{error.name} is not installed; {remedy}") from None

OPSET = 17
TEST = Path("data/prepared/test.safetensors")


def to_onnx(model: Model, info: DatasetInfo, properties: dict[str, Any]) -> bytes:
    """Return a model in float32 arithmetic as ONNX, with these properties as its metadata."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch prefers its other exporter, which needs three more packages for the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(),
            (torch.zeros((1, *info.shape), dtype=torch.uint8),),
            path := Path(folder, "model.onnx"),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
        )
        graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    texts = {name: json.dumps(value, sort_keys=True) for name, value in properties.items()}
    onnx.helper.set_model_props(graph, texts)
    return bytes(graph.SerializeToString(deterministic=True))


def run_onnx(content: bytes, images: Array) -> Array:
    """Return the logits (N, K) that the ONNX runtime computes of images uint8 (N, C, H, W)."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    parts = np.array_split(images, -(-len(images) // 256))
    return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])


def main(args: argparse.Namespace) -> None:
    params = load_scores("workspace", "val").params  # refuses results of others
    model, info = read_checkpoint(CHECKPOINT)
    name, width, _ = read_description(CHECKPOINT)
    if (name, width) != (params["train.model"], params["train.width"]):
        raise InputError(
            f"{CHECKPOINT}: holds a model {name} of width {width}, unlike params.yaml, though "
            "dvc.lock says otherwise, as after `dvc commit --force`; `dvc repro --force` trains it"
        )
    test_info, test = read_split(TEST)
    if (test_info.shape, test_info.classes) != (info.shape, info.classes):
        raise InputError(f"{TEST}: has other images than the model was made for; run `dvc repro`")
    twin = build_model(name, width, info.shape, len(info.classes), torch.Generator(), plain_float32)
    twin.load_state_dict(model.state_dict())
    properties = {
        "classes": info.classes,
        "commit": commit_of_results("workspace"),
        "data": info.title,
        "images": "uint8 from 0 to 255, which the model divides by 255",
        "params": params,
        "shape": info.shape,
    }
    content = to_onnx(twin, info, properties)
    expected = predict(model, torch.from_numpy(test["images"])).numpy()
    logits = run_onnx(content, test["images"])
    write_bytes(args.output, content)
    difference = np.abs(logits - expected).max()
    changed = (logits.argmax(1) != expected.argmax(1)).sum()
    print(
        f"{args.output}: images uint8 (N, {', '.join(map(str, info.shape))}) to logits float32 "
        f"(N, {len(info.classes)}), opset {OPSET}\n"
        f"On {len(logits):,} test images, logits differ by at most {difference:.1e}; the number of "
        f"images that get another class is {changed}"
    )
