"""Write the model as ONNX, for programs without torch, and check it on all test images.

Its input `images` is uint8 (N, C, H, W), as in `data/prepared`; its output `logits` is float32
(N, K). It computes in float32, so a logit differs from that of the exact model in its last bits.
Classes, shape, parameters and commit are in the metadata of the file.

    python -m tools export
    python -m tools export --output digits.onnx
"""

import argparse
import json
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairtrial.project.revisions import commit_of_results
from fairtrial.project.scores import load_scores
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.files import write_bytes
from stages.storage.split_files import read_split
from stages.storage.tensors import Array

if TYPE_CHECKING:
    from stages.learning.models import Model

OPSET = 17
TEST = Path("data/prepared/test.safetensors")


def to_onnx(model: "Model", info: DatasetInfo, properties: dict[str, Any]) -> bytes:
    """Return a model in float32 arithmetic as ONNX, with these properties as its metadata."""
    import onnx
    import torch

    images = torch.zeros((1, *info.shape), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch prefers its other exporter, which needs three more packages for the same graph.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model.eval(),
            (images,),
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
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def run_onnx(content: bytes, images: Array) -> Array:
    """Return the logits (N, K) that the ONNX runtime computes of images uint8 (N, C, H, W)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    parts = np.array_split(images, -(-len(images) // 256))
    return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools export", description="Write the model as ONNX."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("model.onnx"), help="file (default: %(default)s)"
    )
    output = parser.parse_args().output
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; install it by `make repro` or "
            "`uv pip install --group export`"
        ) from None
    params = load_scores("workspace", "val").params  # refuses results of others

    import torch

    from stages.learning.checkpoints import CHECKPOINT, read_checkpoint, read_description
    from stages.learning.models import build_model, predict

    model, info = read_checkpoint(CHECKPOINT)
    name, width, _ = read_description(CHECKPOINT)
    test_info, test = read_split(TEST)
    if (test_info.shape, test_info.classes) != (info.shape, info.classes):
        raise InputError(
            f"{TEST}: its images are not those that the model was made for; run `dvc repro`"
        )
    twin = build_model(name, width, info.shape, len(info.classes), torch.Generator(), "float32")
    twin.load_state_dict(model.state_dict())
    content = to_onnx(
        twin,
        info,
        {
            "classes": info.classes,
            "commit": commit_of_results("workspace"),
            "data": info.title,
            "images": "uint8 from 0 to 255, which the model divides by 255",
            "params": params,
            "shape": info.shape,
        },
    )
    expected = predict(model, torch.from_numpy(test["images"])).numpy()
    logits = run_onnx(content, test["images"])
    write_bytes(output, content)
    changed = int((logits.argmax(1) != expected.argmax(1)).sum())
    print(
        f"{output}: images uint8 (N, {', '.join(map(str, info.shape))}) to logits float32 "
        f"(N, {len(info.classes)}), opset {OPSET}\n"
        f"On {len(logits):,} test images the largest difference of a logit is "
        f"{np.abs(logits - expected).max():.1e}, and "
        f"{changed or 'no'} image{'s' * (changed != 1)} get{'s' * (changed == 1)} another class"
    )
