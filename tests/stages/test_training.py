"""Training, compared with the same mathematics in NumPy."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from stages.learning import resume, training
from stages.learning.models import MODEL_NAMES, PRECISIONS, build_model, predict
from stages.learning.training import (
    Split,
    balanced_weights,
    batches,
    initial_state,
    seeded_generator,
    train_epoch,
)
from stages.params.train import Train
from stages.storage.errors import InputError
from stages.storage.tensors import Array, write_tensors
from tests.helpers.training import CLASSES, SHAPE, TRAIN, VAL, WIDTHS, fit, train_params


def numpy_training(params: Train) -> tuple[Array, Array, list[float]]:
    """Return weights, bias and the loss of each batch of softmax regression, trained by SGD."""
    model = build_model("linear", 0, SHAPE, CLASSES, seeded_generator(params.seed, "weights"))
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    losses = []
    for epoch in range(1, params.epochs + 1):
        for batch in batches(len(TRAIN.labels), params, params.seed, epoch):
            x = TRAIN.images[batch].numpy().reshape(-1, 784) / 255
            y = np.eye(10)[TRAIN.labels[batch].numpy()]
            logits = x @ weights["weight"].T + weights["bias"]
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            losses.append(-(y * np.log(p)).sum() / len(x))
            error = (p - y) / len(x)
            for name, gradient in (("weight", error.T @ x), ("bias", error.sum(0))):
                gradient += params.weight_decay * weights[name]
                velocity[name] = params.momentum * velocity[name] + gradient
                weights[name] -= params.lr * velocity[name]
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
        {"batch_size": "full"},
        {"seed": 5},
    ],
)
def test_training_equals_numpy(precision: str, changes: dict[str, object]) -> None:
    params = train_params(log_every=1, precision=precision, **changes)
    state = fit(params)
    weight, bias, losses = numpy_training(params)
    np.testing.assert_allclose(state.model.get_parameter("weight").detach(), weight, atol=2e-6)
    np.testing.assert_allclose(state.model.get_parameter("bias").detach(), bias, atol=2e-6)
    np.testing.assert_allclose([row.train_loss for row in state.history], losses, rtol=1e-5)
    for accuracy, split in ((state.last.train_accuracy, TRAIN), (state.last.val_accuracy, VAL)):
        logits = split.images.numpy().reshape(-1, 784) / 255 @ weight.T + bias
        assert accuracy == (logits.argmax(1) == split.labels.numpy()).mean()
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), VAL.labels)
    assert state.last.val_loss == pytest.approx(float(expected), rel=1e-5)


def test_a_history_row_has_the_mean_loss_since_the_row_before() -> None:
    _, _, losses = numpy_training(train_params())  # of batches of 64, 64 and 22 images
    [first, second] = fit(train_params(log_every=4, score_every=4)).full_history()
    assert (first.iteration, first.epoch, second.iteration, second.epoch) == (4, 2, 6, 2)
    sizes = [64, 64, 22, 64, 64, 22]
    for row, part in ((first, slice(0, 4)), (second, slice(4, 6))):
        mean = math.fsum(np.multiply(losses[part], sizes[part])) / sum(sizes[part])
        assert row.train_loss == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("score_every", "scored"), [("epoch", [3, 6, 9]), (1, list(range(1, 10))), (4, [4, 8, 9])]
)
def test_the_accuracies_are_computed_when_they_are_asked_for(
    score_every: object, scored: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    params = train_params(epochs=3, log_every=2, score_every=score_every)
    state = fit(params)
    rows = {row.iteration: row for row in state.full_history()}
    assert [n for n, row in rows.items() if not math.isnan(row.train_loss)] == [2, 4, 6, 8, 9]
    assert [n for n, row in rows.items() if not math.isnan(row.val_accuracy)] == scored
    lines = capsys.readouterr().out.splitlines()
    assert [" val " in line for line in lines] == [n in scored for n in (3, 6, 9)]
    # A score is that of the weights at its iteration.
    shorter = fit(train_params(epochs=1, score_every="epoch"))
    if 3 in scored:
        assert rows[3].val_accuracy == shorter.last.val_accuracy
    if 6 in scored:
        assert rows[6].val_accuracy == fit(train_params(epochs=2)).last.val_accuracy


@pytest.mark.parametrize("score_every", ["epoch", 4])
@pytest.mark.parametrize("record_history", [True, False])
def test_each_epoch_has_a_row_of_its_own(score_every: object, record_history: bool) -> None:
    """With or without a history, and whether or not the history has a score then."""
    params = train_params(score_every=score_every)
    state = initial_state(params, TRAIN, record_history)
    expected = []
    for _ in range(params.epochs):
        train_epoch([state], TRAIN, VAL, params)
        logits = predict(state.model, VAL.images)
        loss = torch.nn.functional.cross_entropy(logits, VAL.labels)
        expected.append((float((logits.argmax(1) == VAL.labels).double().mean()), float(loss)))
    _, _, losses = numpy_training(params)
    assert [(row.iteration, row.epoch) for row in state.epochs] == [(3, 1), (6, 2)]
    for row, part, scores in zip(state.epochs, (losses[:3], losses[3:]), expected, strict=True):
        assert row.train_loss == pytest.approx(np.average(part, weights=[64, 64, 22]), rel=1e-5)
        assert row[3:] == pytest.approx(scores, rel=1e-5)


def test_each_epoch_has_every_image_once_in_its_own_order() -> None:
    orders = [torch.cat(list(batches(150, train_params(), 0, epoch))).tolist() for epoch in (1, 2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(150))
    assert [len(batch) for batch in batches(150, train_params(), 0, 1)] == [64, 64, 22]
    assert [len(batch) for batch in batches(150, train_params(drop_last=True), 0, 1)] == [64, 64]


def test_the_full_batch_is_one_step_an_epoch_over_all_images() -> None:
    state = fit(train_params(batch_size="full", log_every=1))
    assert [row.iteration for row in state.history] == [1, 2]
    [batch] = batches(150, train_params(batch_size="full"), 0, 1)
    assert sorted(batch.tolist()) == list(range(150))
    # The same as the number of the training images, and as any larger number.
    for batch_size in (150, 1_000):
        other = fit(train_params(batch_size=batch_size, log_every=1))
        torch.testing.assert_close(
            other.model.state_dict(), state.model.state_dict(), rtol=0, atol=0
        )


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_exact_and_float32_training_agree(name: str) -> None:
    changes = {"model": name, "width": WIDTHS[name], "epochs": 1, "lr": 0.01}
    exact, float32 = (
        fit(train_params(precision=precision, **changes)).model.state_dict()
        for precision in PRECISIONS
    )
    torch.testing.assert_close(exact, float32, rtol=1e-3, atol=1e-3)


def test_each_epoch_transforms_each_image_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Tensor] = []

    def record_transform_params(
        images: torch.Tensor, transform_params: torch.Tensor, black_outside: bool
    ) -> torch.Tensor:
        assert black_outside
        calls.append(transform_params)
        return images

    monkeypatch.setattr(training, "affine", record_transform_params)
    fit(train_params(augment="affine", epochs=2))
    transform_params = torch.cat(calls)
    assert transform_params.shape == (300, 5)
    assert len(transform_params.unique(dim=0)) == 300
    assert -1 <= transform_params.min() < -0.9
    assert 0.9 < transform_params.max() <= 1
    assert transform_params.mean(0).abs().max() < 0.15
    calls.clear()
    fit(train_params(augment="affine", epochs=2, batch_size=7))
    assert torch.equal(torch.cat(calls).unique(dim=0), transform_params.unique(dim=0))


def test_half_of_the_images_are_mirrored_anew_in_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[torch.Tensor] = []

    def record_mirrored(images: torch.Tensor, is_mirrored: torch.Tensor) -> torch.Tensor:
        calls.append(is_mirrored)
        return images

    monkeypatch.setattr(training, "mirror", record_mirrored)
    fit(train_params(augment="affine_mirror", epochs=2, batch_size="full"))
    first, second = calls
    assert 0.3 < first.double().mean() < 0.7
    assert 0.3 < (first == second).double().mean() < 0.7
    calls.clear()
    fit(train_params(augment="affine", epochs=2))
    assert calls == []


def test_balanced_weights_equal_scikit_learn() -> None:
    labels = torch.tensor([0] * 7 + [1] * 2 + [3] * 1)
    split = Split(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), labels, classes=4)
    weights = balanced_weights(split, train_params(class_weights="balanced"))
    assert weights is not None
    present = np.array([0, 1, 3])
    expected = compute_class_weight("balanced", classes=present, y=labels.numpy())
    # Of four classes, although one of them has no image.
    np.testing.assert_allclose(weights[present], expected * 3 / 4)
    assert weights[2] == 0


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_with_balanced_weights_a_copied_image_counts_as_before(loss: str, precision: str) -> None:
    """Copies of all images of a class leave the steps of full batches as they are."""
    copies = torch.arange(len(TRAIN.labels)).repeat_interleave(1 + 4 * (TRAIN.labels == 3))
    larger = TRAIN._replace(images=TRAIN.images[copies], labels=TRAIN.labels[copies])
    params = train_params(
        batch_size="full", class_weights="balanced", loss=loss, precision=precision, epochs=5
    )
    states = [initial_state(params, TRAIN) for _ in range(2)]
    for state, split in zip(states, (TRAIN, larger), strict=True):
        for _ in range(params.epochs):
            train_epoch([state], split, VAL, params)
    weights = [state.model.state_dict() for state in states]
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)
    # Without them it counts more. (TRAIN itself has 15 images of each class.)
    unweighted = params.model_copy(update={"class_weights": "none"})
    state = initial_state(unweighted, larger)
    for _ in range(params.epochs):
        train_epoch([state], larger, VAL, unweighted)
    assert (state.model.filters - states[1].model.filters).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("common", "change"),
    [
        ({}, {"loss": "mse"}),
        ({}, {"label_smoothing": 0.1}),
        ({}, {"optimizer": "adam"}),
        ({"optimizer": "adam", "weight_decay": 0.1}, {"optimizer": "adamw"}),
        ({}, {"schedule": "one_cycle"}),
        ({}, {"momentum": 0.9}),
        ({"momentum": 0.9}, {"nesterov": True}),
        ({}, {"augment": "affine"}),
        ({"augment": "affine"}, {"augment": "affine_mirror"}),
    ],
)
def test_a_parameter_changes_the_weights_and_the_model_still_learns(
    common: dict[str, object], change: dict[str, object]
) -> None:
    params = {"epochs": 8, "lr": 0.05, **common}
    changed, unchanged = fit(train_params(**params | change)), fit(train_params(**params))
    # The initial weights and the batches are the same.
    difference = changed.model.filters - unchanged.model.filters
    assert difference.abs().max() > 1e-3
    assert changed.last.train_accuracy > 0.3


@pytest.mark.parametrize(("name", "width"), [("linear", 0), ("mlp", 24), ("mlp", 25), ("cnn", 3)])
def test_every_weight_of_a_model_is_trained_and_the_model_learns(name: str, width: int) -> None:
    params = train_params(model=name, width=width, epochs=4, lr=0.05, batch_size=16)
    state = fit(params)
    initial = dict(initial_state(params, TRAIN).model.named_parameters())
    for key, weight in state.model.named_parameters():
        assert (weight != initial[key]).any(), key
    assert state.last.train_accuracy > 0.3


def test_the_global_random_state_does_not_matter() -> None:
    first = fit(train_params())
    torch.rand(3)
    second = fit(train_params())
    assert torch.equal(predict(first.model, VAL.images), predict(second.model, VAL.images))


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.9},
        {"optimizer": "adam", "schedule": "one_cycle"},
        {"model": "cnn", "width": 2, "augment": "affine"},
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(changes: dict[str, object]) -> None:
    params = train_params(epochs=4, log_every=4, **changes)
    uninterrupted = fit(params)
    interrupted = initial_state(params, TRAIN)
    for _ in range(2):
        train_epoch([interrupted], TRAIN, VAL, params)
    resumed = initial_state(params, TRAIN)
    resumed.restore({name: array.copy() for name, array in interrupted.tensors().items()})
    for _ in range(2):
        train_epoch([resumed], TRAIN, VAL, params)
    assert repr(resumed.history) == repr(uninterrupted.history)  # NaN is not equal to itself
    assert resumed.last == uninterrupted.last
    for name, array in uninterrupted.tensors().items():
        np.testing.assert_array_equal(resumed.tensors()[name], array)


@pytest.mark.parametrize("score_every", ["epoch", 5])
def test_a_longer_training_continues_from_a_shorter_one(score_every: object) -> None:
    changes = {"log_every": 4, "score_every": score_every, "momentum": 0.9}
    shorter, longer = (fit(train_params(epochs=n, **changes)) for n in (2, 4))
    continued = initial_state(train_params(), TRAIN)
    # As read from a file, in which NaN is not the object that it was.
    continued.restore({name: array.copy() for name, array in shorter.tensors().items()})
    for _ in range(2):
        train_epoch([continued], TRAIN, VAL, train_params(epochs=4, **changes))
    assert repr(continued.full_history()) == repr(longer.full_history())
    assert repr(continued.last) == repr(longer.last)
    for name, array in longer.tensors().items():
        np.testing.assert_array_equal(continued.tensors()[name], array)


@pytest.mark.parametrize("model", ["linear", "mlp"])
@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
        {"optimizer": "adamw", "weight_decay": 0.01, "schedule": "one_cycle", "lr": 0.01},
        {"loss": "mse", "class_weights": "balanced"},
        {"label_smoothing": 0.1, "augment": "affine_mirror", "class_weights": "balanced"},
        {"batch_size": "full"},
    ],
)
def test_replicas_that_train_together_have_the_bits_that_they_have_alone(
    model: str, changes: dict[str, object]
) -> None:
    params = train_params(model=model, width=WIDTHS[model], epochs=3, **changes)
    few = Split(TRAIN.images[:147], TRAIN.labels[:147], CLASSES)  # classes of different sizes
    seeds = [params.model_copy(update={"seed": seed}) for seed in (5, 6, 7)]
    alone, together = ([initial_state(own, few) for own in seeds] for _ in range(2))
    for state in alone:
        for _ in range(params.epochs):
            train_epoch([state], few, VAL, params)
    train_epoch(together[1:], few, VAL, params)  # as after a kill between two of their states
    train_epoch(together[:1], few, VAL, params)
    for _ in range(params.epochs - 1):
        train_epoch(together, few, VAL, params)
    assert len({state.model.filters.sum().item() for state in together}) == 3
    for one, other in zip(alone, together, strict=True):
        assert repr(one.history) == repr(other.history)
        for name, array in one.tensors().items():
            np.testing.assert_array_equal(array, other.tensors()[name])


def test_without_a_history_the_weights_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    params = train_params(model="cnn", width=2, augment="affine")
    with_history = fit(params)
    without_history = initial_state(params, TRAIN, record_history=False)
    capsys.readouterr()
    for _ in range(params.epochs):
        train_epoch([without_history], TRAIN, VAL, params)
    assert capsys.readouterr().out == ""
    assert without_history.history == []
    assert without_history.last.train_loss == with_history.last.train_loss
    for key, tensor in with_history.model.state_dict().items():
        assert torch.equal(tensor, without_history.model.state_dict()[key])


def test_a_loss_that_is_not_finite_stops_the_training_with_advice() -> None:
    message = r"train.lr: with 1e\+38 the loss became \S+ at iteration 2, in epoch 1; lower it"
    with pytest.raises(InputError, match=message):
        fit(train_params(lr=1e38, weight_decay=1e38))


def test_weights_that_are_not_finite_after_the_last_step_are_refused() -> None:
    with pytest.raises(InputError, match=r"train.lr: with 1e\+38 the weights"):
        fit(train_params(lr=1e38, weight_decay=1e38, epochs=1, batch_size=150))


def test_history_rows_are_printed_if_they_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    fit(train_params(epochs=40, log_every=100))
    lines = [line for line in capsys.readouterr().out.splitlines() if "iteration" in line]
    assert [line.split(":")[0] for line in lines] == ["iteration 100"]
    fit(train_params(epochs=40, log_every=99))
    assert "iteration" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("epochs", "printed"),
    [
        (3, [1, 2, 3]),
        (100, list(range(1, 101))),
        (101, [*range(2, 101, 2), 101]),
        (250, [*range(3, 250, 3), 250]),
    ],
)
def test_at_most_a_hundred_epochs_are_printed_and_the_last_is_one_of_them(
    epochs: int, printed: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    fit(train_params(epochs=epochs, batch_size="full", log_every=99))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {n}/{epochs}" for n in printed]


def test_a_batch_size_that_leaves_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.batch_size: 151 is more than the 150"):
        fit(train_params(batch_size=151, drop_last=True))


@pytest.mark.parametrize("broken", ["model weight", "rows", "no rows"])
def test_a_state_that_no_training_can_go_on_from_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    """Otherwise every further run of this training would stop at it again."""
    path = tmp_path / "state.safetensors"
    state = initial_state(train_params(), TRAIN, record_history=False)
    train_epoch([state], TRAIN, VAL, train_params())
    tensors = state.tensors()
    write_tensors(path, tensors)
    whole = resume.load_state(path, state.layout())  # although a replica has no accuracies
    assert whole
    assert np.isnan(whole["rows"][:, 3:]).all()
    if broken == "no rows":
        tensors["rows"] = tensors["rows"][:0]
    else:
        tensors[broken] = np.full_like(tensors[broken], np.nan)
    write_tensors(path, tensors)
    assert resume.load_state(path, state.layout()) is None
    message = "state.safetensors: its numbers are not finite; training starts anew, and the file is"
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["state.broken"]
