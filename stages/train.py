"""Train a model by gradient descent, and its replicas, which differ in their seed alone.

Reads `data/prepared/{train,val}.safetensors` and section `train` of `params.yaml`. Writes
`data/checkpoints/model.safetensors`, the weights of the model;
`data/checkpoints/replicas.safetensors`, the weights of the other replicas; `metrics/history.csv`,
every `log_every` iterations the mean training loss since the row before; `metrics/accuracy.csv`,
after each epoch or every `score_every` iterations the accuracy on train and val, and beside it in
`metrics/history.csv` the loss on val; `metrics/train.json`, the last epoch as a whole. A training
that was killed is resumed after its last complete epoch.

    python -m stages.train
"""

import contextlib
import ctypes
import math
import os
import sys
from pathlib import Path

import torch

from stages import PARENT_PID
from stages.learning import resume
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, write_checkpoint, write_replicas
from stages.learning.models import STACKABLE, predict
from stages.learning.training import (
    Split,
    TrainingState,
    accuracy,
    initial_state,
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
    for group in groups:
        if 0 < (epoch := min(state.last.epoch for state in group)) < params.epochs:
            print(f"train: resuming after epoch {epoch} of {params.epochs}", flush=True)
        while (epoch := min(state.last.epoch for state in group)) < params.epochs:
            behind = [state for state in group if state.last.epoch == epoch]
            train_epoch(behind, train, val, params)
            for state in reversed(behind):  # after a kill in between, the model is not ahead
                # Not synchronised: after a power failure its checksum shows whether it is whole.
                write_tensors(path_of_seed[state.seed], state.tensors(), fsync=False)
            if "DVC_ROOT" in os.environ and os.getppid() != PARENT_PID:
                # DVC was killed: do not overwrite what its next run writes in this folder.
                sys.exit(f"train: stopped after epoch {epoch + 1}, because DVC has ended")
        for state in group:
            if not state.record_history:
                number = states.index(state) + 1
                share = accuracy(predict(state.model, val.images), val.labels)
                print(f"replica {number}/{len(states)}: accuracy val {share:.4f}", flush=True)
    return states


def write_outputs(states: list[TrainingState], params: Train, info: DatasetInfo) -> None:
    """Write the checkpoints of all replicas, and the metrics of the first, which is the model."""
    state = states[0]
    for path, y, columns in (
        (Path("metrics/history.csv"), "loss", {"train": "train_loss", "val": "val_loss"}),
        (
            Path("metrics/accuracy.csv"),
            "accuracy",
            {"train": "train_accuracy", "val": "val_accuracy"},
        ),
    ):
        # The curves are drawn with these settings in their legend.
        header = ["iteration", "epoch", "split", y, "batch_size", "lr"]
        rows = [
            [row.iteration, row.epoch, split, round(value, DECIMALS), params.batch_size, params.lr]
            for row in state.full_history()
            for split, column in columns.items()
            if not math.isnan(value := getattr(row, column))
        ]
        write_csv(path, header, rows)
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
