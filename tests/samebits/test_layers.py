"""The exact layers and losses, compared with Python's integers and with torch's float64."""

import math
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import samebits
from samebits import layers, plain_float32
from tests.samebits.grids import grid_steps, step_size, wide_range


@pytest.mark.parametrize("classes", [2, 10, 26, 1_000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_linear_and_cross_entropy_equal_torch(smoothing: float, classes: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 30, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(classes, 30, requires_grad=True)
    bias = torch.randn(classes, requires_grad=True)
    labels = torch.randint(0, classes, (20,))
    result = samebits.cross_entropy(samebits.linear(x, weight, bias), labels, smoothing)
    expected = functional.cross_entropy(
        functional.linear(x, weight.double(), bias.double()), labels, label_smoothing=smoothing
    )
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=0)
    inputs = [x, weight, bias]
    gradients = torch.autograd.grad(result, inputs)
    # assert_close also compares the dtypes.
    torch.testing.assert_close(
        gradients, torch.autograd.grad(expected, inputs), rtol=1e-4, atol=1e-6
    )


def test_infinity_and_nan_are_not_hidden() -> None:
    for value in (math.inf, -math.inf, math.nan):
        x = torch.tensor([[1.0, value]], dtype=torch.float64)
        assert not samebits.matmul(x, torch.ones(2, 1)).isfinite().any()
        loss = samebits.cross_entropy(x.clamp(min=0), torch.tensor([0]), 0.0)
        assert loss.isfinite() == (value == -math.inf)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_mse_equals_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 10, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 10, (20,))
    targets = torch.eye(10, dtype=torch.float64)[labels] * (1 - smoothing) + smoothing / 10
    expected = functional.mse_loss(logits, targets)
    result = samebits.mse(logits, labels, smoothing)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(result, logits), torch.autograd.grad(expected, logits)
    )


@pytest.mark.parametrize("precision", [samebits, plain_float32])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_of_examples_equal_torch(precision: ModuleType, smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(20, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 7, (20,))
    weights = torch.rand(20, dtype=torch.float64) * 3
    losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    targets = torch.eye(7, dtype=torch.float64)[labels] * (1 - smoothing) + smoothing / 7
    squares = functional.mse_loss(logits, targets, reduction="none").mean(1)
    for name, of_examples in (("cross_entropy", losses), ("mse", squares)):
        function = getattr(precision, name)
        result, expected = (
            function(logits, labels, smoothing, weights),
            (of_examples * weights).mean(),
        )
        torch.testing.assert_close(result, expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(
            torch.autograd.grad(result, logits),
            torch.autograd.grad(expected, logits),
            rtol=1e-5,
            atol=1e-8,
        )
        ones = function(logits, labels, smoothing, torch.ones_like(weights))
        torch.testing.assert_close(ones, function(logits, labels, smoothing), rtol=1e-12, atol=0)


# n, in_channels, out_channels, size
CONVOLUTIONS = [(1, 1, 8, 28), (5, 8, 16, 12), (6, 4, 2, 9)]


@pytest.mark.parametrize(("n", "in_channels", "out_channels", "size"), CONVOLUTIONS)
@pytest.mark.parametrize("spread", [0, 10])
def test_conv2d_is_an_integer_sum(
    n: int, in_channels: int, out_channels: int, size: int, spread: int
) -> None:
    x = wide_range((n, in_channels, size, size), 1, spread)
    weight = wide_range((out_channels, in_channels, 3, 3), 2, spread)
    result = samebits.conv2d(x, weight)
    bits = (53 - (9 * in_channels).bit_length()) // 2
    i, j = grid_steps(x, bits), grid_steps(weight, bits)
    step = step_size(x, bits) * step_size(weight, bits)
    # The first and the last entry of the result.
    for image, channel, row, column in [
        (0, 0, 0, 0),
        (n - 1, out_channels - 1, size - 3, size - 3),
    ]:
        window = i[image, :, row : row + 3, column : column + 3]
        expected = (window * j[channel]).sum() * step
        assert Fraction(result[image, channel, row, column].item()) == expected


@pytest.mark.parametrize(("n", "in_channels", "out_channels", "size"), CONVOLUTIONS)
def test_conv2d_and_its_gradients_are_sums_over_windows(
    n: int, in_channels: int, out_channels: int, size: int
) -> None:
    torch.manual_seed(0)
    x = torch.rand(n, in_channels, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(out_channels, in_channels, 3, 3, dtype=torch.float64, requires_grad=True)
    windows = x.unfold(2, 3, 1).unfold(3, 3, 1)
    expected = torch.einsum("nchwij,dcij->ndhw", windows, weight)
    result = samebits.conv2d(x, weight)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    grad_result = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(result, [x, weight], grad_result),
        torch.autograd.grad(expected, [x, weight], grad_result),
        rtol=1e-4,
        atol=1e-4,
    )


def test_conv2d_of_uint8_is_an_integer_sum() -> None:
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    weight = wide_range((2, 1, 3, 3), 1, 10)
    result = samebits.conv2d(images, weight)
    bits = 53 - 8 - 4  # 9 terms: 4 bits
    window = images[2, 0, 5:8, 7:10].numpy().astype(object)
    expected = (window * grid_steps(weight, bits)[1, 0]).sum() * step_size(weight, bits)
    assert result[2, 1, 5, 7].item() == float(expected) / 255


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_conv2d_gives_the_same_bits_for_any_chunk(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = wide_range((n, 2, 7, 7), 1, 3)
    weight = wide_range((3, 2, 3, 3), 2, 3).requires_grad_()
    grad_result = torch.ones(n, 3, 5, 5, dtype=torch.float64)
    results = []
    for images_at_once in (1, 2, 100):
        monkeypatch.setattr(layers, "CHUNK", images_at_once * 2 * 9 * 7 * 7)
        result = samebits.conv2d(x, weight)
        results.append([result, *torch.autograd.grad(result, weight, grad_result)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


@pytest.mark.parametrize("size", [2, 7, 8])
def test_max_pool2d_and_its_gradient_equal_torch_with_equal_pixels_too(size: int) -> None:
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (4, 3, size, size)).double().requires_grad_()
    result, expected = samebits.max_pool2d(x), functional.max_pool2d(x, 2)
    assert torch.equal(result, expected)
    grad_result = torch.randn_like(expected)
    [grad_x], [expected_grad_x] = (
        torch.autograd.grad(y, [x], grad_result) for y in (result, expected)
    )
    assert torch.equal(grad_x, expected_grad_x)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_gradients_equal_torch(training: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    scale, shift = torch.rand(5, requires_grad=True), torch.rand(5, requires_grad=True)
    mean, var = torch.rand(5), torch.rand(5) + 0.5
    expected_mean, expected_var = mean.double(), var.double()
    expected = functional.batch_norm(
        x, expected_mean, expected_var, scale.double(), shift.double(), training
    )
    result = samebits.batch_norm(x, mean, var, scale, shift, training)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(var.double(), expected_var, rtol=1e-6, atol=1e-7)
    grad_result = torch.randn_like(expected)
    inputs = [x, scale, shift]
    torch.testing.assert_close(
        torch.autograd.grad(result, inputs, grad_result),
        torch.autograd.grad(expected, inputs, grad_result),
        rtol=1e-5,
        atol=1e-7,
    )


def test_batch_norm_gives_the_same_bits_in_any_order() -> None:
    x = wide_range((6, 2, 4, 4), 1, 5)
    order = torch.from_numpy(np.random.default_rng(3).permutation(6))

    def normalize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = torch.zeros(2), torch.ones(2)
        return samebits.batch_norm(x, mean, var, torch.ones(2), torch.zeros(2), True), mean, var

    (result, mean, var), (shuffled, shuffled_mean, shuffled_var) = normalize(x), normalize(x[order])
    assert torch.equal(result[order], shuffled)
    assert torch.equal(mean, shuffled_mean)
    assert torch.equal(var, shuffled_var)
