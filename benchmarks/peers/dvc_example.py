"""As DVC's MNIST example does it: a new optimizer for each batch, a split scored in one piece.

The style of https://github.com/iterative/checkpoints-tutorial: a checkpoint and a file of
metrics after each epoch.
"""

import json
from pathlib import Path

import torch
import work
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

FOLDER = Path("data/dvc_example")


def transformed(name: str) -> tuple[Tensor, Tensor]:
    images, labels = work.digits(name)
    return torch.from_numpy(images), torch.from_numpy(labels)


def train(model: nn.Module, x: Tensor, y: Tensor) -> None:
    model.train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=work.LR)
    y_pred = model(x)
    loss = criterion(y_pred, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def evaluate(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        y_pred = model(x)
        loss = nn.CrossEntropyLoss()(y_pred, y).item()
        correct = (y_pred.argmax(dim=1) == y).sum().item()
    return {"acc": correct / len(y), "loss": loss}


x_train, y_train = transformed("train")
x_val, y_val = transformed("val")
model = work.network()
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=work.BATCH_SIZE, shuffle=True)
FOLDER.mkdir(exist_ok=True)
torch.optim.SGD(model.parameters())  # the first one imports much, which is not the loop's time


def loop() -> tuple[float, float]:
    for _ in range(work.EPOCHS):
        for x, y in loader:
            train(model, x, y)
        torch.save(model.state_dict(), FOLDER / "model.pt")
        metrics = {"train": evaluate(model, x_train, y_train), "val": evaluate(model, x_val, y_val)}
        (FOLDER / "metrics.json").write_text(json.dumps(metrics))
    return metrics["train"]["acc"], metrics["val"]["acc"]


work.timed(loop)
