"""Torch without its classes: `randperm`, `index_select`, autograd, and the update by hand."""

import torch
import work
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

splits = {name: tuple(map(torch.from_numpy, work.digits(name))) for name in ("train", "val")}
x, y = splits["train"]
x = x.flatten(1)
torch.manual_seed(work.SEED)
weight = torch.empty(10, 784).uniform_(-1 / 28, 1 / 28).requires_grad_()
bias = torch.zeros(10, requires_grad=True)


def accuracy(images: Tensor, labels: Tensor) -> float:
    with torch.inference_mode():
        return float((linear(images.flatten(1), weight, bias).argmax(1) == labels).float().mean())


def loop() -> tuple[float, float]:
    for _ in range(work.EPOCHS):
        for batch in torch.randperm(len(y)).split(work.BATCH_SIZE):
            logits = linear(x.index_select(0, batch), weight, bias)
            loss = cross_entropy(logits, y.index_select(0, batch))
            of_weight, of_bias = torch.autograd.grad(loss, (weight, bias))
            with torch.no_grad():
                weight.sub_(of_weight, alpha=work.LR)
                bias.sub_(of_bias, alpha=work.LR)
        accuracies = accuracy(*splits["train"]), accuracy(*splits["val"])
    return accuracies


work.timed(loop)
