"""Ideas that might make best-2000 better: each with five seeds, and judged by 10,000 digits of val.

The 500 of the recipe cannot tell them apart. An idea may pay if the 95 % interval of its difference
on val, paired by seed, is above 0; test is shown, and chooses nothing. In float32, which has the
same accuracies. MNIST comes from ../shared/mnist or the folder MNIST_MIRROR.

python benchmarks/accuracy.py [IDEA ...]
"""

import concurrent.futures
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core

import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

from benchmarks.bench import ENVIRONMENT
from benchmarks.recipes import ROOT, SEEDS, read_recipe
from samebits import Adam, plain_float32, seeded_generator
from stages.learning.models import CNN, Model, predict
from stages.learning.training import Replicas, Split, accuracy
from stages.params import load_params
from stages.params.train import Train
from stages.train import DATA, load_split

RECIPE = "best-2000"
VAL_SIZE = 10_000
SPLITS = {**DATA, "test": Path("data/prepared/test.safetensors")}
# What each changes in the training: parameters, or by a name what is done below.
IDEAS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "train.epochs=150": {"epochs": 150},
    "train.width=40": {"width": 40},
    "elastic distortion": {},
    "padded convolutions": {},
}
# What is done with a trained model that is as it is.
AFTERWARDS = ("mean of the weights", "five shifts")
DECAY = 0.99  # of the mean of the weights, in each of the 1,920 steps
GRID, AMPLITUDE = 5, 0.7  # of the elastic distortion: points of its grid, and sd in pixels


class Padded(CNN):
    """The network with a black border around each convolution, so that images stay larger."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__((1, 28, 28), 10, width, generator, plain_float32)
        features = 4 * width * 3 * 3
        values = torch.rand((10, features), generator=generator) * 2 - 1
        self.weight = torch.nn.Parameter(values / math.sqrt(features))

    def forward(self, images: Tensor) -> Tensor:
        x = plain_float32.pixels(images)
        for convolution in self.convolutions:
            x = convolution(functional.pad(x, (1, 1, 1, 1)))
        x = functional.max_pool2d(x, 2).flatten(1)
        return plain_float32.linear(x, self.weight, self.bias)


def distort(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images uint8 (N, 1, H, W), each moved along a smooth random field of its own."""
    n, _, height, width = images.shape
    coarse = torch.randn((n, 2, GRID, GRID), generator=generator) * AMPLITUDE * 2 / width
    field = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    identity = functional.affine_grid(
        torch.eye(2, 3).expand(n, 2, 3), [n, 1, height, width], align_corners=False
    )
    grid = identity + field.permute(0, 2, 3, 1)
    moved = functional.grid_sample(images.float(), grid, align_corners=False)
    return moved.round().to(torch.uint8)


def shifted_probabilities(model: CNN, images: Tensor) -> Tensor:
    """Return the mean of the probabilities of images, and of them shifted by a pixel."""
    shifts = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    of_shifts = [predict(model, images.roll(shift, (2, 3))).softmax(1) for shift in shifts]
    return torch.stack(of_shifts).mean(0)


class Trial(Replicas):
    """A training without its accuracies."""

    def val_scores(self, model: Model) -> tuple[float, float]:
        return math.nan, math.nan

    def train_accuracy(self, model: Model) -> float:
        return math.nan


def new_trial(idea: str, params: Train, train: Split) -> Trial:
    trial = Trial([0], [params.seed], train, train, params)
    if idea == "padded convolutions":
        trial.model = Padded(params.width, seeded_generator(params.seed, "weights"))
        trial.models = [trial.model]
        trial.optimizer = Adam(list(trial.model.parameters()))
    return trial


def measure(idea: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Train once, and return the accuracies, also those of what is done afterwards."""
    os.chdir(folder)
    torch.set_num_threads(1)
    splits = {name: load_split(path)[1] for name, path in SPLITS.items()}
    update = {"seed": seed, **IDEAS[idea]}
    params = load_params(Train, "train").model_copy(update=update)
    train = splits["train"]
    start = time.process_time()
    trial = new_trial(idea, params, train)
    means = {name: tensor.clone() for name, tensor in trial.model.state_dict().items()}
    while trial.epochs_done < params.epochs:
        if idea == "elastic distortion":
            generator = seeded_generator(seed, f"distortion of epoch {trial.epochs_done}")
            trial.train = train._replace(images=distort(train.images, generator))
        for _ in trial.train_epoch():
            if idea == "as it is":
                for name, tensor in trial.model.state_dict().items():
                    means[name].lerp_(tensor, 1 - DECAY)
    seconds = time.process_time() - start

    def row(name: str, classify: Any) -> dict[str, Any]:
        accuracies = {
            split: 100 * accuracy(classify(trial.model, splits[split].images), splits[split].labels)
            for split in ("val", "test")
        }
        print(f"{name}, seed {seed}: {seconds:.0f} s, {accuracies}", file=sys.stderr, flush=True)
        return {"idea": name, "seed": seed, "seconds": seconds, **accuracies}

    rows = [row(idea, predict)]
    if idea == "as it is":
        rows.append(row(AFTERWARDS[1], shifted_probabilities))
        trial.model.load_state_dict(means)
        rows.append(row(AFTERWARDS[0], predict))
    return rows


def table(rows: pd.DataFrame) -> str:
    """Return a line for each idea: accuracies, and on val the difference to the recipe as it is."""
    lines = []
    base = rows[rows["idea"] == "as it is"].set_index("seed")
    for idea, of in rows.groupby("idea", sort=False):
        of = of.set_index("seed")
        gains = of["val"] - base["val"]
        interval = ""
        if idea != "as it is":
            low, high = stats.ttest_rel(of["val"], base["val"]).confidence_interval()
            interval = f"{gains.mean():+.2f} ({low:+.2f} to {high:+.2f})"
        means = [f"{of[split].mean():.2f} ± {of[split].std():.2f}" for split in ("val", "test")]
        lines.append([idea, *means, interval, f"{of['seconds'].median():.0f}"])
    header = ["idea", "val %", "test %", "on val, points (95 % CI)", "CPU s a seed"]
    return str(pd.DataFrame(lines, columns=header).to_markdown(index=False, disable_numparse=True))


def main() -> None:
    chosen = sys.argv[1:] or list(IDEAS)
    if unknown := set(chosen) - set(IDEAS):
        print(f"no idea {', '.join(unknown)}; name some of {', '.join(IDEAS)}", file=sys.stderr)
        sys.exit(2)
    chosen = ["as it is", *(idea for idea in chosen if idea != "as it is")]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        settings = [*read_recipe(ROOT / "recipes" / RECIPE), f"prepare.val_size={VAL_SIZE}"]
        changes = [part for setting in settings for part in ("-S", setting)]
        command = ["dvc", "exp", "run", "--quiet", *changes, "prepare"]
        subprocess.run(command, cwd=clone, env=ENVIRONMENT, check=True)
        with concurrent.futures.ProcessPoolExecutor() as pool:
            futures = [pool.submit(measure, idea, seed, clone) for idea in chosen for seed in SEEDS]
            rows = [row for future in futures for row in future.result()]
    print(table(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
