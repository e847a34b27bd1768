"""Training on another device than the CPU."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from stages.learning.training import Split, initial_state, train_epoch
from stages.params.train import Train
from stages.storage.tensors import digest
from stages.train import prepare_cuda
from tests.helpers.project import Project
from tests.same_bits.trainings import USUAL

MODELS = {"linear": 0, "mlp": 8, "cnn": 2}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def settings(model: str, precision: str, **others: object) -> Train:
    rest = {"lr": 0.01, "drop_last": False, "epochs": 2, "log_every": 3, "precision": precision}
    values = {**USUAL, **rest, "model": model, "width": MODELS[model], **others}
    return Train.model_validate(values)


def split(device: str) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (96, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (96,), generator=generator)
    return Split(images.to(device), labels.to(device))


def trained(params: Train) -> str:
    data = split(params.device)
    state = initial_state(params)
    for _ in range(params.epochs):
        train_epoch(state, data, data, params)
    return digest(state.tensors())


@pytest.mark.parametrize("precision", ["exact", "float32"])
@pytest.mark.parametrize("model", MODELS)
def test_all_that_meets_is_on_one_device(
    model: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no GPU: torch's own stand-in, without values, tells where a tensor is."""
    others = {"optimizer": "adamw", "augment": "affine", "label_smoothing": 0.1}
    params = settings(model, precision, **others).model_copy(update={"device": "meta"})
    state = initial_state(
        params
    )  # outside of the mode, which does not move the weights of a module
    monkeypatch.setattr(Tensor, "item", lambda _: 0.5)
    monkeypatch.setattr(Tensor, "tolist", lambda of: [0.5] * of.numel())
    for name, value in (("__float__", 0.5), ("__int__", 1), ("__bool__", True)):
        monkeypatch.setattr(Tensor, name, lambda _, value=value: value)
    with FakeTensorMode(allow_non_fake_inputs=True):
        data = split("meta")
        train_epoch(state, data, data, params)
    assert {weight.device.type for weight in state.model.state_dict().values()} == {"meta"}


@needs_cuda
@pytest.mark.parametrize("model", MODELS)
def test_the_gpu_gives_the_bits_of_the_cpu(model: str) -> None:
    prepare_cuda()
    others = {"optimizer": "adam", "augment": "affine"}
    assert trained(settings(model, "exact", device="cuda", **others)) == trained(
        settings(model, "exact", **others)
    )


@needs_cuda
@pytest.mark.parametrize("model", MODELS)
def test_the_gpu_repeats_its_bits_in_float32(model: str) -> None:
    prepare_cuda()
    params = settings(model, "float32", device="cuda")
    assert trained(params) == trained(params)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU")
def test_without_a_gpu_the_refusal_says_so(project: Project) -> None:
    project.edit("params.yaml", "device: cpu ", "device: cuda ")
    assert project.refused("train").startswith("params.yaml: train.device: cuda needs a GPU")
