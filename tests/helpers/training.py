"""A small training on real digits, for tests that train in their own process."""

import torch

from stages.learning.models import MODELS
from stages.learning.training import Replicas, Split
from stages.params.train import Train
from tests.helpers.cards import DIGITS, load
from tests.same_bits.trainings import USUAL

WIDTHS = dict.fromkeys(MODELS, 3) | {"linear": 0, "mlp": 24}  # a small one for each model
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
    return Train.model_validate({**USUAL, **rest, **changes})


def digits(start: int, stop: int) -> Split:
    """Return the images of the training pool of mnist-5k from `start` up to before `stop`."""
    pool = load("mnist-5k")["train"]
    labels = torch.from_numpy(pool["labels"][start:stop].copy()).long()
    return Split(torch.from_numpy(pool["images"][start:stop].copy()), labels, CLASSES)


TRAIN, VAL = digits(0, 150), digits(150, 250)


def fit(params: Train, train: Split = TRAIN) -> Replicas:
    """Return the model after all epochs of a training."""
    replicas = Replicas([0], [params.seed], train, VAL, params)
    train_epochs(replicas, params.epochs)
    return replicas


def train_epochs(replicas: Replicas, epochs: int) -> None:
    """Train for this number of epochs."""
    for _ in range(epochs):
        for _ in replicas.train_epoch():
            pass


def weights(replicas: Replicas, position: int = 0) -> dict[str, torch.Tensor]:
    return replicas.models[position].state_dict()
