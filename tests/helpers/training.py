"""A small training on real digits, for tests that train in their own process."""

import torch

from stages.learning.training import Split, TrainingState, initial_state, train_epoch
from stages.params.train import Train
from tests.helpers.cards import DIGITS, load
from tests.same_bits.trainings import USUAL

WIDTHS = {"linear": 0, "mlp": 24, "cnn": 3}  # a small one for each model
SHAPE, CLASSES = DIGITS.shape, len(DIGITS.classes)


def train_params(**changes: object) -> Train:
    """Return the section `train` of params.yaml: two epochs of the linear model, with changes."""
    rest = {
        "lr": 0.1,
        "batch_size": 64,
        "drop_last": False,
        "epochs": 2,
        "log_every": 10,
        "score_every": "epoch",
    }
    return Train.model_validate({**USUAL, **rest, "precision": "exact", **changes})


def digits(start: int, stop: int) -> Split:
    """Return the images of the training pool of mnist-5k from `start` up to before `stop`."""
    pool = load("mnist-5k")["train"]
    labels = torch.from_numpy(pool["labels"][start:stop].copy()).long()
    return Split(torch.from_numpy(pool["images"][start:stop].copy()), labels, CLASSES)


TRAIN, VAL = digits(0, 150), digits(150, 250)


def fit(params: Train) -> TrainingState:
    """Return the state after all epochs of a training on TRAIN."""
    state = initial_state(params, TRAIN)
    for _ in range(params.epochs):
        train_epoch([state], TRAIN, VAL, params)
    return state
