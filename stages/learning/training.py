"""The training itself: its state, an epoch, and what is recorded of it.

Randomness comes from `seeded_generator` alone: the initial weights, the order of the batches in
an epoch and its augmentation each have a generator of their own.
"""

import hashlib
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stages.learning.augmentation import NUM_TRANSFORM_PARAMS, affine, mirror
from stages.learning.models import PRECISIONS, Model, build_model, predict
from samebits.optimizers import NUM_MOMENTS, optimizer_step
from stages.params.train import Train
from stages.storage.errors import InputError
from stages.storage.tensors import Array, Layout

NOT_SCORED = (math.nan, math.nan, math.nan)  # instead of what `scores` returns


class Split(NamedTuple):
    images: Tensor  # uint8 (N, C, H, W)
    labels: Tensor  # int64 (N,)
    classes: int  # how many there are
    black_outside: bool = True  # what lies outside an image is black


class BatchLoss(NamedTuple):
    mean: float  # over the images of the batch
    size: int  # how many images


class HistoryRow(NamedTuple):
    """What is known after an iteration; what was not computed is NaN."""

    iteration: int
    epoch: int
    train_loss: float
    train_accuracy: float
    val_accuracy: float
    val_loss: float


class EpochRow(NamedTuple):
    """An epoch as a whole; every replica has one of each, and they show what the seed decides."""

    iteration: int  # the last of the epoch
    epoch: int
    train_loss: float  # the mean over its batches
    val_accuracy: float  # after it
    val_loss: float


@dataclass
class TrainingState:
    """Everything that the next epoch depends on besides the data and the parameters.

    It holds no state of a random generator: each epoch has generators of its own.
    """

    seed: int
    model: Model
    moments: list[list[Tensor]]  # the optimizer's, a list for each weight
    record_history: bool
    last: HistoryRow  # the last epoch as a whole
    history: list[HistoryRow] = field(default_factory=list)  # what is due, however long it trains
    unlogged: list[BatchLoss] = field(default_factory=list)  # since the last loss of the history
    epochs: list[EpochRow] = field(default_factory=list)

    def full_history(self) -> list[HistoryRow]:
        """Return the history with a whole row at its end, also where none was due.

        The model has to be scored, as it is after the last epoch.
        """
        rows = [row for row in self.history if row.iteration < self.last.iteration]
        loss = mean_loss(self.unlogged) if self.unlogged else self.history[-1].train_loss
        return [*rows, self.last._replace(train_loss=loss)]

    def tensors(self) -> dict[str, Array]:
        """Return the state as arrays, from which `restore` brings it back."""
        return {
            **{name: tensor.cpu().numpy() for name, tensor in self._float32().items()},
            "rows": np.array([*self.history, self.last], dtype=np.float64),
            "unlogged": np.array(self.unlogged, dtype=np.float64).reshape(-1, 2),
            "epochs": np.array(self.epochs, dtype=np.float64).reshape(-1, len(EpochRow._fields)),
        }

    def layout(self) -> Layout:
        """Return the dtypes and shapes of `tensors` after any epoch."""
        fixed = {name: ("F32", tuple(tensor.shape)) for name, tensor in self._float32().items()}
        return {
            **fixed,
            "rows": ("F64", (None, len(HistoryRow._fields))),
            "unlogged": ("F64", (None, 2)),
            "epochs": ("F64", (None, len(EpochRow._fields))),
        }

    def restore(self, tensors: dict[str, Array]) -> None:
        """Set the state to what `tensors` returned."""
        for name, tensor in self._float32().items():
            tensor.copy_(torch.from_numpy(tensors[name]))
        *self.history, self.last = [
            HistoryRow(int(iteration), int(epoch), *figures)
            for iteration, epoch, *figures in tensors["rows"].tolist()
        ]
        self.unlogged = [BatchLoss(mean, int(size)) for mean, size in tensors["unlogged"].tolist()]
        self.epochs = [
            EpochRow(int(iteration), int(epoch), *figures)
            for iteration, epoch, *figures in tensors["epochs"].tolist()
        ]

    def _float32(self) -> dict[str, Tensor]:
        """Return the tensors of the model, which `state_dict` detaches, and of the optimizer."""
        return {
            **{f"model {name}": tensor for name, tensor in self.model.state_dict().items()},
            **{
                f"moment {number} of weight {position}": moment
                for position, moments in enumerate(self.moments)
                for number, moment in enumerate(moments)
            },
        }


def initial_state(params: Train, train: Split, record_history: bool = True) -> TrainingState:
    """Return the state before the first epoch, for images and classes such as those of `train`."""
    generator = seeded_generator(params.seed, "weights")
    channels, height, width = train.images.shape[1:]
    model = build_model(
        params.model,
        params.width,
        (channels, height, width),
        train.classes,
        generator,
        params.precision,
    ).to(params.device)
    moments = [
        [torch.zeros_like(weight) for _ in range(NUM_MOMENTS[params.optimizer])]
        for weight in model.parameters()
    ]
    last = HistoryRow(0, 0, math.nan, *NOT_SCORED)
    return TrainingState(params.seed, model, moments, record_history, last)


def train_epoch(
    states: list[TrainingState],
    train: Split,
    val: Split,
    params: Train,
    bar: "tqdm[NoReturn] | None" = None,
) -> None:
    """Take replicas, all after the same epoch, one epoch further, each with its own seed.

    bar: is updated with each step. Those with a history also print their progress. Raises
    `InputError` as `training_steps` does, and when weights are no longer finite.
    """
    epoch = states[0].last.epoch + 1
    iteration = states[0].last.iteration
    losses: list[list[BatchLoss]] = [[] for _ in states]
    for batch_losses in training_steps(states, train, params):
        iteration += 1
        if bar is not None:
            bar.set_postfix_str(f"loss {batch_losses[0].mean:.4g}", refresh=False)
            bar.update()
        for state, state_losses, batch in zip(states, losses, batch_losses, strict=True):
            state_losses.append(batch)
            if state.record_history:
                state.unlogged.append(batch)
                ends_epoch = len(state_losses) == num_batches(len(train.labels), params)
                record(state, iteration, epoch, ends_epoch, train, val, params)
    for state, state_losses in zip(states, losses, strict=True):
        if not all(bool(weight.isfinite().all()) for weight in state.model.parameters()):
            raise InputError(
                f"params.yaml: train.lr: with {params.lr} the weights are no longer finite after "
                f"epoch {epoch}; lower it"
            )
        last_scores = NOT_SCORED
        if state.history and state.history[-1].iteration == iteration:
            last_scores = state.history[-1][3:]
        if state.record_history and epoch == params.epochs and math.isnan(last_scores[0]):
            last_scores = scores(state.model, train, val, params)
        state.last = HistoryRow(iteration, epoch, mean_loss(state_losses), *last_scores)
        _, *on_val = last_scores
        if math.isnan(on_val[0]):
            on_val = list(val_scores(state.model, train, val, params))
        state.epochs.append(EpochRow(iteration, epoch, state.last.train_loss, *on_val))
        # Print at most a hundred lines, the last epoch among them.
        is_printed = epoch == params.epochs or epoch % -(-params.epochs // 100) == 0
        if state.record_history and is_printed:
            print_line(f"epoch {epoch}/{params.epochs}: {format_row(state.last)}")


def record(
    state: TrainingState,
    iteration: int,
    epoch: int,
    ends_epoch: bool,
    train: Split,
    val: Split,
    params: Train,
) -> None:
    """Append what is due after an iteration to the history: the loss, the scores, or both."""
    is_logged = iteration % params.log_every == 0
    period = params.score_every
    is_scored = ends_epoch if period == "epoch" else iteration % period == 0
    if not is_logged and not is_scored:
        return
    row = HistoryRow(
        iteration,
        epoch,
        mean_loss(state.unlogged) if is_logged else math.nan,
        *(scores(state.model, train, val, params) if is_scored else NOT_SCORED),
    )
    state.model.train()
    state.history.append(row)
    if is_logged:
        state.unlogged = []
        if params.log_every >= 100:  # more lines would only scroll by
            print_line(f"iteration {iteration}: {format_row(row)}")


def training_steps(
    states: list[TrainingState], train: Split, params: Train
) -> Iterator[list[BatchLoss]]:
    """Take the steps of the next epoch, and yield the losses of the batches, one for each replica.

    Raises `InputError` if there is no batch to train on, or when a loss is no longer finite.
    """
    iteration, epoch = states[0].last.iteration, states[0].last.epoch + 1
    model, moments = states[0].model, states[0].moments
    if len(states) > 1:
        model = initial_state(params, train).model
        moments = stack_weights(states, model)
    weights = list(model.parameters())
    inputs = zip(
        *(augmented_batches(train, state.seed, epoch, params) for state in states), strict=True
    )
    steps = num_batches(len(train.labels), params)
    class_weights = balanced_weights(train, params)
    model.train()
    for batches_of_replicas in inputs:
        iteration += 1
        if len(states) == 1:
            [(images, labels)] = batches_of_replicas
        else:
            images, labels = map(torch.stack, zip(*batches_of_replicas, strict=True))
        losses = loss(model(images), labels, class_weights, params)
        values = losses.reshape(-1).tolist()
        for value in values:
            if not math.isfinite(value):
                raise InputError(
                    f"params.yaml: train.lr: with {params.lr} the loss became {value} at "
                    f"iteration {iteration}, in epoch {epoch}; lower it"
                )
        # Of a sum: with a gradient of the losses as an argument, torch would import sympy.
        gradients = torch.autograd.grad(losses.sum(), weights)
        optimizer_step(weights, gradients, moments, iteration, params.epochs * steps, params)
        yield [BatchLoss(value, labels.shape[-1]) for value in values]


def stack_weights(states: list[TrainingState], model: Model) -> list[list[Tensor]]:
    """Give `model` the weights of all replicas, and return their moments.

    Each has another dimension before its own, for the replicas. The states then share its memory.
    """
    for stacked, *weights in zip(
        model.parameters(), *(state.model.parameters() for state in states), strict=True
    ):
        stacked.data = torch.stack([weight.data for weight in weights])
        for weight, part in zip(weights, stacked.data, strict=True):
            weight.data = part
    moments = []
    for position, names in enumerate(states[0].moments):
        stacked_moments = [
            torch.stack([state.moments[position][number] for state in states])
            for number in range(len(names))
        ]
        for state, *parts in zip(states, *stacked_moments, strict=True):
            state.moments[position] = parts
        moments.append(stacked_moments)
    return moments


def augmented_batches(
    train: Split, seed: int, epoch: int, params: Train
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of an epoch: images uint8 (N, C, H, W), labels (N,).

    Raises `InputError` as `batches` does.
    """
    if params.augment != "none":
        generator = seeded_generator(seed, f"augmentation of epoch {epoch}")
        shape = len(train.labels), NUM_TRANSFORM_PARAMS
        transform_params = (torch.rand(shape, generator=generator) * 2 - 1).to(params.device)
    if params.augment == "affine_mirror":
        is_mirrored = (torch.rand(len(train.labels), generator=generator) < 0.5).to(params.device)
    for batch in batches(len(train.labels), params, seed, epoch):
        # train.images[batch] is the same, but takes ten times as long.
        images, labels = train.images.index_select(0, batch), train.labels.index_select(0, batch)
        if params.augment == "affine_mirror":
            images = mirror(images, is_mirrored[batch])
        if params.augment != "none":
            images = affine(images, transform_params[batch], train.black_outside)
        yield images, labels


def loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None, params: Train) -> Tensor:
    """Return the mean loss of logits (N, K) and labels (N,), or (R,) of R replicas at once.

    class_weights: as `balanced_weights` returns them.
    """
    function = getattr(PRECISIONS[params.precision], params.loss)
    weights = None if class_weights is None else class_weights[labels]
    result: Tensor = function(logits, labels, params.label_smoothing, weights)
    return result


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


def print_line(text: str) -> None:
    """Print a line at once, above the progress bar if there is one."""
    tqdm.write(text)
    sys.stdout.flush()


def format_row(row: HistoryRow) -> str:
    text = f"loss {row.train_loss:.5g}"
    if math.isnan(row.val_accuracy):
        return text
    return f"{text}, accuracy train {row.train_accuracy:.4f}, val {row.val_accuracy:.4f}"


def num_batches(n: int, params: Train) -> int:
    """Return the number of batches of an epoch of n images."""
    if params.batch_size == "full":
        return 1
    return n // params.batch_size if params.drop_last else -(-n // params.batch_size)


def batches(n: int, params: Train, seed: int, epoch: int) -> Iterator[Tensor]:
    """Yield for each batch the indices of its images, int64; each epoch has its own order.

    Raises `InputError` if `params.drop_last` leaves no batch.
    """
    size = n if params.batch_size == "full" else params.batch_size
    if params.drop_last and size > n:
        raise InputError(
            f"params.yaml: train.batch_size: {size} is more than the {n} training images, and "
            "drop_last skips the smaller batch that they make; lower it, or set drop_last to false"
        )
    generator = seeded_generator(seed, f"order of epoch {epoch}")
    for batch in torch.randperm(n, generator=generator).to(params.device).split(size):
        if len(batch) == size or not params.drop_last:
            yield batch


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Return a random generator that depends on the seed and the purpose, and on nothing else."""
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))


def mean_loss(losses: list[BatchLoss]) -> float:
    """Return the mean over all images of the batches."""
    return math.fsum(batch.mean * batch.size for batch in losses) / sum(b.size for b in losses)


@torch.inference_mode()
def scores(model: Model, train: Split, val: Split, params: Train) -> tuple[float, float, float]:
    """Return the accuracies on train and val, and the loss on val, as of one batch."""
    train_accuracy = accuracy(predict(model, train.images), train.labels)
    return train_accuracy, *val_scores(model, train, val, params)


@torch.inference_mode()
def val_scores(model: Model, train: Split, val: Split, params: Train) -> tuple[float, float]:
    """Return the accuracy and the loss on val, as of one batch; `train` balances the classes."""
    logits = predict(model, val.images)
    val_loss = float(loss(logits, val.labels, balanced_weights(train, params), params))
    return accuracy(logits, val.labels), val_loss


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of the images that are classified correctly."""
    return int((logits.argmax(1) == labels).sum()) / len(labels)
