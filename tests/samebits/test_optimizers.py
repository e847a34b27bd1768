"""The steps of the optimizers and the learning rates, compared with torch's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from samebits import SGD, Adam, one_cycle

NESTEROV: dict[str, Any] = {"momentum": 0.9, "nesterov": True}
OPTIMIZERS: list[tuple[Callable[..., SGD | Adam], Any, dict[str, Any], dict[str, Any]]] = [
    (SGD, torch.optim.SGD, {}, {}),
    (SGD, torch.optim.SGD, {"momentum": 0.9}, {"momentum": 0.9}),
    (SGD, torch.optim.SGD, NESTEROV, NESTEROV),
    (Adam, torch.optim.Adam, {}, {}),
    (Adam, torch.optim.AdamW, {"decoupled": True}, {}),
]


@pytest.mark.parametrize(("ours", "torchs", "options", "torch_options"), OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_steps_equal_torch(
    ours: Callable[..., SGD | Adam],
    torchs: Any,
    options: dict[str, Any],
    torch_options: dict[str, Any],
    weight_decay: float,
) -> None:
    torch.manual_seed(0)
    weights = [torch.rand(20), torch.rand(3, 4)]
    expected = [torch.nn.Parameter(weight.clone()) for weight in weights]
    optimizer = ours(weights, weight_decay=weight_decay, **options)
    reference = torchs(expected, lr=0.05, weight_decay=weight_decay, **torch_options)
    schedule = OneCycleLR(
        reference, 0.05, total_steps=30, anneal_strategy="linear", cycle_momentum=False
    )
    for step in range(1, 31):
        gradients = [torch.randn_like(weight) for weight in weights]
        for weight, gradient in zip(expected, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step(gradients, one_cycle(step, 30, 0.05))
        reference.step()
        if step < 30:
            schedule.step()
        torch.testing.assert_close(weights, [w.detach() for w in expected], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("ours", "torchs", "options", "torch_options"), OPTIMIZERS)
def test_replicas_at_once_have_the_bits_that_each_has_alone(
    ours: Callable[..., SGD | Adam], torchs: Any, options: dict[str, Any], torch_options: Any
) -> None:
    torch.manual_seed(0)
    together = torch.rand(3, 5, 4)
    alone = [weight.clone() for weight in together]
    optimizers = [ours([weight], weight_decay=0.1, **options) for weight in alone]
    of_all = ours([together], weight_decay=0.1, **options)
    for _ in range(5):
        gradients = torch.randn(3, 5, 4)
        of_all.step([gradients], 0.05)
        for optimizer, gradient in zip(optimizers, gradients, strict=True):
            optimizer.step([gradient], 0.05)
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("total_steps", [1, 2, 3, 4, 10, 320])
def test_one_cycle_rises_and_falls_over_any_number_of_steps(total_steps: int) -> None:
    rates = [one_cycle(step, total_steps, 0.1) for step in range(1, total_steps + 1)]
    assert all(0 < rate <= 0.1 for rate in rates)
    peak = rates.index(max(rates))
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 250_000)
