"""As DVC's MNIST example does it: pairs listed anew each epoch, a new optimizer for each batch.

The style of https://github.com/iterative/dvc-checkpoints-mnist: a split is scored in one piece,
and each epoch writes a checkpoint and a file of metrics.
"""

import json
from pathlib import Path

import torch
import work
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST

FOLDER = Path("data/dvc_example")


def transform(data: MNIST) -> tuple[Tensor, Tensor]:
    return data.data.reshape(-1, 1, 28, 28) / 255, data.targets


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=work.LR)
    loss = nn.CrossEntropyLoss()(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        labels = model(x).argmax(1)
    return int((labels == y).sum()) / len(y)


x_train, y_train = transform(MNIST("data/idx", train=True))
x_val, y_val = transform(MNIST("data/idx", train=False))
model = work.network()
torch.optim.SGD(model.parameters())  # the first one imports much, which is not the loop's time
FOLDER.mkdir(exist_ok=True)


def loop() -> tuple[float, float]:
    for _ in range(work.EPOCHS):
        pairs = list(zip(x_train, y_train, strict=True))
        for x, y in DataLoader(pairs, batch_size=work.BATCH_SIZE, shuffle=True):  # type: ignore[arg-type]
            train(model, x, y)
        torch.save(model.state_dict(), FOLDER / "model.pt")
        accuracies = evaluate(model, x_train, y_train), evaluate(model, x_val, y_val)
        metrics = dict(zip(("train", "val"), accuracies, strict=True))
        (FOLDER / "metrics.json").write_text(json.dumps(metrics))
    return accuracies


work.timed(loop)
