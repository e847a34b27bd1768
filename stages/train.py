"""Train a model by gradient descent, and its replicas, which differ in their seed alone.

Reads `data/prepared/{train,val}.safetensors` and section `train` of `params.yaml`. Writes
`data/checkpoints/model.safetensors`, the weights; `data/checkpoints/replicas.safetensors`,
those of the other seeds, one after the other; `metrics/history.csv`, every `log_every`
iterations and at the end the mean loss since the row before and the accuracy on train and
val; `metrics/train.json`, what the last epoch came to. A training that was killed continues
after its last whole epoch.

    python -m stages.train
"""

import contextlib
import ctypes
import hashlib
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from stages import PARENT_PID
from stages.learning import resume
from stages.learning.augmentation import NUM_TRANSFORM_PARAMS, affine
from stages.learning.models import (
    CHECKPOINT,
    PRECISIONS,
    REPLICAS,
    Model,
    build_model,
    predict,
    write_checkpoint,
    write_replicas,
)
from stages.learning.optimizers import NUM_MOMENTS, optimizer_step
from stages.params import load_params
from stages.params.train import Train
from stages.storage.errors import InputError, run
from stages.storage.files import write_csv, write_json
from stages.storage.tensors import (
    PREPARED_LAYOUT,
    Array,
    Layout,
    read_metadata,
    read_split,
    write_tensors,
)

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("train", "val")}


class Split(NamedTuple):
    images: Tensor  # uint8 (N, 1, 28, 28)
    labels: Tensor  # int64 (N,)


class BatchLoss(NamedTuple):
    """The mean over a batch, and how many images it had."""

    mean: float
    size: int


class HistoryRow(NamedTuple):
    """A row of `metrics/history.csv`."""

    iteration: int
    epoch: int
    train_loss: float
    train_accuracy: float
    val_accuracy: float


@dataclass
class TrainingState:
    """All that an epoch starts from; random numbers are drawn anew from the seed and the epoch."""

    model: Model
    moments: list[list[Tensor]]  # of each weight, what the optimizer keeps
    last: HistoryRow  # the last epoch as a whole
    history: list[HistoryRow] = field(default_factory=list)
    unlogged: list[BatchLoss] = field(default_factory=list)  # since the last row of the history

    def tensors(self) -> dict[str, Array]:
        """Return the state as arrays, from which `restore` brings it back."""
        return {
            **{name: tensor.cpu().numpy() for name, tensor in self._float32().items()},
            "rows": np.array([*self.history, self.last], dtype=np.float64),
            "unlogged": np.array(self.unlogged, dtype=np.float64).reshape(-1, 2),
        }

    def layout(self) -> Layout:
        """Return the dtypes and shapes of `tensors` after any epoch."""
        fixed = {name: ("F32", tuple(tensor.shape)) for name, tensor in self._float32().items()}
        return {**fixed, "rows": ("F64", (None, 5)), "unlogged": ("F64", (None, 2))}

    def restore(self, tensors: dict[str, Array]) -> None:
        for name, tensor in self._float32().items():
            tensor.copy_(torch.from_numpy(tensors[name]))
        rows = [
            HistoryRow(int(i), int(epoch), *rest) for i, epoch, *rest in tensors["rows"].tolist()
        ]
        *self.history, self.last = rows
        self.unlogged = [BatchLoss(mean, int(size)) for mean, size in tensors["unlogged"].tolist()]

    def _float32(self) -> dict[str, Tensor]:
        """Return the model's tensors, which `state_dict` detaches, and the optimizer's."""
        return {
            **{f"model {name}": tensor for name, tensor in self.model.state_dict().items()},
            **{
                f"moment {number} of weight {place}": moment
                for place, kept in enumerate(self.moments)
                for number, moment in enumerate(kept)
            },
        }


def initial_state(params: Train) -> TrainingState:
    """Return the state before the first epoch."""
    weights = seeded_generator(params.seed, "weights")
    model = build_model(params.model, params.width, weights, params.precision).to(params.device)
    moments = [
        [torch.zeros_like(weight) for _ in range(NUM_MOMENTS[params.optimizer])]
        for weight in model.parameters()
    ]
    return TrainingState(model, moments, HistoryRow(0, 0, math.nan, math.nan, math.nan))


def train_epoch(
    state: TrainingState, train: Split, val: Split, params: Train, watched: bool = True
) -> None:
    """Take `state` one epoch further; of a training that is `watched` note and say how it goes.

    Raises `InputError` if there is no batch to train on, or when the loss is no longer finite.
    """
    iteration, epoch = state.last.iteration, state.last.epoch + 1
    weights = list(state.model.parameters())
    loss_of = getattr(PRECISIONS[params.precision], params.loss)
    order = list(batches(len(train.labels), params, epoch))
    if params.augment == "affine":
        source = seeded_generator(params.seed, f"augmentation of epoch {epoch}")
        numbers = (
            torch.rand((len(train.labels), NUM_TRANSFORM_PARAMS), generator=source) * 2 - 1
        )
        numbers = numbers.to(params.device)
    losses: list[BatchLoss] = []
    state.model.train()
    # disable=None: a progress bar on a terminal only
    bar = tqdm(order, f"epoch {epoch}/{params.epochs}", leave=False, disable=None)
    for batch in bar:
        iteration += 1
        # index_select: train.images[batch] is the same, in ten times the time.
        images, labels = train.images.index_select(0, batch), train.labels.index_select(0, batch)
        if params.augment == "affine":
            images = affine(images, numbers[batch])
        loss = loss_of(state.model(images), labels, params.label_smoothing)
        losses.append(BatchLoss(loss.item(), len(batch)))
        if not math.isfinite(losses[-1].mean):
            raise InputError(
                f"params.yaml: train.lr: with {params.lr} the loss became {losses[-1].mean} at "
                f"iteration {iteration}, in epoch {epoch}; lower it"
            )
        gradients = torch.autograd.grad(loss, weights)
        optimizer_step(
            weights, gradients, state.moments, iteration, params.epochs * len(order), params
        )
        bar.set_postfix_str(f"loss {losses[-1].mean:.4g}", refresh=False)
        state.unlogged.append(losses[-1])
        end = batch is order[-1]
        logged = iteration % params.log_every == 0 or (end and epoch == params.epochs)
        if not watched:
            continue
        if logged or end:
            accuracies = accuracy(state.model, train), accuracy(state.model, val)
            state.model.train()
        if logged:
            state.history.append(
                HistoryRow(iteration, epoch, mean_loss(state.unlogged), *accuracies)
            )
            state.unlogged = []
            if params.log_every >= 100:  # more of them would only scroll by
                print(f"iteration {iteration}: {format_row(state.history[-1])}", flush=True)
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise InputError(
            f"params.yaml: train.lr: with {params.lr} the weights are no longer finite after "
            f"epoch {epoch}; lower it"
        )
    if not watched:
        state.unlogged = []
        state.last = HistoryRow(iteration, epoch, mean_loss(losses), math.nan, math.nan)
        return
    state.last = HistoryRow(iteration, epoch, mean_loss(losses), *accuracies)
    if epoch % -(-params.epochs // 100) == 0:  # a hundred lines are enough
        print(f"epoch {epoch}/{params.epochs}: {format_row(state.last)}", flush=True)


def format_row(row: HistoryRow) -> str:
    return (
        f"loss {row.train_loss:.5g}, "
        f"accuracy train {row.train_accuracy:.4f}, val {row.val_accuracy:.4f}"
    )


def batches(n: int, params: Train, epoch: int) -> Iterator[Tensor]:
    """Yield the places of the images of each batch, int64; each epoch has an order of its own."""
    size = n if params.batch_size == "full" else params.batch_size
    if params.drop_last and size > n:
        raise InputError(
            f"params.yaml: train.batch_size: {size} is more than the {n} training images, and "
            "drop_last skips the smaller batch that they make"
        )
    order = torch.randperm(
        n, generator=seeded_generator(params.seed, f"order of epoch {epoch}")
    )
    for batch in order.to(params.device).split(size):
        if len(batch) == size or not params.drop_last:
            yield batch


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Return random numbers that depend on the seed and on what they are for, and on no others."""
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(key[:4], "little"))


def mean_loss(losses: list[BatchLoss]) -> float:
    """Return the mean over all images of the batches."""
    return math.fsum(loss.mean * loss.size for loss in losses) / sum(loss.size for loss in losses)


def accuracy(model: Model, split: Split) -> float:
    """Return the share of the images that the model gives their label."""
    correct = (predict(model, split.images).argmax(1) == split.labels).sum()
    return int(correct) / len(split.labels)


def write_outputs(states: list[TrainingState], params: Train) -> None:
    state = states[0]
    # The settings that the curves are drawn under.
    settings = {"batch_size": params.batch_size, "lr": params.lr}
    rows = [
        [*row[:2], *(round(figure, 6) for figure in row[2:]), *settings.values()]
        for row in state.history
    ]
    summary = state.last._asdict()
    del summary["iteration"], summary["epoch"]
    models = [state.model for state in states]
    write_checkpoint(CHECKPOINT, models[0], params.model, params.width)
    write_replicas(REPLICAS, models, params.model, params.width)
    write_csv(Path("metrics/history.csv"), [*HistoryRow._fields, *settings], rows)
    write_json(Path("metrics/train.json"), {name: round(x, 6) for name, x in summary.items()})


def load_split(path: Path, device: str = "cpu") -> Split:
    """Return a split whose images are in the file still, or else whole on the device."""
    split = read_split(path, PREPARED_LAYOUT, mapped=True)
    images, labels = torch.from_numpy(split["images"]), torch.from_numpy(split["labels"]).long()
    return Split(images.to(device), labels.to(device))


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB that it frees, for its next step.

    Convolutions take a sixth more time where the C library gives every activation back to the
    kernel and gets it again page by page.
    """
    trim_threshold, mmap_threshold = -1, -3  # as glibc's malloc.h calls them
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the most that it takes
        libc.mallopt(trim_threshold, 256 * 2**20)


def prepare_cuda() -> None:
    """Choose algorithms that repeat their bits; raises `InputError` if there is no GPU."""
    if not torch.cuda.is_available():
        raise InputError(
            "params.yaml: train.device: cuda needs a GPU of NVIDIA and its driver, and torch finds "
            "none; set it to cpu"
        )
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS's own condition for that
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False  # which has 10 bits of the 23


def train_or_resume(
    train: Split, val: Split, params: Train, path: Path, watched: bool
) -> TrainingState:
    """Return the state after the last epoch, keeping that of every epoch in `path`."""
    state = initial_state(params)
    if tensors := resume.load_state(path, state.layout()):
        state.restore(tensors)
        if state.last.epoch < params.epochs:
            print(
                f"train: continuing after epoch {state.last.epoch} of {params.epochs}", flush=True
            )
    while state.last.epoch < params.epochs:
        train_epoch(state, train, val, params, watched)
        write_tensors(path, state.tensors())
        if "DVC_ROOT" in os.environ and os.getppid() != PARENT_PID:
            # DVC was killed: what it runs next in this folder is not to be overwritten.
            sys.exit(f"train: stopped after epoch {state.last.epoch}, since DVC is gone")
    return state


def main() -> None:
    params = load_params(Train, "train")
    keep_freed_memory()
    if params.device == "cuda":
        prepare_cuda()
    train, val = (load_split(DATA[name], params.device) for name in ("train", "val"))
    facts = {name: read_metadata(path)["sha256"] for name, path in DATA.items()}
    if params.precision == "float32":  # whose bits depend on these
        facts["cpu"] = torch.backends.cpu.get_cpu_capability()
        facts["threads"] = str(torch.get_num_threads())
        if params.device == "cuda":
            facts["gpu"] = torch.cuda.get_device_name()
    states: list[TrainingState] = []
    with contextlib.ExitStack() as held:
        paths = []
        for number in range(params.replicas):
            # How many there are decides nothing about one of them.
            own = params.model_copy(update={"seed": params.seed + number, "replicas": 1})
            watched = number == 0
            key = resume.fingerprint(params=own.model_dump(), watched=watched, **facts)
            paths.append(held.enter_context(resume.exclusive_state(key)))
            states.append(train_or_resume(train, val, own, paths[-1], watched))
            if not watched:
                share = accuracy(states[-1].model, val)
                print(
                    f"replica {number + 1}/{params.replicas}: accuracy val {share:.4f}", flush=True
                )
        write_outputs(states, params)
        for path in paths:
            path.unlink()


if __name__ == "__main__":
    run(main)
