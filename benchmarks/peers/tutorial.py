"""As a first tutorial does it: a list of images and labels, a DataLoader, a module, an optimizer.

The style of https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
"""

import torch
import work
from torch import nn
from torch.utils.data import DataLoader


def loader(name: str, shuffle: bool) -> DataLoader:  # type: ignore[type-arg]
    images, labels = work.digits(name)
    pairs = [
        (torch.from_numpy(image), int(label)) for image, label in zip(images, labels, strict=True)
    ]
    return DataLoader(pairs, batch_size=work.BATCH_SIZE, shuffle=shuffle)  # type: ignore[arg-type]


train_loader, val_loader = loader("train", True), loader("val", False)
model = work.network()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=work.LR)


def train() -> None:
    model.train()
    for images, labels in train_loader:
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def accuracy(loader: DataLoader) -> float:  # type: ignore[type-arg]
    model.eval()
    correct, total = 0, 0
    with torch.no_grad():
        for images, labels in loader:
            correct += int((model(images).argmax(1) == labels).sum())
            total += len(labels)
    return correct / total


def loop() -> tuple[float, float]:
    for _ in range(work.EPOCHS):
        train()
        accuracies = accuracy(train_loader), accuracy(val_loader)
    return accuracies


work.timed(loop)
