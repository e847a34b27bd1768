"""Made-up results of replicas, and revisions that have them."""

from typing import Any

import numpy as np

from fairtrial.project.contract import Contract, Metric
from fairtrial.project.scores import Revision
from fairtrial.statistics.significance import Array

CONTRACT = Contract(
    stage="evaluate",
    scores=("metrics/scores.csv",),
    split="val",
    seed="train.seed",
    replicas="train.replicas",
    metrics={
        "accuracy": Metric(better="higher", unit="%"),
        "loss": Metric(better="lower"),
    },
)


def replicas(fractions: list[float], n: int = 500) -> Array:
    """Return made-up replicas that get these fractions of the examples right, easy ones first."""
    ease = np.random.default_rng(0).permutation(n)
    return np.array([ease < fraction * n for fraction in fractions], dtype=float)


def revision(name: str, accuracy: Array, **changes: Any) -> Revision:
    """Return a revision with these scores, whose loss is 1 where its accuracy is 0."""
    n = accuracy.shape[1]
    values: dict[str, Any] = {
        "name": name,
        "split": "val",
        "examples": np.array([f"{number:04}" for number in range(n)], dtype=object),
        "labels": np.zeros(n, dtype=object),
        "groups": None,
        "scores": {"accuracy": accuracy, "loss": 1 - accuracy},
        "params": {},
        "contract": CONTRACT,
    }
    return Revision(**{**values, **changes})
