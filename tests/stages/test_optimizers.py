"""The steps and the learning rates, against torch's own."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from stages.learning.optimizers import NUM_MOMENTS, learning_rate, optimizer_step
from tests.helpers.training import train_params

TORCHS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("adam", {}),
        ("adamw", {}),
    ],
)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_steps_are_torchs(
    optimizer: str, more: dict[str, Any], weight_decay: float, schedule: str
) -> None:
    settings = train_params(
        optimizer=optimizer, weight_decay=weight_decay, schedule=schedule, lr=0.05, **more
    )
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.rand(20)), torch.nn.Parameter(torch.rand(3, 4))]
    expected = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    torchs = TORCHS[optimizer](expected, lr=0.05, weight_decay=weight_decay, **more)
    if schedule == "one_cycle":
        scheduler = OneCycleLR(
            torchs, 0.05, total_steps=30, anneal_strategy="linear", cycle_momentum=False
        )
    moments = [[torch.zeros_like(w) for _ in range(NUM_MOMENTS[optimizer])] for w in weights]
    for number in range(1, 31):
        gradients = tuple(torch.randn_like(weight) for weight in weights)
        for weight, gradient in zip(expected, gradients, strict=True):
            weight.grad = gradient.clone()
        torchs.step()
        if schedule == "one_cycle" and number < 30:
            scheduler.step()
        optimizer_step(weights, gradients, moments, number, 30, settings)
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 320])
def test_a_cycle_rises_and_falls_over_any_number_of_steps(steps: int) -> None:
    settings = train_params(schedule="one_cycle", lr=0.1)
    rates = [learning_rate(number, steps, settings) for number in range(1, steps + 1)]
    assert all(0 < rate <= 0.1 for rate in rates)
    top = rates.index(max(rates))
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 250_000)


def test_a_constant_rate_stays() -> None:
    assert {learning_rate(number, 9, train_params(lr=0.1)) for number in range(1, 10)} == {0.1}
