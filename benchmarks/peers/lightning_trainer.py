"""As Lightning does it: a LightningModule, and a Trainer without logger, checkpoints and bars.

The style of https://lightning.ai/docs/pytorch/stable/starter/introduction.html
"""

import logging
import warnings
from typing import Any

import lightning
import torch
import work
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


class Classifier(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.network = work.network()
        self.correct = {"train": 0, "val": 0}
        self.total = {"train": 0, "val": 0}

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        images, labels = batch
        return cross_entropy(self.network(images), labels)

    def on_validation_epoch_start(self) -> None:
        self.correct, self.total = {"train": 0, "val": 0}, {"train": 0, "val": 0}

    def validation_step(self, batch: list[Tensor], _: int, dataloader_idx: int) -> None:
        images, labels = batch
        name = ("train", "val")[dataloader_idx]
        self.correct[name] += int((self.network(images).argmax(1) == labels).sum())
        self.total[name] += len(labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=work.LR)


def loader(name: str, shuffle: bool) -> DataLoader[Any]:
    images, labels = work.digits(name)
    data = TensorDataset(torch.from_numpy(images), torch.from_numpy(labels))
    return DataLoader(data, batch_size=work.BATCH_SIZE, shuffle=shuffle)


logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")  # that more workers might be faster
scored = [loader("train", False), loader("val", False)]
model = Classifier()
trainer = lightning.Trainer(
    max_epochs=work.EPOCHS,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    num_sanity_val_steps=0,
)


def loop() -> tuple[float, float]:
    trainer.fit(model, loader("train", True), scored)
    return tuple(model.correct[name] / model.total[name] for name in ("train", "val"))  # type: ignore[return-value]


work.timed(loop)
