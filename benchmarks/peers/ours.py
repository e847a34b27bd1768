"""The loop of the stage `train`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import work

from stages.learning.training import Replicas
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, keep_freed_memory, load_split

changes = {
    "model": work.MODEL,
    "width": work.WIDTH if work.MODEL == "cnn" else 0,
    "epochs": work.EPOCHS,
    "log_every": 10**9,  # the accuracies after each epoch, and no row between
}
params = load_params(Train, "train").model_copy(update=changes)
keep_freed_memory()
(_, train), (_, val) = load_split(DATA["train"]), load_split(DATA["val"])


def loop() -> tuple[float, float]:
    model = Replicas([0], [params.seed], train, val, params)
    while model.epochs_done < params.epochs:
        for _ in model.train_epoch():
            pass
    last = model.last_epoch(0)
    return last["train_accuracy"], last["val_accuracy"]


work.timed(loop)
