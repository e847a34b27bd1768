"""Print the SHA-256 of all that many trainings compute, one line of JSON.

python -m tests.same_bits.trainings [float32]
"""

import hashlib
import itertools
import json
import sys
from contextlib import redirect_stdout

import torch

from samebits import plain_float32
from stages.datasets.card_files import rows_of
from stages.evaluate import score, split_metrics, tables
from stages.learning.models import ARITHMETIC, predict
from stages.learning.training import Replicas, Split
from stages.params.train import Train
from stages.storage.tensors import digest
from tests.helpers.cards import DIGITS, load

# The linear model with every seed and size of batch, of which 48 leaves a smaller one at the end;
# then every model with every way to take a step, and with every other choice.
USUAL = {
    "model": "linear",
    "width": 0,
    "device": "cpu",
    "augment": "none",
    "loss": "cross_entropy",
    "class_weights": "none",
    "label_smoothing": 0.0,
    "optimizer": "sgd",
    "schedule": "constant",
    "momentum": 0.0,
    "nesterov": False,
    "weight_decay": 0.0,
    "batch_size": 48,
    "seed": 0,
    "replicas": 1,
}
MODELS: list[dict[str, object]] = [
    {"model": "linear"},
    {"model": "mlp", "width": 20},
    {"model": "cnn", "width": 4},
]
STEPS: list[dict[str, object]] = [
    {},
    {"momentum": 0.9, "weight_decay": 0.01},
    {"momentum": 0.9, "nesterov": True},
    {"optimizer": "adam", "weight_decay": 0.01, "lr": 0.01},
    {"optimizer": "adamw", "weight_decay": 0.01, "lr": 0.01, "schedule": "one_cycle"},
    {"loss": "mse"},
    {"label_smoothing": 0.1, "augment": "affine"},
]
OTHERS: list[dict[str, object]] = [
    {**MODELS[2], "class_weights": "balanced", "augment": "affine_mirror"},
    {**MODELS[2], "class_weights": "balanced", "loss": "mse"},
    # recipes/best-2000, in the width and with the steps of a short training
    {
        "model": "cnn",
        "width": 26,
        "augment": "affine",
        "label_smoothing": 0.1,
        "optimizer": "adam",
        "lr": 0.01,
        "schedule": "one_cycle",
        "batch_size": 64,
    },
]
SETTINGS: list[dict[str, object]] = [
    *(
        {"momentum": momentum, "weight_decay": decay, "batch_size": size, "seed": seed}
        for momentum, decay, size, seed in itertools.product(
            (0.0, 0.9), (0.0, 0.01), (48, "full"), range(3)
        )
    ),
    *({**MODELS[0], **step} for step in STEPS[2:]),
    *({**model, **step} for model, step in itertools.product(MODELS[1:], STEPS)),
    *OTHERS,
]


def result(settings: dict[str, object], train: Split, val: Split) -> str:
    every = {"log_every": 3, "score_every": 3}
    rest = {"lr": 0.1, "drop_last": False, "epochs": 2, **every}
    params = Train.model_validate({**USUAL, **rest, **settings})
    replicas = Replicas([0], [params.seed], train, val, params)
    for _ in range(params.epochs):
        for _ in replicas.train_epoch():
            pass
    replicas.finish()
    logits = predict(replicas.model, val.images).double().numpy()
    scored = [score(logits, val.labels.numpy())]
    # All that the state of a training and the files of metrics are made of.
    everything = [
        digest(replicas.state(0)),
        list(replicas.curve(0)),
        replicas.last_epoch(0),
        split_metrics(scored, bins=15),
        tables(rows_of("val", val.images.numpy()), scored, DIGITS.classes, bins=15),
    ]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def main() -> None:
    if sys.argv[1:] == ["float32"]:
        ARITHMETIC["cpu"] = plain_float32
    pool = load("mnist-5k")["train"]
    images, labels = (
        torch.from_numpy(pool["images"].copy()),
        torch.from_numpy(pool["labels"].copy()),
    )
    # 240 images are equally many of each class, 235 are not: there the classes' weights differ.
    balanced, imbalanced = (
        Split(images[:n], labels[:n].long(), len(DIGITS.classes)) for n in (240, 235)
    )
    val = Split(images[240:340], labels[240:340].long(), len(DIGITS.classes))
    results = {}
    with redirect_stdout(sys.stderr):
        for settings in SETTINGS:
            train = imbalanced if "class_weights" in settings else balanced
            results[str(settings)] = result(settings, train, val)
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    print(json.dumps({"capability": capability, "threads": threads, "results": results}))


if __name__ == "__main__":
    main()
