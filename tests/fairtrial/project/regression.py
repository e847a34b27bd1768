"""Fit a curve to noisy points, and score the fit: `python -m regression points`, `... fit`.

The model is linear in waves of random frequencies. Its weights are learned by stochastic gradient
descent, once for each replica.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

PARAMS = Path("params.yaml")
POINTS = Path("points.csv")
SIZES = {"train": 200, "val": 150, "test": 150}
WAVES = 30


def check(path: Path = PARAMS) -> dict[str, Any]:
    """Return the parameters; raises `ValueError` with a sentence for each that is wrong."""
    params: dict[str, Any] = YAML(typ="safe").load(path)
    fit = params["fit"]
    problems = [
        f"params.yaml: fit.{name}: has to be {kind.__name__} and above 0, and is {fit[name]!r}"
        for name, kind in (("lr", float), ("epochs", int), ("replicas", int))
        if type(fit[name]) is not kind or fit[name] <= 0
    ]
    if problems:
        raise ValueError(*problems)
    return params


def points(params: dict[str, Any]) -> None:
    random = np.random.default_rng(params["points"]["seed"])
    with POINTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for split, size in SIZES.items():
            for x in random.uniform(-1, 1, size):
                y = np.sin(4 * x) + random.normal(0, params["points"]["noise"])
                writer.writerow([split, f"{x:.6f}", f"{y:.6f}"])


def fit(params: dict[str, Any]) -> None:
    with POINTS.open(newline="") as file:
        split, *columns = map(np.array, zip(*csv.reader(file), strict=True))
    x, y = (column.astype(float) for column in columns)
    of = params["fit"]
    predicted, curve = [], []
    for replica in range(of["replicas"]):
        random = np.random.default_rng([of["seed"], replica])
        frequencies, phases = random.normal(0, 4, WAVES), random.uniform(0, 2 * np.pi, WAVES)
        waves = np.cos(x[:, None] * frequencies + phases)
        weights = random.normal(0, 0.1, WAVES)
        for epoch in range(of["epochs"]):
            for i in random.permutation(np.flatnonzero(split == "train")):
                step = waves[i] / (waves[i] @ waves[i])
                weights += of["lr"] * (y[i] - waves[i] @ weights) * step
            error = ((waves @ weights - y) ** 2)[split == "val"].mean()
            curve.append([replica, epoch, f"{error:.6f}"])
        predicted.append(waves @ weights)
    errors = (np.array(predicted) - y) ** 2
    scores = [errors.round(6), (errors < params["score"]["tolerance"] ** 2).astype(int)]
    names = [f"{name}.{r}" for name in ("squared_error", "close") for r in range(of["replicas"])]
    rows = zip(split, columns[0], columns[1], *np.concatenate(scores, dtype=object), strict=True)
    write("scores.csv", ["split", "example", "label", *names], [r for r in rows if r[0] != "train"])
    write("curve.csv", ["replica", "epoch", "squared_error"], curve)
    means = {name: round(errors[:, split == name].mean(), 6) for name in ("val", "test")}
    Path("fit.json").write_text(json.dumps({"fit": means}) + "\n")


def write(path: str, header: list[str], rows: list[Any]) -> None:
    with Path(path).open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    try:
        {"points": points, "fit": fit}[sys.argv[1]](check())
    except ValueError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.args))
        sys.exit(2)
