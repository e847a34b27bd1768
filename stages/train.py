"""Train a model by gradient descent, and its replicas, which differ in their seed alone.

Reads `data/prepared/{train,val}.safetensors` and section `train` of `params.yaml`. Writes
`data/checkpoints/model.safetensors`, the weights of the model;
`data/checkpoints/replicas.safetensors`, the weights of the other replicas; `metrics/history.csv`,
every `log_every` iterations the mean training loss since the row before; `metrics/accuracy.csv`,
after each epoch or every `score_every` iterations the accuracy on train and val, and beside it in
`metrics/history.csv` the loss on val; `metrics/replicas.csv`, each epoch of each replica;
`metrics/train.json`, the last epoch as a whole. These tables are written while it trains, too. A
training that was killed is resumed after its last complete epoch.

    python -m stages.train
"""

import contextlib
import ctypes
import math
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import torch
from tqdm import tqdm

from stages import PARENT_PID
from stages.learning import resume
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, write_checkpoint, write_replicas
from stages.learning.models import STACKABLE
from stages.learning.training import (
    EpochRow,
    HistoryRow,
    Split,
    TrainingState,
    initial_state,
    num_batches,
    print_line,
    train_epoch,
)
from stages.params import load_params
from stages.params.train import Train, refuse_missing_gpu, replica_seeds
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import run
from stages.storage.files import write_csv, write_json
from stages.storage.splits import read_split
from stages.storage.tensors import read_metadata, write_tensors

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("train", "val")}
DECIMALS = 6  # of the metrics


def load_split(path: Path, device: str = "cpu") -> tuple[DatasetInfo, Split]:
    """Return a data set and a split; on a CPU its images are a view of the memory-mapped file."""
    info, split = read_split(path, mmap=True)
    images, labels = torch.from_numpy(split["images"]), torch.from_numpy(split["labels"]).long()
    black_outside = info.style != "natural"
    return info, Split(images.to(device), labels.to(device), len(info.classes), black_outside)


def train_or_resume(
    train: Split, val: Split, params: Train, paths: list[Path]
) -> list[TrainingState]:
    """Return the states of the replicas after the last epoch, the first of them with a history.

    paths: for each of them the file that has its state after every epoch on the way. A state after
        more epochs than are asked for is not used.
    """
    states: list[TrainingState] = []
    for seed, path in zip(replica_seeds(params.seed, params.replicas), paths, strict=True):
        own = params.model_copy(update={"seed": seed})
        state = initial_state(own, train, record_history=not states)
        tensors = resume.load_state(path, state.layout())
        if tensors and tensors["rows"][-1, 1] <= params.epochs:
            state.restore(tensors)
        states.append(state)
    # Small models take the time of one together. In float32 their bits would be others.
    together = params.precision == "exact" and isinstance(states[0].model, STACKABLE)
    groups = [states] if together else [[state] for state in states]
    path_of_seed = dict(zip((state.seed for state in states), paths, strict=True))
    due = 0.0  # when the curves are to be written, for those who watch the training
    with progress_bar(groups, num_batches(len(train.labels), params) * params.epochs) as bar:
        for group in groups:
            number = states.index(group[0]) + 1
            replica = f"replica {number}/{len(states)}, " if number > 1 else ""
            if 0 < (epoch := min(state.last.epoch for state in group)) < params.epochs:
                print_line(f"train: resuming after epoch {epoch} of {params.epochs}")
            while (epoch := min(state.last.epoch for state in group)) < params.epochs:
                if states[0].history and (start := time.monotonic()) >= due:
                    write_curves(states, states[0].history, params, fsync=False)
                    # At most once a second, and where they are long, for a fiftieth of the time.
                    due = time.monotonic() + max(1.0, 50 * (time.monotonic() - start))
                behind = [state for state in group if state.last.epoch == epoch]
                bar.set_description_str(f"{replica}epoch {epoch + 1}/{params.epochs}")
                train_epoch(behind, train, val, params, bar)
                for state in reversed(behind):  # after a kill in between, the model is not ahead
                    # Not synchronised: after a power failure its checksum shows if it is whole.
                    write_tensors(path_of_seed[state.seed], state.tensors(), fsync=False)
                if "DVC_ROOT" in os.environ and os.getppid() != PARENT_PID:
                    # DVC was killed: do not overwrite what its next run writes in this folder.
                    sys.exit(f"train: stopped after epoch {epoch + 1}, because DVC has ended")
            for state in group:
                if not state.record_history:
                    number, share = states.index(state) + 1, state.epochs[-1].val_accuracy
                    print_line(f"replica {number}/{len(states)}: accuracy val {share:.4f}")
    return states


def progress_bar(groups: list[list[TrainingState]], steps: int) -> "tqdm[NoReturn]":
    """Return a bar, on a terminal only, that shows how long the whole training will still take.

    groups: the replicas that are trained one group after the other, each `steps` iterations.
    """
    return tqdm(
        total=len(groups) * steps,
        initial=sum(min(state.last.iteration for state in group) for group in groups),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {remaining} left{postfix}",
        smoothing=0,  # by the mean speed so far: at the ends of epochs the bar stands still
        leave=False,
        disable=None,
    )


def write_curves(
    states: list[TrainingState], history: list[HistoryRow], params: Train, fsync: bool = True
) -> None:
    """Write the history of the first replica, which is the model, and the epochs of all of them."""
    # The curves are drawn with these settings in their legend.
    settings = {"batch_size": params.batch_size, "lr": params.lr}
    for name, y in (("history", "loss"), ("accuracy", "accuracy")):
        rows = [
            [row.iteration, row.epoch, split, round(value, DECIMALS), *settings.values()]
            for row in history
            for split in ("train", "val")
            if not math.isnan(value := getattr(row, f"{split}_{y}"))
        ]
        header = ["iteration", "epoch", "split", y, *settings]
        write_csv(Path(f"metrics/{name}.csv"), header, rows, fsync)
    rows = [
        [number, iteration, epoch, *(round(v, DECIMALS) for v in values), *settings.values()]
        for number, state in enumerate(states)
        for iteration, epoch, *values in state.epochs
    ]
    header = ["replica", *EpochRow._fields, *settings]
    write_csv(Path("metrics/replicas.csv"), header, rows, fsync)


def write_outputs(states: list[TrainingState], params: Train, info: DatasetInfo) -> None:
    """Write the checkpoints of all replicas, and the metrics of the first, which is the model."""
    state = states[0]
    write_curves(states, state.full_history(), params)
    last = {
        name: round(value, DECIMALS)
        for name, value in state.last._asdict().items()
        if name not in ("iteration", "epoch")
    }
    write_json(Path("metrics/train.json"), last)
    models = [state.model for state in states]
    write_checkpoint(CHECKPOINT, models[0], params.model, params.width, info)
    write_replicas(REPLICAS, models, params.model, params.width, info)


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB of freed memory for its next step.

    Otherwise the C library returns every activation to the kernel and gets it again page by page,
    and convolutions take a sixth more time.
    """
    trim_threshold, mmap_threshold = -1, -3  # the names in glibc's malloc.h
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the largest value that it accepts
        libc.mallopt(trim_threshold, 256 * 2**20)


def prepare_cuda(precision: str) -> None:
    """Choose deterministic algorithms; raises `InputError` if there is no GPU."""
    refuse_missing_gpu()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False  # TF32 has 10 of float32's 23 bits
    if precision == "exact":
        # cuDNN may convolve by a Fourier transform, which is no sum of products.
        torch.backends.cudnn.enabled = False


def main(states_folder: Path | None = None) -> None:
    """Run the stage.

    states_folder: where the states after the last epoch are kept, from which a longer training
        continues. By default they are removed, and a training of other epochs starts anew.
    """
    params = load_params(Train, "train")
    keep_freed_memory()
    if params.device == "cuda":
        prepare_cuda(params.precision)
    (info, train), (_, val) = (load_split(DATA[name], params.device) for name in ("train", "val"))
    inputs = {name: read_metadata(path)["sha256"] for name, path in DATA.items()}
    if params.precision == "float32":  # its bits depend on these
        inputs["cpu"] = torch.backends.cpu.get_cpu_capability()
        inputs["threads"] = str(torch.get_num_threads())
        if params.device == "cuda":
            inputs["gpu"] = torch.cuda.get_device_name()
    with contextlib.ExitStack() as stack:
        paths: list[Path] = []
        for seed in replica_seeds(params.seed, params.replicas):
            # How many replicas there are does not affect any one of them.
            own = params.model_dump() | {"seed": seed, "replicas": 1}
            if states_folder and params.schedule == "constant":
                del own["epochs"]  # nothing but the length of the training depends on them
            key = resume.fingerprint(params=own, record_history=not paths, **inputs)
            paths.append(stack.enter_context(resume.exclusive_state(key, states_folder)))
        states = train_or_resume(train, val, params, paths)
        write_outputs(states, params, info)
        if not states_folder:
            for path in paths:
                path.unlink()


if __name__ == "__main__":
    run(main)
