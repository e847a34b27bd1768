"""The floor: softmax regression in NumPy, its gradient by hand, and no torch at all."""

import numpy as np
import work

splits = {name: work.digits(name) for name in ("train", "val")}
x, y = splits["train"]
x, targets = x.reshape(-1, 784), np.eye(10, dtype=np.float32)[y]
random = np.random.default_rng(work.SEED)
weight = random.uniform(-1 / 28, 1 / 28, (784, 10)).astype(np.float32)
bias = np.zeros(10, np.float32)


def accuracy(images: work.Array, labels: work.Array) -> float:
    return float(((images.reshape(-1, 784) @ weight + bias).argmax(1) == labels).mean())


def loop() -> tuple[float, float]:
    global weight, bias
    for _ in range(work.EPOCHS):
        order = random.permutation(len(y))
        for start in range(0, len(y), work.BATCH_SIZE):
            batch = order[start : start + work.BATCH_SIZE]
            images = x[batch]
            logits = images @ weight + bias
            errors = np.exp(logits - logits.max(1, keepdims=True))
            errors /= errors.sum(1, keepdims=True)
            errors -= targets[batch]
            weight -= work.LR / len(batch) * (images.T @ errors)
            bias -= work.LR / len(batch) * errors.sum(0)
        accuracies = accuracy(*splits["train"]), accuracy(*splits["val"])
    return accuracies


work.timed(loop)
