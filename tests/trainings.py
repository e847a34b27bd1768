"""Print the SHA-256 of many trainings' weights and figures, one line of JSON.

python tests/trainings.py [precision]
"""

import hashlib
import itertools
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from stages.evaluate import figures, score
from stages.fetch import mnist_5k
from stages.models import MODELS, predict
from stages.params.train import Train
from stages.tensors import digest
from stages.train import Split, begin, train_epoch

# Every model and every way to take a step; a batch of 48 leaves a smaller one at the end.
SETTINGS = [
    {"model": model, "momentum": momentum, "weight_decay": decay, "batch_size": size, "seed": seed}
    for model, momentum, decay, size, seed in itertools.product(
        MODELS, (0.0, 0.9), (0.0, 0.01), (48, 500), range(3)
    )
]


def result(settings: dict[str, object], precision: str, splits: dict[str, Split]) -> str:
    rest = {"lr": 0.1, "drop_last": False, "epochs": 2, "log_every": 3}
    params = Train.model_validate({**settings, **rest, "precision": precision})
    state = begin(params)
    for _ in range(params.epochs):
        train_epoch(state, splits["train"], splits["val"], params)
    logits = predict(state.model, splits["val"].images).double().numpy()
    scores = figures(score(logits, splits["val"].labels.numpy()), bins=15)
    everything = digest(state.tensors()) + json.dumps(scores, sort_keys=True)
    return hashlib.sha256(everything.encode()).hexdigest()


def main() -> None:
    precision = sys.argv[1] if len(sys.argv) > 1 else "exact"
    pool = mnist_5k()["train"]
    images, labels = (
        torch.from_numpy(pool["images"].copy()),
        torch.from_numpy(pool["labels"].copy()),
    )
    splits = {
        "train": Split(images[:500], labels[:500].long()),
        "val": Split(images[500:700], labels[500:700].long()),
    }
    with redirect_stdout(sys.stderr):
        results = {str(settings): result(settings, precision, splits) for settings in SETTINGS}
    capability = torch.backends.cpu.get_cpu_capability()
    threads = torch.get_num_threads()
    print(json.dumps({"capability": capability, "threads": threads, "results": results}))


if __name__ == "__main__":
    main()
