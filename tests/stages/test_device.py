"""Training on another device than the CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from samebits import plain_float32
from stages.learning.models import ARITHMETIC, MODELS
from stages.learning.training import Replicas, Split
from stages.params.train import Train
from stages.storage.tensors import digest
from stages.train import prepare_cuda
from tests.helpers.project import Project
from tests.helpers.training import WIDTHS, train_epochs, train_params

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


def model_params(model: str, **changes: object) -> Train:
    values = {"width": WIDTHS[model], "lr": 0.01, "batch_size": 48, "log_every": 3, **changes}
    return train_params(model=model, **values)


def random_split(n: int, device: str) -> Split:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (n,), generator=generator)
    return Split(images.to(device), labels.to(device), classes=10)


def digest_of_training(params: Train) -> str:
    """Return the digest of the state after all epochs of a training."""
    split = random_split(96, params.device)
    replicas = Replicas([0], [params.seed], split, split, params)
    train_epochs(replicas, params.epochs)
    return digest(replicas.state(0))


@pytest.mark.parametrize("model", MODELS)
def test_all_tensors_of_an_operation_are_on_the_same_device(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed: the tensors of FakeTensorMode have no values, but a device.

    An operation on tensors of two devices raises an error there as on a GPU.
    """
    changes = {"optimizer": "adamw", "weight_decay": 0.1, "augment": "affine"}
    params = model_params(model, batch_size=16, **changes)
    params = params.model_copy(update={"device": "meta"})
    monkeypatch.setitem(ARITHMETIC, "meta", plain_float32)
    # Before the mode begins, because in it the weights of a module would stay where they are.
    on_cpu = random_split(40, "cpu")
    replicas = Replicas([0], [params.seed], on_cpu, on_cpu, params)
    monkeypatch.setattr(Tensor, "item", lambda _: 0.5)
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: [0.5] * tensor.numel())
    for name, value in (("__float__", 0.5), ("__int__", 1), ("__bool__", True)):
        monkeypatch.setattr(Tensor, name, lambda _, value=value: value)
    with FakeTensorMode(allow_non_fake_inputs=True):
        # `predict` computes 32 at a time with a CNN.
        replicas.train = replicas.val = random_split(40, "meta")
        train_epochs(replicas, params.epochs)
    assert {weight.device.type for weight in replicas.model.state_dict().values()} == {"meta"}


@needs_cuda
@pytest.mark.parametrize("model", MODELS)
def test_training_on_a_gpu_repeats_its_bits(model: str) -> None:
    prepare_cuda()
    params = model_params(model, device="cuda")
    assert digest_of_training(params) == digest_of_training(params)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch finds a GPU")
def test_cuda_without_a_gpu_is_refused(project: Project, refusal: Callable[[str], str]) -> None:
    project.set_params("train.device=cuda")
    assert refusal("train").startswith("params.yaml: train.device: cuda needs a GPU")
    # And before DVC removes the metrics.
    assert "params.yaml: train.device: cuda" in project.run("dvc", "repro", ok=False).stderr
    assert project.status() == " M params.yaml\n"
