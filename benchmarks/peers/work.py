"""The work that all peers do, so that their times can be compared.

Each is called as `python PEER.py MODEL EPOCHS [PRECISION]` in a reproduced project, trains the
model (linear or cnn) on the prepared digits by SGD, scores train and val after each epoch, and
prints one line of JSON: the CPU seconds of that loop, those on the wall, and the last accuracies.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

if TYPE_CHECKING:  # the floor does without torch
    from torch import nn

MODEL, EPOCHS = sys.argv[1], int(sys.argv[2])
BATCH_SIZE, LR = 64, 0.01
SEED = 0
WIDTH = 16  # of the cnn
Array = np.ndarray[Any, Any]


def digits(name: str) -> tuple[Array, Array]:
    """Return images float32 (N, 1, 28, 28) in [0, 1] and labels int64 (N,) of a split."""
    split = load_file(Path(f"data/prepared/{name}.safetensors"))
    return split["images"].astype(np.float32) / 255, split["labels"].astype(np.int64)


def network() -> "nn.Module":
    """Return the model as torch's own modules, the same layers as in our models.

    It seeds torch, so that the batches that a peer draws after it are the same in each run too.
    """
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    if MODEL == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    layers: list[nn.Module] = []
    channels = [1, WIDTH, WIDTH, 2 * WIDTH, 2 * WIDTH, 4 * WIDTH]
    for number, (before, after) in enumerate(itertools.pairwise(channels)):
        layers.append(nn.Conv2d(before, after, 3, bias=False))
        layers += [nn.MaxPool2d(2)] if number in (1, 3) else []
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * WIDTH, 10))


def timed(loop: Callable[[], tuple[float, float]]) -> None:
    """Run a loop that returns its last accuracies on train and val; print them and its time."""
    start, wall_start = time.process_time(), time.perf_counter()
    train, val = loop()
    seconds, wall = time.process_time() - start, time.perf_counter() - wall_start
    said = {"loop": seconds, "wall": wall, "train": float(train), "val": float(val)}
    print(json.dumps(said))
