"""The layers, compared with torch's float64 within a bound, and with their chains to the bit."""

import itertools
import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import samebits
from samebits import layers
from tests.helpers.project import ROOT
from tests.samebits import chains

EPSILON = 2.0**-24  # the largest relative error of a rounding to float32


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_within(result: Tensor, expected: Tensor, magnitude: Tensor, terms: int) -> None:
    """Assert that a sum of products is as near as n roundings leave it.

    magnitude: the sum of the products' magnitudes. Each of n roundings errs by at most a fraction
    2^-24 of a partial sum, which is at most the magnitude (Higham 2002, Accuracy and Stability of
    Numerical Algorithms, section 3.1).
    """
    bound = terms * EPSILON / (1 - terms * EPSILON) * magnitude
    assert ((result.double() - expected).abs() <= bound).all()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    n=st.sampled_from([1, 2, 15, 17]),
    channels=st.sampled_from([1, 2, 3, 16, 17]),
    outputs=st.sampled_from([1, 5, 16, 26, 33]),
    size=st.integers(1, 5),
    stride=st.integers(1, 3),
    height=st.integers(8, 15),
    width=st.integers(8, 15),
    pool=st.booleans(),
    is_uint8=st.booleans(),
)
def test_conv2d_and_its_gradients_are_sums_of_products(
    n: int,
    channels: int,
    outputs: int,
    size: int,
    stride: int,
    height: int,
    width: int,
    pool: bool,
    is_uint8: bool,
) -> None:
    if min(height, width) < size + stride:
        pool = False
    x = values(n, channels, height, width)
    if is_uint8:
        x = (x.abs() * 80).clamp(max=255).to(torch.uint8)
    weight, bias = values(outputs, channels, size, size, seed=1), values(outputs, seed=2)
    inputs = [weight.requires_grad_(), bias.requires_grad_()]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    scaled = x.double() / 255 if is_uint8 else x.double()
    if not is_uint8:
        inputs.append(x.requires_grad_())
        exact.append(scaled.detach().requires_grad_())
        scaled = exact[-1]
    result = samebits.conv2d(x, weight, bias, stride=stride, pool=pool)
    expected = functional.conv2d(scaled, exact[0], exact[1], stride=stride)
    magnitude = functional.conv2d(
        scaled.abs(), weight.double().abs(), bias.double().abs(), stride=stride
    )
    if pool:
        expected, magnitude = (functional.max_pool2d(y, 2) for y in (expected, magnitude))
    # A pixel of uint8 is rounded, too.
    assert_within(result, expected, magnitude, channels * size * size + 2)
    gradient = values(*result.shape, seed=3)
    ours = torch.autograd.grad(result, inputs, gradient)
    torchs = torch.autograd.grad(expected, exact, gradient.double())
    for tensor, reference in zip(ours, torchs, strict=True):
        scale = reference.abs().max()
        assert ((tensor.double() - reference).abs() <= 2e-5 * scale + 1e-6).all()


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize(
    ("n", "channels", "outputs", "side", "size", "stride"),
    [(2, 3, 2, 6, 3, 1), (3, 2, 17, 5, 2, 1), (2, 17, 1, 5, 1, 2), (18, 1, 2, 5, 3, 1)],
)
def test_conv2d_computes_its_chains_to_the_bit(
    n: int, channels: int, outputs: int, side: int, size: int, stride: int, pool: bool
) -> None:
    x, weight = values(n, channels, side, side), values(outputs, channels, size, size, seed=1)
    result = samebits.conv2d(x.requires_grad_(), weight.requires_grad_(), stride=stride, pool=pool)
    expected = chains.convolve(x.detach().numpy(), weight.detach().numpy(), stride)
    winners = None
    if pool:
        expected, winners = chains.pooled(expected)
    np.testing.assert_array_equal(result.detach().numpy(), expected)
    gradient = values(*result.shape, seed=2)
    of_x, of_weight = torch.autograd.grad(result, [x, weight], gradient)
    inputs = x.detach().numpy(), weight.detach().numpy(), gradient.numpy(), winners, stride
    np.testing.assert_array_equal(of_weight.numpy(), chains.weights_gradient(*inputs, layers.CHUNK))
    np.testing.assert_array_equal(of_x.numpy(), chains.images_gradient(*inputs))


def test_linear_computes_its_chains_to_the_bit() -> None:
    x, weight, bias = values(3, 19), values(5, 19, seed=1), values(5, seed=2)
    result = samebits.linear(x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())
    a, b, gradient = x.detach().numpy(), weight.detach().numpy(), values(3, 5, seed=3)
    g = gradient.numpy()
    for i, m in itertools.product(range(3), range(5)):
        total = chains.chain(zip(a[i], b[m], strict=True))
        assert result[i, m].item() == total + bias.detach().numpy()[m]
    of_x, of_weight, _ = torch.autograd.grad(result, [x, weight, bias], gradient)
    for i, k in itertools.product(range(3), range(19)):
        assert of_x[i, k].item() == chains.chain(zip(g[i], b[:, k], strict=True))
    for m, k in itertools.product(range(5), range(19)):
        assert of_weight[m, k].item() == chains.chain(zip(g[:, m], a[:, k], strict=True))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from([(), (1,), (3,)]),
    st.sampled_from([1, 2, 15, 17, 300]),
    st.sampled_from([1, 7, 16, 100]),
    st.sampled_from([1, 2, 10, 33]),
)
def test_linear_and_its_gradients_are_sums_of_products(
    replicas: tuple[int, ...], n: int, features: int, outputs: int
) -> None:
    inputs = [
        values(*replicas, n, features).requires_grad_(),
        values(*replicas, outputs, features, seed=1).requires_grad_(),
        values(*replicas, outputs, seed=2).requires_grad_(),
    ]
    x, weight, bias = exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    result = samebits.linear(*inputs)
    expected = x @ weight.mT + bias.unsqueeze(-2)
    magnitude = x.abs() @ weight.abs().mT + bias.abs().unsqueeze(-2)
    assert_within(result, expected, magnitude, features + 1)
    gradient = values(*result.shape, seed=3)
    ours = torch.autograd.grad(result, inputs, gradient)
    torchs = torch.autograd.grad(expected, exact, gradient.double())
    g = gradient.double().abs()
    magnitudes = g @ weight.abs(), g.mT @ x.abs(), g.sum(-2)
    for each in zip(ours, torchs, magnitudes, (outputs, n, n), strict=True):
        assert_within(*each)
    if replicas:  # each has the bits that it has alone
        for i, one in enumerate(zip(*inputs, strict=True)):
            assert torch.equal(samebits.linear(*one), result[i])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("shape", [(6, 5, 4, 4), (1, 17, 3, 2), (3, 1, 1, 1), (20, 33, 7, 7)])
def test_batch_norm_and_its_gradients_equal_torch(
    shape: tuple[int, ...], relu: bool, training: bool
) -> None:
    channels = shape[1]
    x = (values(*shape) * 3 + 5).requires_grad_()
    scale, shift = (values(channels, seed=seed).requires_grad_() for seed in (1, 2))
    mean, var = values(channels, seed=4), values(channels, seed=5).abs() + 0.5
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, scale, shift)]
    expected_mean, expected_var = mean.double(), var.double()
    expected = functional.batch_norm(
        exact[0], expected_mean, expected_var, exact[1], exact[2], training
    )
    expected = expected.relu() if relu else expected
    result = samebits.batch_norm(x, mean, var, scale, shift, training, relu)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(var.double(), expected_var, rtol=1e-5, atol=1e-6)
    gradient = values(*shape, seed=3)
    ours = torch.autograd.grad(result, [x, scale, shift], gradient)
    torchs = torch.autograd.grad(expected, exact, gradient.double())
    for tensor, reference in zip(ours, torchs, strict=True):
        scale = reference.abs().max()
        assert ((tensor.double() - reference).abs() <= 2e-5 * scale + 1e-6).all()


def test_padding_is_a_border_of_zeros() -> None:
    x, weight = values(2, 3, 8, 8), values(4, 3, 3, 3, seed=1)
    expected = functional.conv2d(x.double(), weight.double(), padding=2)
    torch.testing.assert_close(
        samebits.conv2d(x, weight, padding=2).double(), expected, rtol=1e-5, atol=1e-5
    )


def test_any_layout_of_memory_gives_the_same_bits() -> None:
    x, weight = values(2, 18, 8, 8), values(4, 18, 3, 3, seed=1)
    expected = samebits.conv2d(x, weight)
    wider = torch.randn(2, 18, 8, 11)
    wider[..., :8] = x
    strided = torch.empty(8, 8, 18, 2).permute(3, 2, 0, 1).copy_(x)
    for other in (x.to(memory_format=torch.channels_last), wider[..., :8], strided):
        assert torch.equal(samebits.conv2d(other, weight), expected)
    # What a layer returns is an ordinary tensor, also to change in place.
    expected += 1
    torch.testing.assert_close(expected.contiguous(), samebits.conv2d(x, weight) + 1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_spread_as_torchs(value: float) -> None:
    x, weight = values(2, 1, 8, 8), values(3, 1, 3, 3, seed=1)
    x[0, 0, 4, 4] = value
    for pool in (False, True):
        result = samebits.conv2d(x, weight, pool=pool)
        expected = functional.conv2d(x, weight)
        expected = functional.max_pool2d(expected, 2) if pool else expected
        torch.testing.assert_close(result, expected, equal_nan=True, rtol=1e-4, atol=1e-4)
    mean, var, ones = torch.zeros(1), torch.ones(1), torch.ones(1)
    for training in (True, False):
        result = samebits.batch_norm(x, mean.clone(), var.clone(), ones, mean, training, True)
        expected = functional.batch_norm(x, mean.clone(), var.clone(), ones, mean, training)
        torch.testing.assert_close(result, expected.relu(), equal_nan=True, rtol=1e-4, atol=1e-4)
    rows = x[:, 0, 4]
    result = samebits.linear(rows, values(3, 8), values(3))
    expected = functional.linear(rows, values(3, 8), values(3))
    torch.testing.assert_close(result, expected, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_equal_pixels_and_nan_are_pooled_as_by_torch() -> None:
    x = values(4, 3, 9, 8).round()
    x[0, 0, 0, 0] = x[1, 2, 3, 3] = math.nan
    x[2, 1, 4:6, 4:6] = math.nan
    one = torch.eye(3)[:, :, None, None].contiguous()  # passes each channel on
    x.nan_to_num_().requires_grad_()
    result, expected = samebits.conv2d(x, one, pool=True), functional.max_pool2d(x, 2)
    assert torch.equal(result, expected)
    gradient = values(*expected.shape)
    [of_x], [expected_of_x] = (torch.autograd.grad(y, [x], gradient) for y in (result, expected))
    assert torch.equal(of_x, expected_of_x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: samebits.linear(values(2, 3), values(4, 5), values(4)), "linear cannot"),
        (lambda: samebits.linear(values(2, 3), values(4, 3), values(5)), "linear cannot"),
        (lambda: samebits.conv2d(values(2, 3, 8, 8), values(4, 2, 3, 3)), "same channels"),
        (lambda: samebits.conv2d(values(2, 3, 8, 8), values(4, 3, 3, 2)), "kernel is square"),
        (lambda: samebits.conv2d(values(2, 3, 2, 8), values(4, 3, 3, 3)), "nothing would be left"),
        (
            lambda: samebits.conv2d(values(2, 3, 3, 3), values(4, 3, 3, 3), pool=True),
            "nothing would be left",
        ),
        (lambda: samebits.linear(values(2, 3), values(4, 3).double(), values(4)), "float32"),
        (
            lambda: samebits.linear(values(2, 3).to("meta"), values(4, 3), values(4)),
            "on the CPU",
        ),
        (
            lambda: samebits.batch_norm(
                values(2, 3, 4, 4), values(3), values(3), values(3), values(4), True
            ),
            "takes 3 means",
        ),
    ],
)
def test_shapes_that_no_kernel_takes_are_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_a_gradient_of_a_gradient_is_refused() -> None:
    x, weight = values(2, 3).requires_grad_(), values(4, 3).requires_grad_()
    [gradient] = torch.autograd.grad(
        samebits.linear(x, weight, values(4)).square().sum(), [x], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_nothing_of_nothing_is_nothing() -> None:
    weight = values(4, 3, 3, 3).requires_grad_()
    result = samebits.conv2d(values(0, 3, 8, 8), weight, pool=True)
    assert result.shape == (0, 4, 3, 3)
    [gradient] = torch.autograd.grad(result.sum(), [weight])
    assert not gradient.any()


STEPS = """
import hashlib, torch, samebits
from torch import Tensor
# torch.randn gives other bits on other CPUs.
g = torch.Generator().manual_seed(0)
digest = hashlib.sha256()
for n, c, d, side, size, stride, pool in [
    (1, 1, 5, 28, 3, 1, True), (15, 3, 26, 9, 3, 1, False), (17, 16, 33, 8, 5, 1, True),
    (64, 2, 16, 11, 2, 2, False), (3, 20, 52, 10, 3, 1, True), (33, 48, 7, 6, 3, 1, False),
]:
    x = torch.rand(n, c, side, side, generator=g).sub_(0.5).requires_grad_()
    w = torch.rand(d, c, size, size, generator=g).sub_(0.5).requires_grad_()
    b = torch.rand(d, generator=g).requires_grad_()
    y = samebits.conv2d(x, w, b, stride=stride, pool=pool)
    s, t, m, v = (torch.rand(d, generator=g) for _ in range(4))
    z = samebits.batch_norm(y, m, v, s.requires_grad_(), t.requires_grad_(), True, True)
    u = torch.rand(6, z[0].numel(), generator=g).requires_grad_()
    q = torch.rand(6, generator=g).requires_grad_()
    loss = samebits.cross_entropy(samebits.linear(z.flatten(1), u, q), torch.arange(n) % 6, 0.1)
    leaves = [x, w, b, s, t, u, q]
    for tensor in (loss, m, v, *torch.autograd.grad(loss, leaves)):
        digest.update(tensor.detach().contiguous().numpy().tobytes())
print(digest.hexdigest())
"""


def test_every_instruction_set_and_number_of_threads_gives_the_same_bits() -> None:
    def run(threads: int, capability: str | None) -> str:
        # torch flushes denormal numbers to zero in one of them, and the kernels do not.
        start = "import torch; torch.set_flush_denormal(True)\n" if threads == 8 else ""
        forced = {} if capability is None else {"ATEN_CPU_CAPABILITY": capability}
        done = subprocess.run(
            [sys.executable, "-c", start + STEPS],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), **forced},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    runs = [(2, None), (8, None), (1, "avx2"), (3, "default")]
    assert len({run(*each) for each in runs}) == 1
