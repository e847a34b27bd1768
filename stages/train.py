"""Train a model by stochastic gradient descent.

Reads `data/prepared/{train,val}.safetensors` and section `train` of `params.yaml`. Writes
`data/checkpoints/model.safetensors`, the weights; `metrics/history.csv`, every `log_every`
iterations and at the end the mean loss since the row before and the accuracy on train and
val; `metrics/train.json`, what the last epoch came to.

    python -m stages.train
"""

import csv
import hashlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.sgd import sgd  # the function: a class of torch.optim imports torch._dynamo
from tqdm import tqdm

from stages.errors import InputError, run
from stages.files import write, write_json
from stages.models import MODELS, predict, scaled, write_checkpoint
from stages.params import load
from stages.params.train import Train
from stages.tensors import PREPARED, read_split

PREPARED_DATA = Path("data/prepared")


class Split(NamedTuple):
    images: Tensor  # uint8 (N, 1, 28, 28)
    labels: Tensor  # int64 (N,)


class Row(NamedTuple):
    """A row of `metrics/history.csv`."""

    iteration: int
    epoch: int
    train_loss: float
    train_accuracy: float
    val_accuracy: float


def fit(train: Split, val: Split, params: Train) -> tuple[nn.Module, list[Row], dict[str, float]]:
    """Return the trained model, its history, and what the last epoch came to.

    Raises `InputError` if no batch is left to train on, or when the loss is no longer finite.
    """
    if params.drop_last and params.batch_size > len(train.labels):
        raise InputError(
            f"params.yaml: train.batch_size: {params.batch_size} is more than the "
            f"{len(train.labels)} training images, and drop_last skips the smaller batch they make"
        )
    model = MODELS[params.model](generator(params.seed, "weights"))
    weights: list[Tensor] = list(model.parameters())
    momenta: list[Tensor | None] = [None] * len(weights)
    iteration = 0
    history: list[Row] = []
    row_losses: list[tuple[float, int]] = []  # since the last row: the batch's mean, its size
    for epoch in range(1, params.epochs + 1):
        epoch_losses: list[tuple[float, int]] = []
        order = list(batches(len(train.labels), params, epoch))
        # disable=None: a progress bar on a terminal only
        for batch in tqdm(order, f"epoch {epoch}/{params.epochs}", leave=False, disable=None):
            loss = F.cross_entropy(model(scaled(train.images[batch])), train.labels[batch])
            gradients = torch.autograd.grad(loss, weights)
            iteration += 1
            if not math.isfinite(loss.item()):
                raise InputError(
                    f"params.yaml: train.lr: with {params.lr} the loss became {loss.item()} at "
                    f"iteration {iteration}, in epoch {epoch}; lower it"
                )
            with torch.no_grad():
                sgd(
                    weights,
                    list(gradients),
                    momenta,
                    lr=params.lr,
                    momentum=params.momentum,
                    weight_decay=params.weight_decay,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                    foreach=False,
                )
            epoch_losses.append((loss.item(), len(batch)))
            row_losses.append(epoch_losses[-1])
            last = epoch == params.epochs and batch is order[-1]
            if iteration % params.log_every == 0 or last:
                accuracies = accuracy(model, train), accuracy(model, val)
                history.append(Row(iteration, epoch, mean(row_losses), *accuracies))
                row_losses = []
        summary = {
            "train_loss": mean(epoch_losses),
            "train_accuracy": accuracy(model, train),
            "val_accuracy": accuracy(model, val),
        }
        if not all(bool(weight.isfinite().all()) for weight in weights):
            raise InputError(
                f"params.yaml: train.lr: with {params.lr} the weights are no longer finite after "
                f"epoch {epoch}; lower it"
            )
        print(
            f"epoch {epoch}/{params.epochs}: loss {summary['train_loss']:.4f}, "
            f"accuracy train {summary['train_accuracy']:.4f}, val {summary['val_accuracy']:.4f}",
            flush=True,
        )
    return model, history, summary


def batches(n: int, params: Train, epoch: int) -> Iterator[Tensor]:
    """Yield the places of the images of each batch, int64; each epoch has an order of its own."""
    order = torch.randperm(n, generator=generator(params.seed, f"order of epoch {epoch}"))
    for batch in order.split(params.batch_size):
        if len(batch) == params.batch_size or not params.drop_last:
            yield batch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return random numbers that depend on the seed and on what they are for, and on no others."""
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))


def mean(losses: list[tuple[float, int]]) -> float:
    """Return the mean over examples of batches given as (mean, size): a small one counts less."""
    return math.fsum(loss * size for loss, size in losses) / sum(size for _, size in losses)


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of the images that the model gives their label."""
    correct = (predict(model, split.images).argmax(1) == split.labels).sum()
    return int(correct) / len(split.labels)


def read(name: str) -> Split:
    split = read_split(PREPARED_DATA / f"{name}.safetensors", PREPARED)
    return Split(torch.from_numpy(split["images"]), torch.from_numpy(split["labels"]).long())


def main() -> None:
    torch.set_num_threads(1)
    params = load(Train, "train")
    model, history, summary = fit(read("train"), read("val"), params)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(Row._fields)
    rows.writerows([*row[:2], *(round(figure, 6) for figure in row[2:])] for row in history)
    write_checkpoint(Path("data/checkpoints/model.safetensors"), model, params.model)
    write(Path("metrics/history.csv"), table.getvalue().encode())
    rounded = {name: round(figure, 6) for name, figure in summary.items()}
    write_json(Path("metrics/train.json"), rounded)


if __name__ == "__main__":
    run(main)
