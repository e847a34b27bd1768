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

from stages.datasets.mnist_5k import load_mnist_5k
from stages.learning import training
from stages.learning.checkpoints import read_checkpoint, read_replicas
from stages.learning.models import MODEL_NAMES, MODELS_WITH_WIDTH, PRECISIONS, build_model, predict
from stages.learning.training import (
    Split,
    TrainingState,
    batches,
    initial_state,
    seeded_generator,
    train_epoch,
)
from stages.params.train import Train
from stages.storage.errors import InputError
from stages.storage.tensors import Array
from tests.helpers.project import Project
from tests.same_bits.trainings import USUAL


def params(**changes: object) -> Train:
    rest = {"lr": 0.1, "batch_size": 64, "drop_last": False, "epochs": 2, "log_every": 10}
    values = {**USUAL, **rest, "precision": "exact"}
    return Train.model_validate(values | changes)


def digits(start: int, stop: int) -> Split:
    """Real digits of the training pool."""
    pool = load_mnist_5k()["train"]
    labels = torch.from_numpy(pool["labels"][start:stop].copy()).long()
    return Split(torch.from_numpy(pool["images"][start:stop].copy()), labels)


TRAIN, VAL = digits(0, 150), digits(150, 250)


def fit(settings: Train) -> TrainingState:
    state = initial_state(settings)
    for _ in range(settings.epochs):
        train_epoch(state, TRAIN, VAL, settings)
    return state


def by_hand(settings: Train) -> tuple[Array, Array, list[float]]:
    """Softmax regression by stochastic gradient descent: weights, bias, each batch's loss."""
    model = build_model("linear", 0, seeded_generator(settings.seed, "weights"))
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


WIDTHS = {"linear": 0, "mlp": 24, "cnn": 3}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_a_model_takes_images_and_gives_logits(name: str, precision: str) -> None:
    model = build_model(name, WIDTHS[name], seeded_generator(0, "weights"), precision)
    images = torch.randint(0, 256, (42, 1, 28, 28), dtype=torch.uint8)
    logits = predict(model, images)
    assert logits.shape == (42, 10)
    # A convolution has few terms and small weights, which float32 rounds as much as the grid.
    torch.testing.assert_close(predict(model, images / 255), logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_precisions_agree(name: str) -> None:
    changes = {"model": name, "width": WIDTHS[name], "epochs": 1, "lr": 0.01}
    exact, float32 = (fit(params(precision=precision, **changes)) for precision in PRECISIONS)
    mine, torchs = exact.model.state_dict(), float32.model.state_dict()
    assert mine.keys() == torchs.keys()
    for key, tensor in mine.items():
        torch.testing.assert_close(tensor, torchs[key], rtol=1e-3, atol=1e-3)


def test_a_convolutional_model_is_torchs_layers() -> None:
    model = build_model("cnn", 3, seeded_generator(0, "weights"), "float32")
    mine = model.state_dict()
    layers: list[torch.nn.Module] = []
    before = 1
    for number, after in enumerate((3, 3, 6, 6, 12)):
        convolution = torch.nn.Conv2d(before, after, 3, bias=False)
        norm = torch.nn.BatchNorm2d(after)
        convolution.weight.data = mine[f"convolutions.{number}.weight"]
        layers += [convolution, *([torch.nn.MaxPool2d(2)] if number in (1, 3) else []), norm]
        layers.append(torch.nn.ReLU())
        before = after
    last = torch.nn.Linear(48, 10)
    last.weight.data, last.bias.data = mine["weight"], mine["bias"]
    whole = torch.nn.Sequential(*layers, torch.nn.Flatten(), last)
    images = TRAIN.images[:20]
    for training in (True, False):  # the second by the statistics that the first left
        whole.train(training)
        model.train(training)
        torch.testing.assert_close(model(images), whole(images / 255), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "fan_in"), [("linear", 784), ("mlp", 784), ("cnn", 9)])
def test_initial_weights_have_the_spread_of_torchs_own_layer(name: str, fan_in: int) -> None:
    filters = build_model(
        name, 0 if name == "linear" else 500, seeded_generator(0, "weights")
    ).filters
    bound = 1 / math.sqrt(fan_in)
    assert filters.abs().max() <= bound
    assert filters.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_only_the_linear_model_has_no_width() -> None:
    assert {"linear", *MODELS_WITH_WIDTH} == set(MODEL_NAMES) == set(WIDTHS)


def test_every_epoch_distorts_every_image_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def affine(images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        seen.append(numbers)
        return images

    monkeypatch.setattr(training, "affine", affine)
    fit(params(augment="affine", epochs=2))
    numbers = torch.cat(seen)
    assert numbers.shape == (300, 5)
    assert len(numbers.unique(dim=0)) == 300
    assert -1 <= numbers.min() < -0.9
    assert 0.9 < numbers.max() <= 1
    assert numbers.mean(0).abs().max() < 0.15
    seen.clear()
    fit(params(augment="affine", epochs=2, batch_size=7))
    assert torch.equal(torch.cat(seen).unique(dim=0), numbers.unique(dim=0))


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "mse"},
        {"label_smoothing": 0.1},
        {"optimizer": "adam"},
        {"optimizer": "adamw"},
        {"schedule": "one_cycle"},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"augment": "affine"},
        {"batch_size": "full"},
        {"model": "mlp", "width": 24},
        {"model": "mlp", "width": 25},
    ],
)
def test_a_setting_changes_the_result_and_still_learns(change: dict[str, object]) -> None:
    changed = fit(params(epochs=8, lr=0.05, **change))
    usual = fit(params(epochs=8, lr=0.05))
    assert changed.last != usual.last
    assert changed.last.train_accuracy > 0.3


def test_the_full_batch_is_one_step_an_epoch() -> None:
    state = fit(params(batch_size="full", log_every=1))
    assert [row.iteration for row in state.history] == [1, 2]
    [batch] = batches(150, params(batch_size="full"), 1)
    assert sorted(batch.tolist()) == list(range(150))


def test_the_state_of_other_random_numbers_does_not_matter() -> None:
    first = fit(params())
    torch.rand(3)
    assert torch.equal(predict(first.model, VAL.images), predict(fit(params()).model, VAL.images))


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.9},
        {"optimizer": "adam", "schedule": "one_cycle"},
        {"model": "cnn", "width": 2, "augment": "affine"},
    ],
)
def test_a_state_that_is_restored_goes_on_as_if_nothing_had_been(
    changes: dict[str, object],
) -> None:
    settings = params(epochs=4, log_every=4, **changes)
    whole = fit(settings)
    half = initial_state(settings)
    for _ in range(2):
        train_epoch(half, TRAIN, VAL, settings)
    resumed = initial_state(settings)
    resumed.restore({name: tensor.copy() for name, tensor in half.tensors().items()})
    for _ in range(2):
        train_epoch(resumed, TRAIN, VAL, settings)
    assert resumed.history == whole.history
    assert resumed.last == whole.last
    for name, tensor in whole.tensors().items():
        np.testing.assert_array_equal(resumed.tensors()[name], tensor)


def test_a_training_that_is_not_watched_gives_the_same_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = params(model="cnn", width=2, augment="affine")
    watched, alone = fit(settings), initial_state(settings)
    capsys.readouterr()
    for _ in range(settings.epochs):
        train_epoch(alone, TRAIN, VAL, settings, record_history=False)
    assert capsys.readouterr().out == ""
    assert alone.history == []
    assert alone.last.train_loss == watched.last.train_loss
    for key, tensor in watched.model.state_dict().items():
        assert torch.equal(tensor, alone.model.state_dict()[key])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_model_is_the_same_for_any_number_of_replicas(project: Project, precision: str) -> None:
    files = "data/checkpoints/model.safetensors", "metrics/history.csv", "metrics/train.json"
    project.edit("params.yaml", "precision: exact ", f"precision: {precision} ")
    found = []
    others: list[list[Array]] = []
    for replicas, seed in ((5, 0), (3, 0), (1, 0), (1, 2)):
        text = (project.path / "params.yaml").read_text()
        text = re.sub(r"replicas: \d", f"replicas: {replicas}", text)
        start, section, rest = text.partition("train:\n")
        rest = re.sub(r"seed: \d", f"seed: {seed}", rest, count=1)
        (project.path / "params.yaml").write_text(start + section + rest)
        project.run("python", "-m", "stages.train")
        found.append([(project.path / file).read_bytes() for file in files])
        models = read_replicas(project.path / "data/checkpoints/replicas.safetensors")
        others.append([model.filters.detach().numpy() for model in models])
        assert len(models) == replicas - 1
    assert found[0] == found[1] == found[2] != found[3]
    np.testing.assert_array_equal(others[0][:2], others[1])
    # The second replica is the model of seed + 2.
    model = read_checkpoint(project.path / "data/checkpoints/model.safetensors")
    np.testing.assert_array_equal(others[0][1], model.filters.detach())


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    said = r"train.lr: with 1e\+38 the loss became \S+ at iteration 2, in epoch 1; lower it"
    with pytest.raises(InputError, match=said):
        fit(params(lr=1e38, weight_decay=1e38))


def test_weights_that_are_not_finite_after_the_last_step_are_noticed() -> None:
    with pytest.raises(InputError, match=r"train.lr: with 1e\+38 the weights"):
        fit(params(lr=1e38, weight_decay=1e38, epochs=1, batch_size=150))


def test_rare_rows_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    settings = params(epochs=40, log_every=100)
    fit(settings)
    lines = [line for line in capsys.readouterr().out.splitlines() if "iteration" in line]
    assert [line.split(":")[0] for line in lines] == ["iteration 100", "iteration 120"]
    fit(params(log_every=99))
    assert "iteration" not in capsys.readouterr().out


def test_at_most_a_hundred_epochs_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    fit(params(epochs=250, batch_size="full", log_every=99))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 83
    assert lines[0].startswith("epoch 3/250: ")


def test_no_batch_left_is_an_error() -> None:
    with pytest.raises(InputError, match=r"train.batch_size: 151 is more than the 150"):
        fit(params(batch_size=151, drop_last=True))


def test_an_epoch_is_a_line_and_without_a_terminal_there_is_no_bar(project: Project) -> None:
    done = project.run("python", "-m", "stages.train")
    lines = done.stdout.splitlines()
    assert len(lines) == 14
    for number, line in enumerate(lines[10:], 2):
        assert re.fullmatch(rf"replica {number}/5: accuracy val 0\.\d+", line)
    for number, line in enumerate(lines[:10], 1):
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
    assert len(done.stdout.splitlines()) == 14
