"""As PyTorch's own MNIST example does it: torchvision's data set, transformed image by image.

The style of https://github.com/pytorch/examples/tree/main/mnist. Its folder of MNIST, in which
val takes the place of the test images, is `data/idx`.
"""

import torch
import work
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


def train(model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer) -> None:  # type: ignore[type-arg]
    model.train()
    for data, target in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(data), target)
        loss.backward()
        optimizer.step()


def test(model: nn.Module, loader: DataLoader) -> float:  # type: ignore[type-arg]
    model.eval()
    test_loss, correct = 0.0, 0
    with torch.no_grad():
        for data, target in loader:
            output = model(data)
            test_loss += cross_entropy(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += int(pred.eq(target.view_as(pred)).sum().item())
    return correct / len(loader.dataset)  # type: ignore[arg-type]


transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.1307, 0.3081)])
train_data = datasets.MNIST("data/idx", train=True, transform=transform)
test_data = datasets.MNIST("data/idx", train=False, transform=transform)
train_loader = DataLoader(train_data, batch_size=work.BATCH_SIZE, shuffle=True)
test_loader = DataLoader(test_data, batch_size=1000)
model = work.network()
optimizer = torch.optim.SGD(model.parameters(), lr=work.LR)


def loop() -> tuple[float, float]:
    for _ in range(work.EPOCHS):
        train(model, train_loader, optimizer)
        accuracies = test(model, train_loader), test(model, test_loader)
    return accuracies


work.timed(loop)
