"""Training, against the same mathematics written a second time in NumPy."""

import math
import os
import pty
import re
import subprocess
import termios

import numpy as np
import pytest
import torch
from conftest import Project

from stages.errors import InputError
from stages.fetch import mnist_5k
from stages.models import MODELS, PRECISIONS, predict
from stages.params.train import Train
from stages.tensors import Array
from stages.train import Split, State, batches, begin, generator, sgd, train_epoch


def params(**changes: object) -> Train:
    values = {
        "model": "linear",
        "precision": "exact",
        "lr": 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "batch_size": 64,
        "drop_last": False,
        "epochs": 2,
        "seed": 0,
        "log_every": 10,
    }
    return Train.model_validate(values | changes)


def digits(start: int, stop: int) -> Split:
    """Real digits of the training pool."""
    pool = mnist_5k()["train"]
    labels = torch.from_numpy(pool["labels"][start:stop].copy()).long()
    return Split(torch.from_numpy(pool["images"][start:stop].copy()), labels)


TRAIN, VAL = digits(0, 150), digits(150, 250)


def fit(settings: Train) -> State:
    state = begin(settings)
    for _ in range(settings.epochs):
        train_epoch(state, TRAIN, VAL, settings)
    return state


def by_hand(settings: Train) -> tuple[Array, Array, list[float]]:
    """Softmax regression by stochastic gradient descent: weights, bias, each batch's loss."""
    model = MODELS["linear"](generator(settings.seed, "weights"))
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    losses = []
    for epoch in range(1, settings.epochs + 1):
        for batch in batches(len(TRAIN.labels), settings, epoch):
            x = TRAIN.images[batch].numpy().reshape(-1, 784) / 255
            y = np.eye(10)[TRAIN.labels[batch].numpy()]
            logits = x @ weights["weight"].T + weights["bias"]
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses.append(-(y * np.log(p)).sum() / len(x))
            error = (p - y) / len(x)
            for name, gradient in (("weight", error.T @ x), ("bias", error.sum(0))):
                gradient += settings.weight_decay * weights[name]
                velocity[name] = settings.momentum * velocity[name] + gradient
                weights[name] -= settings.lr * velocity[name]
    return weights["weight"], weights["bias"], losses


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.9},
        {"weight_decay": 0.1},
        {"momentum": 0.5, "weight_decay": 0.01, "lr": 0.02},
        {"drop_last": True},
        {"batch_size": 1_000},
        {"seed": 5},
    ],
)
def test_training_is_what_the_formulas_say(precision: str, changes: dict[str, object]) -> None:
    settings = params(log_every=1, precision=precision, **changes)
    state = fit(settings)
    weight, bias, losses = by_hand(settings)
    np.testing.assert_allclose(state.model.get_parameter("weight").detach(), weight, atol=2e-6)
    np.testing.assert_allclose(state.model.get_parameter("bias").detach(), bias, atol=2e-6)
    np.testing.assert_allclose([row.train_loss for row in state.history], losses, rtol=1e-5)
    for found, split in ((state.last.train_accuracy, TRAIN), (state.last.val_accuracy, VAL)):
        logits = split.images.numpy().reshape(-1, 784) / 255 @ weight.T + bias
        assert found == (logits.argmax(1) == split.labels.numpy()).mean()


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
def test_a_step_is_torchs(momentum: float, weight_decay: float) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.rand(20))
    expected = torch.nn.Parameter(weight.detach().clone())
    torchs = torch.optim.SGD([expected], lr=0.1, momentum=momentum, weight_decay=weight_decay)
    velocities = [torch.zeros(20)]
    for _ in range(5):
        gradient = torch.rand(20)
        expected.grad = gradient
        torchs.step()
        settings = params(momentum=momentum, weight_decay=weight_decay)
        sgd([weight], (gradient,), velocities, settings)
    torch.testing.assert_close(weight, expected)


def test_a_row_is_the_mean_over_the_images_since_the_row_before() -> None:
    _, _, losses = by_hand(params())  # of batches of 64, 64 and 22
    [first, second] = fit(params(log_every=4)).history
    assert (first.iteration, first.epoch, second.iteration, second.epoch) == (4, 2, 6, 2)
    sizes = [64, 64, 22, 64, 64, 22]
    for row, part in ((first, slice(0, 4)), (second, slice(4, 6))):
        mean = math.fsum(np.multiply(losses[part], sizes[part])) / sum(sizes[part])
        assert row.train_loss == pytest.approx(mean, rel=1e-5)


def test_every_epoch_takes_every_image_once_in_another_order() -> None:
    orders = [torch.cat(list(batches(150, params(), epoch))).tolist() for epoch in (1, 2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(150))
    assert [len(batch) for batch in batches(150, params(), 1)] == [64, 64, 22]
    assert [len(batch) for batch in batches(150, params(drop_last=True), 1)] == [64, 64]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_takes_images_and_gives_logits(name: str, precision: str) -> None:
    model = MODELS[name](generator(0, "weights"), precision)
    images = torch.randint(0, 256, (42, 1, 28, 28), dtype=torch.uint8)
    logits = model(images)
    assert logits.shape == (42, 10)
    torch.testing.assert_close(model(images / 255), logits, rtol=1e-5, atol=1e-6)


def test_initial_weights_have_the_spread_of_torchs_own_layer() -> None:
    weight = MODELS["linear"](generator(0, "weights")).get_parameter("weight")
    bound = 1 / math.sqrt(784)
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_the_state_of_other_random_numbers_does_not_matter() -> None:
    first = fit(params())
    torch.rand(3)
    assert torch.equal(predict(first.model, VAL.images), predict(fit(params()).model, VAL.images))


def test_a_state_that_is_restored_goes_on_as_if_nothing_had_been() -> None:
    settings = params(epochs=4, momentum=0.9, log_every=4)
    whole = fit(settings)
    half = begin(settings)
    for _ in range(2):
        train_epoch(half, TRAIN, VAL, settings)
    resumed = begin(settings)
    resumed.restore({name: tensor.copy() for name, tensor in half.tensors().items()})
    for _ in range(2):
        train_epoch(resumed, TRAIN, VAL, settings)
    assert resumed.history == whole.history
    assert resumed.last == whole.last
    for name, tensor in whole.tensors().items():
        np.testing.assert_array_equal(resumed.tensors()[name], tensor)


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    said = r"train.lr: with 1e\+38 the loss became \S+ at iteration 2, in epoch 1; lower it"
    with pytest.raises(InputError, match=said):
        fit(params(lr=1e38, weight_decay=1e38))


def test_weights_that_are_not_finite_after_the_last_step_are_noticed() -> None:
    with pytest.raises(InputError, match=r"train.lr: with 1e\+38 the weights"):
        fit(params(lr=1e38, weight_decay=1e38, epochs=1, batch_size=150))


def test_no_batch_left_is_an_error() -> None:
    with pytest.raises(InputError, match=r"train.batch_size: 151 is more than the 150"):
        fit(params(batch_size=151, drop_last=True))


def test_an_epoch_is_a_line_and_without_a_terminal_there_is_no_bar(project: Project) -> None:
    done = project.run("python", "-m", "stages.train")
    lines = done.stdout.splitlines()
    assert len(lines) == 10
    for number, line in enumerate(lines, 1):
        wanted = rf"epoch {number}/10: loss \d\.?\d*, accuracy train 0\.\d+, val 0\.\d+"
        assert re.fullmatch(wanted, line)
    assert done.stderr == ""
    assert project.status() == ""


def test_on_a_terminal_there_is_a_bar(project: Project) -> None:
    terminal, ours = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    command = ["python", "-m", "stages.train"]
    done = subprocess.run(
        command, cwd=project.path, env=project.env, stdout=subprocess.PIPE, stderr=ours, check=True
    )
    os.write(ours, b"the end")  # so that there is something to read in any case
    shown = os.read(terminal, 100_000).decode()
    os.close(ours)
    os.close(terminal)
    assert "epoch 1/10:   0%|" in shown
    assert "/32 [" in shown
    assert len(done.stdout.splitlines()) == 10
