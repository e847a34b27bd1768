"""Checkpoints: the models that are read are those that were written, or the file is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from samebits import seeded_generator
from stages.learning.checkpoints import (
    CHECKPOINT,
    read_checkpoint,
    read_replicas,
    write_checkpoint,
    write_replicas,
)
from stages.learning.models import MODELS, build_model, predict
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.tensors import write_tensors
from tests.helpers.cards import DIGITS
from tests.helpers.project import Project
from tests.helpers.training import WIDTHS

PARTS = DatasetInfo(
    title="Parts", shape=(3, 17, 17), classes=("bolt", "nut", "Räder"), style="natural"
)
DATASET = DIGITS.model_dump_json()


@pytest.mark.parametrize("info", [DIGITS, PARTS], ids=lambda info: info.title)
@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_read_give_the_logits_of_those_written(
    name: str, info: DatasetInfo, tmp_path: Path
) -> None:
    width = WIDTHS[name]
    models = [
        build_model(name, width, info.shape, len(info.classes), seeded_generator(seed, "weights"))
        for seed in range(3)
    ]
    write_checkpoint(tmp_path / "model", models[0], name, width, info)
    write_replicas(tmp_path / "replicas", models, name, width, info)
    first, info_of_model = read_checkpoint(tmp_path / "model")
    assert info_of_model == info
    read_models = [first, *read_replicas(tmp_path / "replicas")]
    images = torch.randint(0, 256, (20, *info.shape), dtype=torch.uint8)
    for model, read_model in zip(models, read_models, strict=True):
        assert torch.equal(predict(read_model, images), predict(model, images))


def test_replicas_of_different_numbers_are_refused(tmp_path: Path) -> None:
    weights = {"weight": np.zeros((3, 10, 784), np.float32), "bias": np.zeros((2, 10), np.float32)}
    write_tensors(tmp_path / "replicas", weights, model="linear", width="0", dataset=DATASET)
    with pytest.raises(InputError, match=r"replicas: its tensors differ in the number of replicas"):
        read_replicas(tmp_path / "replicas")


def test_evaluate_refuses_the_checkpoint_of_another_model(
    project: Project, refusal: Callable[[str], str]
) -> None:
    path = project.path / CHECKPOINT
    weights = {"weight": np.zeros((10, 784), np.float32), "bias": np.zeros(10, np.float32)}
    path.unlink()  # it may be a link into DVC's cache
    write_tensors(path, weights, model="forest", dataset=DATASET)
    assert f"unknown model 'forest'; known: {', '.join(MODELS)}; `dvc repro`" in refusal("evaluate")
    for width in ("", "0", "513", "-1", "9" * 5_000, "²", "wide"):
        write_tensors(path, weights, model="cnn", width=width, dataset=DATASET)
        assert f"cnn cannot have the width {width[:9]!r}" in refusal("evaluate")
    write_tensors(
        path,
        {**weights, "bias": np.zeros(9, np.float32)},
        model="linear",
        width="0",
        dataset=DATASET,
    )
    assert "bias is F32 [9] instead of F32 [10]" in refusal("evaluate")
    not_finite = np.full(10, np.nan, np.float32)
    write_tensors(path, {**weights, "bias": not_finite}, model="linear", width="0", dataset=DATASET)
    assert "logits that are not finite" in refusal("evaluate")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "model"
    weights = {"weight": np.zeros((10, 784), np.float32), "bias": np.zeros(10, np.float32)}
    weights["weight"][3, 5] = value
    write_tensors(path, weights, model="linear", width="0", dataset=DATASET)
    with pytest.raises(InputError, match=r"model: weight is not finite, .*; lower train.lr, and"):
        read_checkpoint(path)
    replicas = {name: array[None] for name, array in weights.items()}
    write_tensors(path, replicas, model="linear", width="0", dataset=DATASET)
    with pytest.raises(InputError, match="model: weight is not finite"):
        read_replicas(path)
