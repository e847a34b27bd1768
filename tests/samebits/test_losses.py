"""The losses, exponentials and logarithms, compared with torch's float64 and with decimals."""

import math
from decimal import Decimal, getcontext
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional

import samebits
from samebits import plain_float32

getcontext().prec = 40


@pytest.mark.parametrize("classes", [2, 10, 26, 1_000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(20,), (3, 20)])
def test_cross_entropy_equals_torch(shape: tuple[int, ...], smoothing: float, classes: int) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(*shape, classes) * 5).requires_grad_()
    labels = torch.randint(0, classes, shape)
    result = samebits.cross_entropy(logits, labels, smoothing)
    exact = logits.detach().double().requires_grad_()
    of_examples = functional.cross_entropy(
        exact.flatten(0, -2), labels.flatten(), label_smoothing=smoothing, reduction="none"
    )
    expected = of_examples.view(shape).mean(-1)
    torch.testing.assert_close(result, expected, rtol=1e-8, atol=1e-11)
    [ours], [torchs] = (
        torch.autograd.grad(loss.sum() * 3, [of])
        for loss, of in ((result, logits), (expected, exact))
    )
    torch.testing.assert_close(ours.double(), torchs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_mse_equals_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 10, requires_grad=True)
    labels = torch.randint(0, 10, (20,))
    targets = torch.eye(10, dtype=torch.float64)[labels] * (1 - smoothing) + smoothing / 10
    expected = functional.mse_loss(logits.double(), targets)
    result = samebits.mse(logits, labels, smoothing)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(result, logits), torch.autograd.grad(expected, logits)
    )


@pytest.mark.parametrize("module", [samebits, plain_float32])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_examples_equal_torch(module: ModuleType, smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 7, requires_grad=True)
    labels = torch.randint(0, 7, (20,))
    weights = torch.rand(20, dtype=torch.float64) * 3
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    targets = torch.eye(7)[labels] * (1 - smoothing) + smoothing / 7
    squares = functional.mse_loss(logits, targets, reduction="none").mean(1)
    for name, of_examples in (("cross_entropy", losses), ("mse", squares)):
        function = getattr(module, name)
        result = function(logits, labels, smoothing, weights)
        expected = (of_examples * weights).mean()
        assert result.item() == pytest.approx(expected.item(), rel=1e-6)
        torch.testing.assert_close(
            torch.autograd.grad(result, logits),
            torch.autograd.grad(expected.float(), logits),
            rtol=1e-5,
            atol=1e-7,
        )
        ones = function(logits, labels, smoothing, torch.ones_like(weights))
        assert ones.item() == pytest.approx(function(logits, labels, smoothing).item(), rel=1e-6)


def test_infinity_and_nan_are_not_hidden() -> None:
    for value in (math.inf, math.nan):
        loss = samebits.cross_entropy(torch.tensor([[1.0, value]]), torch.tensor([0]))
        assert not loss.isfinite()
    assert samebits.cross_entropy(torch.tensor([[1.0, -math.inf]]), torch.tensor([0])).isfinite()


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_of_no_class_is_refused(label: int) -> None:
    for loss in (samebits.cross_entropy, samebits.mse):
        with pytest.raises(IndexError, match="3 classes"):
            loss(torch.zeros(2, 3), torch.tensor([0, label]))


def test_exp_is_accurate() -> None:
    x = torch.linspace(-64, 0, 2_001, dtype=torch.float64)
    for result, value in zip(samebits.exp(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(result) / Decimal(value).exp() - 1) < Decimal("1e-9")
    assert samebits.exp(torch.zeros(1)).item() == 1.0
    assert 0 < samebits.exp(torch.tensor([-1e300], dtype=torch.float64)).item() < 1e-27
    assert samebits.exp(torch.tensor([math.nan])).isnan()


@pytest.mark.parametrize("end", [10.0, 100.0, 1_000.0, 1e12])
def test_log_is_accurate(end: float) -> None:
    """Also where a number is divided by ten once more."""
    around = [np.nextafter(end, 0), end, np.nextafter(end, 1)]
    x = torch.cat([torch.linspace(1, end, 2_001, dtype=torch.float64), torch.tensor(around)])
    for result, value in zip(samebits.log(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(result) - Decimal(value).ln()) < Decimal("1e-11")
