"""The steps of the optimizers and the learning rates, compared with torch's."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from samebits.optimizers import NUM_MOMENTS, learning_rate, optimizer_step
from tests.helpers.training import train_params

TORCH_OPTIMIZERS: dict[str, Any] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize(
    ("name", "options"),
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
def test_optimizer_steps_equal_torch(
    name: str, options: dict[str, Any], weight_decay: float, schedule: str
) -> None:
    params = train_params(
        optimizer=name, weight_decay=weight_decay, schedule=schedule, lr=0.05, **options
    )
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.rand(20)), torch.nn.Parameter(torch.rand(3, 4))]
    expected = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    optimizer = TORCH_OPTIMIZERS[name](expected, lr=0.05, weight_decay=weight_decay, **options)
    if schedule == "one_cycle":
        scheduler = OneCycleLR(
            optimizer, 0.05, total_steps=30, anneal_strategy="linear", cycle_momentum=False
        )
    moments = [[torch.zeros_like(w) for _ in range(NUM_MOMENTS[name])] for w in weights]
    for iteration in range(1, 31):
        gradients = tuple(torch.randn_like(weight) for weight in weights)
        for weight, gradient in zip(expected, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        if schedule == "one_cycle" and iteration < 30:
            scheduler.step()
        optimizer_step(weights, gradients, moments, iteration, 30, params)
        torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("total_iterations", [1, 2, 3, 4, 10, 320])
def test_one_cycle_rises_and_falls_over_any_number_of_iterations(total_iterations: int) -> None:
    params = train_params(schedule="one_cycle", lr=0.1)
    rates = [
        learning_rate(iteration, total_iterations, params)
        for iteration in range(1, total_iterations + 1)
    ]
    assert all(0 < rate <= 0.1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 250_000)


def test_a_constant_learning_rate_does_not_change() -> None:
    params = train_params(lr=0.1)
    assert {learning_rate(iteration, 9, params) for iteration in range(1, 10)} == {0.1}
