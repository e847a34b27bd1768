"""The loop of `stages.train`, with the precision that is given."""

import contextlib
import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import work

from stages.learning.training import initial_state, train_epoch
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, keep_freed_memory, load_split

changes = {
    "model": work.MODEL,
    "width": work.WIDTH if work.MODEL == "cnn" else 0,
    "epochs": work.EPOCHS,
    "precision": sys.argv[3],
    "log_every": 10**9,  # the accuracies after each epoch, and no row between
}
params = load_params(Train, "train").model_copy(update=changes)
keep_freed_memory()
(_, train), (_, val) = load_split(DATA["train"]), load_split(DATA["val"])


def loop() -> tuple[float, float]:
    state = initial_state(params, train)
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(work.EPOCHS):
            train_epoch([state], train, val, params)
    return state.last.train_accuracy, state.last.val_accuracy


work.timed(loop)
