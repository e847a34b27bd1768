"""Training, compared with the same mathematics in NumPy."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch

import samebits
from samebits import plain_float32, seeded_generator
from stages.learning import augmentation
from stages.learning.models import ARITHMETIC, MODELS, build_model, predict
from stages.learning.training import (
    Replicas,
    Split,
    balanced_weights,
    batches,
    initial_model,
)
from stages.params.train import Train
from stages.storage.errors import InputError
from stages.storage.tensors import Array
from tests.helpers.training import (
    CLASSES,
    SHAPE,
    TRAIN,
    VAL,
    WIDTHS,
    fit,
    train_epochs,
    train_params,
    weights,
)


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


@pytest.mark.parametrize("ops", [samebits, plain_float32])
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
def test_training_equals_numpy(
    ops: ModuleType, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ARITHMETIC, "cpu", ops)
    params = train_params(log_every=1, **changes)
    replicas = fit(params)
    weight, bias, losses = numpy_training(params)
    np.testing.assert_allclose(weights(replicas)["weight"], weight, atol=2e-6)
    np.testing.assert_allclose(weights(replicas)["bias"], bias, atol=2e-6)
    np.testing.assert_allclose(replicas.losses[0], losses, rtol=1e-5)
    last = replicas.scores[0][-1]
    for accuracy, split in ((last.train_accuracy, TRAIN), (last.val_accuracy, VAL)):
        logits = split.images.numpy().reshape(-1, 784) / 255 @ weight.T + bias
        assert accuracy == (logits.argmax(1) == split.labels.numpy()).mean()
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), VAL.labels)
    assert last.val_loss == pytest.approx(float(expected), rel=1e-5)


def test_the_curve_has_the_mean_loss_since_the_row_before() -> None:
    _, _, losses = numpy_training(train_params())  # of batches of 64, 64 and 22 images
    rows = list(fit(train_params(log_every=4)).curve(0))
    logged = [
        (iteration, epoch, loss)
        for iteration, epoch, split, loss, _ in rows
        if split == "train" and loss is not None
    ]
    assert [row[:2] for row in logged] == [(4, 2), (6, 2)]
    sizes = [64, 64, 22, 64, 64, 22]
    for (_, _, loss), part in zip(logged, (slice(0, 4), slice(4, 6)), strict=True):
        assert loss == pytest.approx(np.average(losses[part], weights=sizes[part]), rel=1e-5)


@pytest.mark.parametrize(
    ("score_every", "scored"),
    [("epoch", [3, 6, 9]), (1, list(range(1, 10))), (4, [4, 8])],
)
def test_scores_are_those_of_the_weights_then(score_every: object, scored: list[int]) -> None:
    replicas = fit(train_params(epochs=3, log_every=2, score_every=score_every))
    rows = list(replicas.curve(0))
    assert [row[0] for row in rows if row[2] == "val"] == sorted({*scored, 3, 6, 9})
    assert [row[0] for row in rows if row[2] == "train" and row[4] is not None] == scored
    assert [row[0] for row in rows if row[2] == "train" and row[3] is not None] == [2, 4, 6, 8, 9]
    for epochs in (1, 2):
        shorter = fit(train_params(epochs=epochs, score_every=score_every))
        assert repr(shorter.scores[0][-1]) in map(repr, replicas.scores[0])  # NaN is not itself
    state = replicas.state(0)
    replicas.finish()
    last = replicas.scores[0][-1]
    predicted = predict(replicas.model, TRAIN.images).argmax(1)
    assert last.train_accuracy == int((predicted == TRAIN.labels).sum()) / len(TRAIN.labels)
    assert state["scores"][-1, 2:].tolist() == list(last[2:])


def test_the_last_epoch_is_summed_over_its_images() -> None:
    _, _, losses = numpy_training(train_params())
    last = fit(train_params()).last_epoch(0)
    expected = np.average(losses[3:], weights=[64, 64, 22])
    assert last["train_loss"] == pytest.approx(expected, rel=1e-5)


def test_each_epoch_has_every_image_once_in_its_own_order() -> None:
    orders = [torch.cat(list(batches(150, train_params(), 0, epoch))).tolist() for epoch in (1, 2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(150))
    assert [len(batch) for batch in batches(150, train_params(), 0, 1)] == [64, 64, 22]
    assert [len(batch) for batch in batches(150, train_params(drop_last=True), 0, 1)] == [64, 64]


def test_the_full_batch_is_one_step_an_epoch_over_all_images() -> None:
    replicas = fit(train_params(batch_size="full"))
    assert replicas.iteration == replicas.epochs_done == 2
    [batch] = batches(150, train_params(batch_size="full"), 0, 1)
    assert sorted(batch.tolist()) == list(range(150))
    # The same as the number of the training images, and as any larger number.
    for batch_size in (150, 1_000):
        other = fit(train_params(batch_size=batch_size))
        torch.testing.assert_close(weights(other), weights(replicas), rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_samebits_and_torch_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"model": name, "width": WIDTHS[name], "epochs": 1, "lr": 0.01}
    ours = weights(fit(train_params(**changes)))
    monkeypatch.setitem(ARITHMETIC, "cpu", plain_float32)
    torch.testing.assert_close(ours, weights(fit(train_params(**changes))), rtol=1e-3, atol=1e-3)


def test_each_epoch_transforms_each_image_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.Tensor] = []

    def record_transform_params(
        images: torch.Tensor, transform_params: torch.Tensor, black_outside: bool
    ) -> torch.Tensor:
        assert black_outside
        calls.append(transform_params)
        return images

    monkeypatch.setattr(augmentation, "affine", record_transform_params)
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

    monkeypatch.setattr(augmentation, "mirror", record_mirrored)
    fit(train_params(augment="affine_mirror", epochs=2, batch_size="full"))
    first, second = calls
    assert 0.3 < first.double().mean() < 0.7
    assert 0.3 < (first == second).double().mean() < 0.7
    calls.clear()
    fit(train_params(augment="affine", epochs=2))
    assert calls == []


def test_balanced_weights_make_all_classes_count_the_same() -> None:
    labels = torch.tensor([0] * 7 + [1] * 2 + [3] * 1)
    split = Split(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), labels, classes=4)
    weights = balanced_weights(split, train_params(class_weights="balanced"))
    assert weights is not None
    # Images / (classes * images of the class), as scikit-learn's class_weight="balanced".
    np.testing.assert_allclose(weights, [10 / 28, 10 / 8, 0, 10 / 4])


@pytest.mark.parametrize("ops", [samebits, plain_float32])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_with_balanced_weights_a_copied_image_counts_as_before(
    loss: str, ops: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of all images of a class leave the steps of full batches as they are."""
    monkeypatch.setitem(ARITHMETIC, "cpu", ops)
    copies = torch.arange(len(TRAIN.labels)).repeat_interleave(1 + 4 * (TRAIN.labels == 3))
    larger = TRAIN._replace(images=TRAIN.images[copies], labels=TRAIN.labels[copies])
    params = train_params(batch_size="full", class_weights="balanced", loss=loss, epochs=5)
    balanced = [fit(params, split) for split in (TRAIN, larger)]
    torch.testing.assert_close(*map(weights, balanced), rtol=1e-4, atol=1e-6)
    # Without them it counts more. (TRAIN itself has 15 images of each class.)
    unweighted = fit(params.model_copy(update={"class_weights": "none"}), larger)
    difference = weights(unweighted)["weight"] - weights(balanced[1])["weight"]
    assert difference.abs().max() > 1e-4


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
    difference = weights(changed)["weight"] - weights(unchanged)["weight"]
    assert difference.abs().max() > 1e-3
    assert changed.scores[0][-1].train_accuracy > 0.3


@pytest.mark.parametrize(("name", "width"), [("linear", 0), ("mlp", 24), ("mlp", 25), ("cnn", 3)])
def test_every_weight_of_a_model_is_trained_and_the_model_learns(name: str, width: int) -> None:
    params = train_params(model=name, width=width, epochs=4, lr=0.05, batch_size=16)
    replicas = fit(params)
    initial = dict(initial_model(params.seed, TRAIN, params).named_parameters())
    for key, weight in replicas.model.named_parameters():
        assert (weight != initial[key]).any(), key
    assert replicas.scores[0][-1].train_accuracy > 0.3


def test_the_global_random_state_does_not_matter() -> None:
    first = fit(train_params())
    torch.rand(3)
    second = fit(train_params())
    assert torch.equal(predict(first.model, VAL.images), predict(second.model, VAL.images))


def assert_same(one: Replicas, position: int, other: Replicas, other_position: int) -> None:
    """Compare the states of two replicas bit for bit."""
    states = one.state(position), other.state(other_position)
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        assert array.tobytes() == states[1][name].tobytes(), name


def restored(replicas: Replicas, params: Train) -> Replicas:
    """Return replicas that go on from the states of others, as read from files."""
    new = Replicas(replicas.numbers, replicas.seeds, TRAIN, VAL, params)
    positions = range(len(replicas.seeds))
    new.restore([{k: v.copy() for k, v in replicas.state(i).items()} for i in positions])
    return new


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.9},
        {"optimizer": "adam", "schedule": "one_cycle"},
        {"model": "cnn", "width": 2, "augment": "affine"},
    ],
)
@pytest.mark.parametrize("seeds", [[0], [0, 5]])
def test_a_resumed_training_equals_an_uninterrupted_one(
    changes: dict[str, object], seeds: list[int]
) -> None:
    params = train_params(epochs=4, log_every=4, **changes)
    seeds = seeds[:1] if params.model == "cnn" else seeds
    uninterrupted = Replicas(list(range(len(seeds))), seeds, TRAIN, VAL, params)
    train_epochs(uninterrupted, 4)
    interrupted = Replicas(list(range(len(seeds))), seeds, TRAIN, VAL, params)
    train_epochs(interrupted, 2)
    resumed = restored(interrupted, params)
    train_epochs(resumed, 2)
    for position in range(len(seeds)):
        assert_same(resumed, position, uninterrupted, position)
        assert list(resumed.curve(position)) == list(uninterrupted.curve(position))


@pytest.mark.parametrize("score_every", ["epoch", 5])
def test_a_longer_training_continues_from_a_shorter_one(score_every: object) -> None:
    changes = {"log_every": 4, "score_every": score_every, "momentum": 0.9}
    shorter, longer = (fit(train_params(epochs=n, **changes)) for n in (2, 4))
    continued = restored(shorter, train_params(epochs=4, **changes))
    train_epochs(continued, 2)
    assert_same(continued, 0, longer, 0)
    assert list(continued.curve(0)) == list(longer.curve(0))
    assert repr(continued.last_epoch(0)) == repr(longer.last_epoch(0))  # NaN is not itself


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
    together = Replicas([0, 1, 2], [5, 6, 7], few, VAL, params)
    train_epochs(together, 3)
    assert len({losses[-1] for losses in together.losses}) == 3
    for position, seed in enumerate(together.seeds):
        alone = Replicas([position], [seed], few, VAL, params)
        train_epochs(alone, 3)
        assert_same(together, position, alone, 0)


def test_only_the_first_replica_is_scored_on_train() -> None:
    params = train_params(model="cnn", width=2, augment="affine", epochs=1)
    first, other = (Replicas([number], [0], TRAIN, VAL, params) for number in (0, 3))
    for replicas in (first, other):
        train_epochs(replicas, 1)
    torch.testing.assert_close(weights(first), weights(other), rtol=0, atol=0)
    assert first.losses == other.losses
    assert first.scores[0][0][2:] == other.scores[0][0][2:]
    assert math.isnan(other.scores[0][0].train_accuracy)
    assert first.scores[0][0].train_accuracy > 0


def test_a_loss_that_is_not_finite_stops_the_training_with_advice() -> None:
    message = r"train.lr: with 1e\+38 the loss became \S+ at iteration 2, in epoch 1; lower it"
    with pytest.raises(InputError, match=message):
        fit(train_params(lr=1e38, weight_decay=1e38))


def test_weights_that_are_not_finite_after_the_last_step_are_refused() -> None:
    with pytest.raises(InputError, match=r"train.lr: with 1e\+38 the weights"):
        fit(train_params(lr=1e38, weight_decay=1e38, epochs=1, batch_size=150))


def test_a_batch_size_that_leaves_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match=r"train.batch_size: 151 is more than the 150"):
        fit(train_params(batch_size=151, drop_last=True))
