"""The training: replicas of a model take the same steps, each with a seed of its own.

All randomness comes from `seeded_generator`: the initial weights, the order of the batches in an
epoch and its augmentation each have a generator of their own. So the state after an epoch needs
no state of a random generator.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor

from samebits import SGD, Adam, one_cycle, seeded_generator, stack_weights
from stages.learning.augmentation import make_augmentation
from stages.learning.models import ARITHMETIC, STACKABLE, Model, build_model, predict
from stages.params.train import Train
from stages.storage.errors import InputError
from stages.storage.tensors import Array, Layout


class Split(NamedTuple):
    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    classes: int  # how many there are
    black_outside: bool = True  # whether the area outside an image is black


class Scores(NamedTuple):
    """How good a replica is after an iteration."""

    iteration: int
    train_accuracy: float  # of the first replica if it was due, else NaN: it takes time
    val_loss: float
    val_accuracy: float


class Replicas:
    """Replicas of a model that take every step together, and what was measured of them.

    With more than one, the weights of `model` have another dimension before their own, for the
    replicas, and a step is one batch of all of them. Each replica gets the bits that it gets alone.

    numbers: the numbers of the replicas in the training; 0 is the model itself.
    """

    def __init__(
        self, numbers: list[int], seeds: list[int], train: Split, val: Split, params: Train
    ) -> None:
        self.numbers, self.seeds = numbers, seeds
        self.train, self.val, self.params = train, val, params
        self.sizes = batch_sizes(len(train.labels), params)
        self.class_weights = balanced_weights(train, params)
        # Each has the weights of one replica, in the memory of those of `model`.
        self.models = [initial_model(seed, train, params) for seed in seeds]
        self.model = self.models[0]
        if len(seeds) > 1:
            self.model = initial_model(seeds[0], train, params)
            stack_weights(self.model, self.models)
        self.optimizer = make_optimizer(list(self.model.parameters()), params)
        self.losses: list[list[float]] = [[] for _ in seeds]  # of each batch
        self.scores: list[list[Scores]] = [[] for _ in seeds]

    @property
    def iteration(self) -> int:
        return len(self.losses[0])

    @property
    def epochs_done(self) -> int:
        return self.iteration // len(self.sizes)

    def epoch_of(self, iteration: int) -> int:
        return -(-iteration // len(self.sizes))

    def train_epoch(self) -> Iterator[None]:
        """Train for an epoch, and yield after each step.

        Raises `InputError` if a loss or, after the epoch, a weight is not finite.
        """
        for images, labels in self.stacked_batches(self.epochs_done + 1):
            self.model.train()  # scoring leaves it in evaluation mode
            logits = self.model(images)
            losses = self.loss(logits, labels)
            # Each replica's loss depends on its own weights alone, so that the gradient of the sum
            # is that of each. It is returned, and not kept in the weights as `backward` keeps it.
            gradients = torch.autograd.grad(losses.sum(), self.optimizer.weights)
            self.optimizer.step(gradients, self.learning_rate())
            self.finish_step(losses)
            yield
        for weight in self.model.parameters():
            if not weight.isfinite().all():
                raise InputError(
                    f"params.yaml: train.lr: with {self.params.lr} the weights are no longer "
                    f"finite after epoch {self.epochs_done}; lower it"
                )

    def stacked_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch: images uint8 (N, C, H, W), labels int64 (N,).

        With several replicas both have another dimension before these.
        """
        each = [augmented_batches(self.train, seed, epoch, self.params) for seed in self.seeds]
        for of_replicas in zip(*each, strict=True):
            if len(of_replicas) == 1:
                yield of_replicas[0]
            else:
                images, labels = zip(*of_replicas, strict=True)
                yield torch.stack(images), torch.stack(labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of logits (N, K) and labels (N,), or (R,) of R replicas at once."""
        function = getattr(ARITHMETIC[self.params.device], self.params.loss)
        weights = None if self.class_weights is None else self.class_weights[labels]
        result: Tensor = function(logits, labels, self.params.label_smoothing, weights)
        return result

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        if self.params.schedule == "constant":
            return self.params.lr
        return one_cycle(self.iteration + 1, self.params.epochs * len(self.sizes), self.params.lr)

    def finish_step(self, losses: Tensor) -> None:
        """Note the losses of a step, which counts it, and the scores after it if they are due."""
        for of_replica, loss in zip(self.losses, losses.reshape(-1).tolist(), strict=True):
            of_replica.append(loss)
            if not math.isfinite(loss):
                epoch = self.epoch_of(self.iteration)
                raise InputError(
                    f"params.yaml: train.lr: with {self.params.lr} the loss became {loss} at "
                    f"iteration {self.iteration}, in epoch {epoch}; lower it"
                )
        ends_epoch = self.iteration % len(self.sizes) == 0
        every = self.params.score_every
        is_due = ends_epoch if every == "epoch" else self.iteration % every == 0
        if is_due or ends_epoch:
            for number, model, scores in zip(self.numbers, self.models, self.scores, strict=True):
                # Of the first replica alone: it takes time.
                train = self.train_accuracy(model) if is_due and number == 0 else math.nan
                scores.append(Scores(self.iteration, train, *self.val_scores(model)))

    @torch.inference_mode()
    def val_scores(self, model: Model) -> tuple[float, float]:
        """Return the loss and the accuracy on val, as of one batch."""
        logits = predict(model, self.val.images)
        val_loss = float(self.loss(logits, self.val.labels))
        return val_loss, accuracy(logits, self.val.labels)

    def train_accuracy(self, model: Model) -> float:
        return accuracy(predict(model, self.train.images), self.train.labels)

    def finish(self) -> None:
        """Score the first replica on train after the last epoch, even if that was not due.

        A longer training goes on from a state without this.
        """
        last = self.scores[0][-1]
        if not self.numbers[0] and math.isnan(last.train_accuracy):
            self.scores[0][-1] = last._replace(train_accuracy=self.train_accuracy(self.models[0]))

    def mean_loss(self, position: int, start: int, end: int) -> float:
        """Return the mean loss of a replica over the images of batches `start` to `end` - 1."""
        sizes = [self.sizes[number % len(self.sizes)] for number in range(start, end)]
        losses = zip(self.losses[position][start:end], sizes, strict=True)
        return math.fsum(loss * size for loss, size in losses) / sum(sizes)

    def curve(self, position: int) -> Iterator[tuple[int, int, str, float | None, float | None]]:
        """Yield iteration, epoch, split, loss and accuracy, or None for what was not measured then.

        The loss on train is the mean since the last row that has it.
        """
        scores = {row.iteration: row for row in self.scores[position]}
        start = 0
        for iteration in range(1, self.iteration + 1):
            epoch, row = self.epoch_of(iteration), scores.get(iteration)
            loss = accuracy = None
            if iteration % self.params.log_every == 0 or iteration == self.iteration:
                loss, start = self.mean_loss(position, start, iteration), iteration
            if row and not math.isnan(row.train_accuracy):
                accuracy = row.train_accuracy
            if loss is not None or accuracy is not None:
                yield iteration, epoch, "train", loss, accuracy
            if row:
                yield iteration, epoch, "val", row.val_loss, row.val_accuracy

    def last_epoch(self, position: int) -> dict[str, float]:
        """Return the mean loss of a replica in its last epoch, and the scores after it."""
        loss = self.mean_loss(position, self.iteration - len(self.sizes), self.iteration)
        return {"train_loss": loss, **self.scores[position][-1]._asdict()}

    def state(self, position: int) -> dict[str, Array]:
        """Return the state of a replica after an epoch, from which `restore` goes on."""
        return {
            **{name: tensor.cpu().numpy() for name, tensor in self._tensors(position).items()},
            "losses": np.array(self.losses[position], dtype=np.float64),
            "scores": np.array(self.scores[position], dtype=np.float64).reshape(-1, 4),
        }

    def layout(self) -> Layout:
        """Return the dtypes and shapes of `state` after any epoch."""
        return {
            **{name: ("F32", tuple(tensor.shape)) for name, tensor in self._tensors(0).items()},
            "losses": ("F64", (None,)),
            "scores": ("F64", (None, 4)),
        }

    def restore(self, states: list[dict[str, Array]]) -> None:
        """Take the states of all replicas, which have to be of the same epoch."""
        for position, state in enumerate(states):
            for name, tensor in self._tensors(position).items():
                tensor.copy_(torch.from_numpy(state[name]))
            self.losses[position] = state["losses"].tolist()
            rows = state["scores"].tolist()
            self.scores[position] = [Scores(int(row[0]), *row[1:]) for row in rows]
        self.optimizer.steps = self.iteration

    def _tensors(self, position: int) -> dict[str, Tensor]:
        """Return the tensors of a replica: its model's, and its part of the optimizer's."""
        tensors = {f"model {k}": v for k, v in self.models[position].state_dict().items()}
        for number, moments in enumerate(self.optimizer.moments):
            for order, moment in enumerate(moments, 1):
                part = moment if len(self.seeds) == 1 else moment[position]
                tensors[f"moment {order} of weight {number}"] = part
        return tensors


def initial_model(seed: int, train: Split, params: Train) -> Model:
    """Return an untrained model of images and classes like those of `train`."""
    channels, height, width = train.images.shape[1:]
    generator = seeded_generator(seed, "weights")
    shape = channels, height, width
    ops = ARITHMETIC[params.device]
    model = build_model(params.model, params.width, shape, train.classes, generator, ops)
    return model.to(params.device)


def stacks(params: Train) -> bool:
    """Return whether replicas can be trained as one batch, which takes the time of one model."""
    # On a GPU their bits would depend on their number.
    return params.device == "cpu" and params.model in STACKABLE


def make_optimizer(weights: list[Tensor], params: Train) -> SGD | Adam:
    """Return the optimizer of these weights that the parameters name."""
    ops: Any = ARITHMETIC[params.device]
    optimizer: SGD | Adam
    match params.optimizer:
        case "sgd":
            optimizer = ops.SGD(weights, params.momentum, params.nesterov, params.weight_decay)
        case "adam" | "adamw":
            decoupled = params.optimizer == "adamw"
            optimizer = ops.Adam(weights, params.weight_decay, decoupled)
        case _:
            assert_never(params.optimizer)  # mypy finds a name that is missing here
    return optimizer


def augmented_batches(
    train: Split, seed: int, epoch: int, params: Train
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: images uint8 (N, C, H, W), labels int64 (N,)."""
    n, generator = len(train.labels), seeded_generator(seed, f"augmentation of epoch {epoch}")
    augment = make_augmentation(params.augment, n, train.black_outside, generator, params.device)
    for batch in batches(n, params, seed, epoch):
        # train.images[batch] is the same, but takes ten times as long.
        images, labels = train.images.index_select(0, batch), train.labels.index_select(0, batch)
        yield augment(images, batch), labels


def batches(n: int, params: Train, seed: int, epoch: int) -> Iterator[Tensor]:
    """Yield for each batch the indices of its images, int64; each epoch has its own order."""
    generator = seeded_generator(seed, f"order of epoch {epoch}")
    sizes = batch_sizes(n, params)
    order = torch.randperm(n, generator=generator)[: sum(sizes)]
    yield from order.to(params.device).split(sizes)


def batch_sizes(n: int, params: Train) -> list[int]:
    """Return the number of images in each batch of an epoch of n images.

    Raises `InputError` if `params.drop_last` leaves no batch.
    """
    size = n if params.batch_size == "full" else params.batch_size
    whole, rest = divmod(n, size)
    if params.drop_last and not whole:
        raise InputError(
            f"params.yaml: train.batch_size: {size} is more than the {n} training images, and "
            "drop_last skips the smaller batch that they make; lower it, or set drop_last to false"
        )
    return [size] * whole + ([rest] if rest and not params.drop_last else [])


def balanced_weights(train: Split, params: Train) -> Tensor | None:
    """Return a weight for each class, float64 (K,), by which all classes count the same.

    It is N / (K * count), as scikit-learn's `class_weight="balanced"`, so that the mean weight of
    an image is 1. A class without images has the weight 0. None if `params` ask for no weights.
    """
    if params.class_weights == "none":
        return None
    counts = train.labels.bincount(minlength=train.classes).double()
    weights = len(train.labels) / (train.classes * counts)
    return weights.where(counts > 0, 0.0)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the fraction of the images that are classified correctly."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)
