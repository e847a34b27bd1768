"""Train a model by gradient descent, and its replicas, which differ in their seed alone.

Reads `data/prepared/{train,val}.safetensors` and section `train` of `params.yaml`. Writes
`data/checkpoints/model.safetensors`, the weights of the model;
`data/checkpoints/replicas.safetensors`, the weights of the other replicas; `metrics/curves.csv`,
the learning curves of all replicas; `metrics/train.json`, the model's last epoch. The metrics are
written during the training, too. A training that was killed is resumed after its last complete
epoch.

Every `log_every` iterations the curves have the mean training loss since the row before. After
each epoch, and every `score_every` iterations, they have the loss and the accuracy on val; every
`score_every` iterations, and at the end, the accuracy of the model on train.

If the environment variable FAIRTRIAL_STATES names a folder, the states after the last epoch are
kept there, and a training with more epochs or replicas goes on from them.

    python -m stages train
"""

import ctypes
import math
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from tqdm import tqdm

from stages import PARENT_PID
from stages.learning import saved_states
from stages.learning.checkpoints import CHECKPOINT, REPLICAS, write_checkpoint, write_replicas
from stages.learning.training import Replicas, Split, batch_sizes, stacks
from stages.params import load_params
from stages.params.train import Train, refuse_missing_gpu, replica_seeds
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.files import write_csv, write_json
from stages.storage.split_files import read_split
from stages.storage.tensors import Array, read_metadata, write_tensors

DATA = {name: Path(f"data/prepared/{name}.safetensors") for name in ("train", "val")}
DECIMALS = 6  # of the metrics
MAX_LINES = 100  # of epochs, printed


def load_split(path: Path, device: str = "cpu") -> tuple[DatasetInfo, Split]:
    """Return a data set and a split; on a CPU its images are a view of the memory-mapped file."""
    info, split = read_split(path, mmap=True)
    images, labels = torch.from_numpy(split["images"]), torch.from_numpy(split["labels"]).long()
    black_outside = info.style != "natural"
    return info, Split(images.to(device), labels.to(device), len(info.classes), black_outside)


def load_groups(train: Split, val: Split, params: Train, paths: list[Path]) -> list[Replicas]:
    """Return the replicas in groups that train together, after the epochs that their states have.

    Replicas that cannot be stacked, or whose states are of different epochs, train one after the
    other.

    paths: the file for the state of each replica. A state of more epochs than `params` asks for
        is not used.
    """
    seeds = replica_seeds(params.seed, params.replicas)
    layout = Replicas([0], seeds[:1], train, val, params).layout()
    last = params.epochs * len(batch_sizes(len(train.labels), params))
    states: dict[tuple[int, int], dict[int, dict[str, Array]]] = {}
    for number, path in enumerate(paths):
        state = saved_states.load_state(path, layout)
        if not state or len(state["losses"]) > last:
            state = {"losses": np.empty(0)}
        key = len(state["losses"]), 0 if stacks(params) else number
        states.setdefault(key, {})[number] = state
    groups = []
    for (iteration, _), of_group in states.items():
        group = Replicas([*of_group], [seeds[number] for number in of_group], train, val, params)
        if iteration:
            group.restore([*of_group.values()])
        groups.append(group)
    return groups


def by_number(groups: list[Replicas]) -> list[tuple[int, Replicas, int]]:
    """Return each replica's number, its group and its position in that."""
    replicas = [(n, group, i) for group in groups for i, n in enumerate(group.numbers)]
    return sorted(replicas, key=lambda replica: replica[0])


def train_groups(groups: list[Replicas], params: Train, paths: list[Path]) -> None:
    """Train one group after the other to the last epoch, and write the states of every epoch."""
    next_write = 0.0
    with progress_bar(groups, params) as bar:
        for group in groups:
            if 0 < group.epochs_done < params.epochs:
                print_line(f"train: resuming after epoch {group.epochs_done} of {params.epochs}")
            while group.epochs_done < params.epochs:
                first = group.numbers[0]
                replica = f"replica {first + 1}/{params.replicas}, " if first else ""
                bar.set_description_str(f"{replica}epoch {group.epochs_done + 1}/{params.epochs}")
                for _ in group.train_epoch():
                    bar.set_postfix_str(f"loss {group.losses[0][-1]:.4g}", refresh=False)
                    bar.update()
                    if not first:
                        print_progress(group, params)
                for position, number in enumerate(group.numbers):
                    write_tensors(paths[number], group.state(position))
                if (start := time.monotonic()) >= next_write:
                    write_metrics(groups)
                    # At most once a second, and where they are long, for a fiftieth of the time.
                    next_write = time.monotonic() + max(1.0, 50 * (time.monotonic() - start))
                if "DVC_ROOT" in os.environ and os.getppid() != PARENT_PID:
                    # DVC was killed: do not overwrite what its next run writes in this folder.
                    sys.exit(
                        f"train: stopped after epoch {group.epochs_done}, because DVC has ended"
                    )
            for number, [*_, last] in zip(group.numbers, group.scores, strict=True):
                if number:
                    name = f"replica {number + 1}/{params.replicas}"
                    print_line(f"{name}: accuracy val {last.val_accuracy:.4f}")


def print_progress(group: Replicas, params: Train) -> None:
    """Print the loss of the model every `log_every` iterations if these are rare, and epochs."""
    iteration, epoch, score = group.iteration, group.epochs_done, group.scores[0][-1:]
    scores = ""
    if score and score[0].iteration == iteration:
        train, val = score[0].train_accuracy, score[0].val_accuracy
        on_train = "" if math.isnan(train) else f"train {train:.4f}, "
        scores = f", accuracy {on_train}val {val:.4f}"
    if params.log_every >= 100 and iteration % params.log_every == 0:  # more would only scroll by
        loss = group.mean_loss(0, iteration - params.log_every, iteration)
        print_line(f"iteration {iteration}: loss {loss:.5g}{scores}")
    if iteration == epoch * len(group.sizes) and (
        epoch == params.epochs or epoch % -(-params.epochs // MAX_LINES) == 0
    ):
        loss = group.last_epoch(0)["train_loss"]
        print_line(f"epoch {epoch}/{params.epochs}: loss {loss:.5g}{scores}")


def print_line(text: str) -> None:
    """Print a line at once, above the progress bar if there is one."""
    tqdm.write(text)
    sys.stdout.flush()


def progress_bar(groups: list[Replicas], params: Train) -> "tqdm[NoReturn]":
    """Return a bar, on a terminal only, that shows how long the whole training will still take."""
    return tqdm(
        total=len(groups) * params.epochs * len(groups[0].sizes),
        initial=sum(group.iteration for group in groups),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {remaining} left{postfix}",
        smoothing=0,  # by the mean speed so far: at the ends of epochs the bar stands still
        leave=False,
        disable=None,
    )


def write_metrics(groups: list[Replicas]) -> None:
    """Write the curves of all replicas, and the last epoch of the first, which is the model."""
    replicas = by_number(groups)
    rows = [
        [number, *(round(x, DECIMALS) if isinstance(x, float) else x for x in row)]
        for number, group, position in replicas
        for row in group.curve(position)
    ]
    header = ["replica", "iteration", "epoch", "split", "loss", "accuracy"]
    write_csv(Path("metrics/curves.csv"), [header, *rows])
    last = replicas[0][1].last_epoch(0)
    names = "train_loss", "train_accuracy", "val_loss", "val_accuracy"
    values = {name: round(last[name], DECIMALS) for name in names if not math.isnan(last[name])}
    write_json(Path("metrics/train.json"), {"train": values})


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


def prepare_cuda() -> None:
    """Choose deterministic algorithms; raises `InputError` if there is no GPU."""
    refuse_missing_gpu()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False  # TF32 has 10 of float32's 23 bits


def fingerprints(params: Train, keeps_states: bool) -> list[str]:
    """Return for each replica the fingerprint of its states."""
    inputs = {name: read_metadata(path)["sha256"] for name, path in DATA.items()}
    if params.device == "cuda":
        inputs["gpu"] = torch.cuda.get_device_name()  # on which its bits depend
    result = []
    for number, seed in enumerate(replica_seeds(params.seed, params.replicas)):
        # How many replicas there are does not affect any one of them.
        own = params.model_dump(exclude={"replicas"}) | {"seed": seed}
        if keeps_states:
            del own["epochs"]  # with a constant learning rate they decide nothing but the end
        result.append(saved_states.fingerprint(params=own, is_first=not number, **inputs))
    return result


def main() -> None:
    params = load_params(Train, "train")
    kept_states = os.environ.get("FAIRTRIAL_STATES")
    if kept_states and params.schedule != "constant":
        raise InputError(
            f"params.yaml: train.schedule: with {params.schedule} every step depends on the number "
            "of epochs, so that a longer training cannot go on from a shorter one; set it to "
            "constant"
        )
    keep_freed_memory()
    if params.device == "cuda":
        prepare_cuda()
    (info, train), (_, val) = (load_split(DATA[name], params.device) for name in ("train", "val"))
    # DVC sets DVC_ROOT for its commands to the workspace, also where it runs them elsewhere.
    folder = Path(kept_states or Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/train"))
    names = fingerprints(params, bool(kept_states))
    paths = [folder / f"{name}.safetensors" for name in names]
    with saved_states.exclusive(folder, names[0]):
        groups = load_groups(train, val, params, paths)
        train_groups(groups, params, paths)
        groups[0].finish()
        write_metrics(groups)
        models = [group.models[position] for _, group, position in by_number(groups)]
        write_checkpoint(CHECKPOINT, models[0], params.model, params.width, info)
        write_replicas(REPLICAS, models, params.model, params.width, info)
        if not kept_states:
            for path in paths:
                path.unlink()
