"""Models that differ in their weights alone, trained as one batch."""

from collections.abc import Sequence

import torch
from torch import nn


def stack_weights(model: nn.Module, parts: Sequence[nn.Module]) -> None:
    """Give `model` the weights of all `parts` along a new first dimension.

    From then on they share its memory: a step of `model` is a step of each of them.
    """
    for stacked, *weights in zip(
        model.parameters(), *(part.parameters() for part in parts), strict=True
    ):
        stacked.data = torch.stack([weight.data for weight in weights])
        for weight, data in zip(weights, stacked.data, strict=True):
            weight.data = data
