"""The exact layers and losses, against Python's integers and against torch's float64."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from stages.arithmetic import exact, exact_math
from tests.helpers.grids import adversarial, scale, steps


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_those_of_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 30, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(10, 30, requires_grad=True), torch.randn(10, requires_grad=True)
    labels = torch.randint(0, 10, (20,))
    found = exact.cross_entropy(exact.linear(x, weight, bias), labels, smoothing)
    expected = torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(x, weight.double(), bias.double()),
        labels,
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    inputs = [x, weight, bias]
    for mine, torchs in zip(
        torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True
    ):
        assert mine.dtype == torchs.dtype
        torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-6)


def test_numbers_that_are_not_finite_stay_so() -> None:
    for number in (math.inf, -math.inf, math.nan):
        x = torch.tensor([[1.0, number]], dtype=torch.float64)
        assert not exact_math.matmul(x, torch.ones(2, 1)).isfinite().any()
        loss = exact.cross_entropy(x.clamp(min=0), torch.tensor([0]), 0.0)
        assert loss.isfinite() == (number == -math.inf)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_squared_errors_are_torchs(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 10, (20,))
    wanted = torch.eye(10, dtype=torch.float64)[labels] * (1 - smoothing) + smoothing / 10
    expected = torch.nn.functional.mse_loss(logits, wanted)
    found = exact.mse(logits, labels, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits), torch.autograd.grad(expected, logits)
    )


CONVOLUTIONS = [(1, 1, 8, 28), (5, 8, 16, 12), (6, 4, 2, 9)]  # images, channels before, after, size


@pytest.mark.parametrize(("n", "before", "after", "size"), CONVOLUTIONS)
@pytest.mark.parametrize("spread", [0, 10])
def test_a_convolution_is_the_sum_of_integers(
    n: int, before: int, after: int, size: int, spread: int
) -> None:
    x, weight = (
        adversarial((n, before, size, size), 1, spread),
        adversarial((after, before, 3, 3), 2, spread),
    )
    found = exact.conv2d(x, weight)
    bits = (53 - (9 * before).bit_length()) // 2
    i, j = steps(x, bits), steps(weight, bits)
    step = scale(x, bits) * scale(weight, bits)
    for image, channel, row, column in [(0, 0, 0, 0), (n - 1, after - 1, size - 3, size - 3)]:
        window = i[image, :, row : row + 3, column : column + 3]
        assert (
            Fraction(found[image, channel, row, column].item())
            == (window * j[channel]).sum() * step
        )


@pytest.mark.parametrize(("n", "before", "after", "size"), CONVOLUTIONS)
def test_a_convolution_and_its_gradients_are_torchs(
    n: int, before: int, after: int, size: int
) -> None:
    torch.manual_seed(0)
    x = torch.rand(n, before, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(after, before, 3, 3, dtype=torch.float64, requires_grad=True)
    found, expected = exact.conv2d(x, weight), torch.nn.functional.conv2d(x, weight)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    errors = torch.randn_like(expected)
    for mine, torchs in zip(
        torch.autograd.grad(found, [x, weight], errors),
        torch.autograd.grad(expected, [x, weight], errors),
        strict=True,
    ):
        torch.testing.assert_close(mine, torchs, rtol=1e-4, atol=1e-4)


def test_a_convolution_of_bytes_is_exact() -> None:
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    weight = adversarial((2, 1, 3, 3), 1, 10)
    found = exact.conv2d(images, weight)
    j = steps(weight, 53 - 8 - 4)
    window = images[2, 0, 5:8, 7:10].numpy().astype(object)
    assert found[2, 1, 5, 7].item() == float((window * j[1, 0]).sum() * scale(weight, 41)) / 255


@pytest.mark.parametrize("images", [1, 3, 4, 9])
def test_how_many_images_are_convolved_at_once_does_not_matter(images: int) -> None:
    x, weight = adversarial((images, 2, 7, 7), 1, 3), adversarial((3, 2, 3, 3), 2, 3)
    one_by_one = torch.ones(images, 3, 5, 5, dtype=torch.float64)
    results = []
    for at_once in (1, 2, 100):
        exact.CHUNK, usual = at_once, exact.CHUNK
        try:
            weight.requires_grad_()
            found = exact.conv2d(x, weight)
            results.append([found, *torch.autograd.grad(found, weight, one_by_one)])
        finally:
            exact.CHUNK = usual
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalisation_is_torchs(training: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    scale, shift = torch.rand(5, requires_grad=True), torch.rand(5, requires_grad=True)
    mean, var = torch.rand(5), torch.rand(5) + 0.5
    torchs = mean.double(), var.double()
    expected = torch.nn.functional.batch_norm(x, *torchs, scale.double(), shift.double(), training)
    found = exact.batch_norm(x, mean, var, scale, shift, training)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((mean.double(), var.double()), torchs, rtol=1e-6, atol=1e-7)
    if training:
        errors = torch.randn_like(expected)
        inputs = [x, scale, shift]
        for a, b in zip(
            torch.autograd.grad(found, inputs, errors),
            torch.autograd.grad(expected, inputs, errors),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_batch_normalisation_is_the_same_in_any_order() -> None:
    x = adversarial((6, 2, 4, 4), 1, 5)
    order = torch.from_numpy(np.random.default_rng(3).permutation(6))

    def normal(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = torch.zeros(2), torch.ones(2)
        return exact.batch_norm(x, mean, var, torch.ones(2), torch.zeros(2), True), mean, var

    found, shuffled = normal(x), normal(x[order])
    assert torch.equal(found[0][order], shuffled[0])
    assert torch.equal(found[1], shuffled[1])
    assert torch.equal(found[2], shuffled[2])
