"""Exact sums, products and functions, compared with Python's integers, fractions and decimals."""

import hashlib
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from samebits import exact
from tests.samebits.grids import grid_steps, step_size, wide_range

getcontext().prec = 40


@settings(max_examples=200)
@given(
    st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=50),
    st.integers(1, 50),
)
def test_round_to_grid_rounds_like_python(values: list[float], bits: int) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    assume(x.abs().max() > 2.0**-300)  # smaller ones have a test of their own below
    steps = grid_steps(x, bits)
    assert steps.tolist() == [round(Fraction(value) / step_size(x, bits)) for value in values]
    assert max(abs(steps)) <= 2**bits


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 7, 8, 63, 64, 784, 1_000, 50_000])
@pytest.mark.parametrize("spread", [0, 10, 100])
def test_matmul_is_an_integer_sum_in_any_order(terms: int, spread: int) -> None:
    a, b = wide_range((2, terms), 1, spread), wide_range((terms, 2), 2, spread)
    bits = (53 - terms.bit_length()) // 2
    result = exact.matmul(a, b)
    steps = grid_steps(a, bits) @ grid_steps(b, bits)
    expected = steps * step_size(a, bits) * step_size(b, bits)
    assert [[Fraction(value) for value in row] for row in result.tolist()] == expected.tolist()
    order = torch.from_numpy(np.random.default_rng(3).permutation(terms))
    assert torch.equal(exact.matmul(a[:, order], b[order]), result)


@pytest.mark.parametrize("terms", [1, 3, 7, 127, 1_023, 65_535])
def test_the_largest_possible_sums_are_exact(terms: int) -> None:
    """All entries are the largest odd number of steps: their sum needs all 53 bits."""
    spare = 53 - terms.bit_length()

    def largest(bits: int) -> tuple[Tensor, int]:
        return torch.full((1, terms), 1 - 2.0**-bits, dtype=torch.float64), 2**bits - 1

    x, i = largest(spare // 2)
    assert exact.matmul(x, x.T).item() * 4 ** (spare // 2) == terms * i * i
    weights, j = largest(spare - 8)
    white = torch.full((1, terms), 255, dtype=torch.uint8)
    expected = float(terms * 255 * j) / 2 ** (spare - 8) / 255
    assert exact.matmul(white, weights.T).item() == expected
    bits = min(50, spare)
    y, k = largest(bits)
    assert exact.exact_sum(y, 1).item() * 2**bits == terms * k


@pytest.mark.parametrize("terms", [1, 64, 784, 50_000])
def test_matmul_of_uint8_is_an_integer_sum(terms: int) -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (2, terms), dtype=np.uint8))
    weights = wide_range((terms, 3), 1, 20)
    bits = 53 - 8 - terms.bit_length()
    result = exact.matmul(images, weights)
    integers = images.numpy().astype(object) @ grid_steps(weights, bits) * step_size(weights, bits)
    assert result.tolist() == [[float(value) / 255 for value in row] for row in integers]
    assert torch.equal(exact.matmul(weights.T, images.T), result.T)


@pytest.mark.parametrize("terms", [1, 2, 5, 10, 2_500, 50_000])
@pytest.mark.parametrize("spread", [0, 10, 100])
def test_exact_sum_is_an_integer_sum_in_any_order(terms: int, spread: int) -> None:
    x = wide_range((terms, 3), 1, spread)
    bits = min(50, 53 - terms.bit_length())
    result = exact.exact_sum(x, 0)
    expected = grid_steps(x, bits).sum(0) * step_size(x, bits)
    assert [Fraction(value) for value in result.tolist()] == expected.tolist()
    order = torch.from_numpy(np.random.default_rng(3).permutation(terms))
    assert torch.equal(exact.exact_sum(x[order], 0), result)


@pytest.mark.parametrize("value", [0.0, 5e-324, 1e-310, 2.0**-500])
def test_products_of_tiny_values_are_zero(value: float) -> None:
    """The exponent of the grid is at least -400, so that no product underflows."""
    x = torch.full((1, 3), value, dtype=torch.float64)
    assert exact.matmul(x, x.T).item() == 0.0
    assert exact.matmul(x, torch.ones(3, 1)).item() == 0.0


def test_matmul_accepts_float32() -> None:
    a, b = torch.rand(5, 7), torch.rand(7, 3, dtype=torch.float64)
    assert exact.matmul(a, b).dtype == torch.float64
    torch.testing.assert_close(exact.matmul(a, b), a.double() @ b, rtol=1e-6, atol=0)


def test_exp_is_accurate() -> None:
    x = torch.linspace(-64, 0, 2_001, dtype=torch.float64)
    for result, value in zip(exact.exp(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(result) / Decimal(value).exp() - 1) < Decimal("1e-9")
    assert exact.exp(torch.zeros(1)).item() == 1.0
    assert 0 < exact.exp(torch.tensor([-1e300], dtype=torch.float64)).item() < 1e-27


@pytest.mark.parametrize("end", [10, 100, 1_000])
def test_log_is_accurate(end: int) -> None:
    x = torch.linspace(1, end, 2_001, dtype=torch.float64)
    for result, value in zip(exact.log(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(result) - Decimal(value).ln()) < Decimal("1e-11")


@pytest.mark.parametrize("power", [10.0, 100.0])
def test_log_is_accurate_and_rises_around_the_powers_of_ten(power: float) -> None:
    """Where a number is divided by ten once more."""
    below, above = np.nextafter(power, 0), np.nextafter(power, 1_000)
    x = torch.tensor([below, power, above], dtype=torch.float64)
    results = exact.log(x).tolist()
    for result, value in zip(results, x.tolist(), strict=True):
        assert abs(Decimal(result) - Decimal(value).ln()) < Decimal("1e-11")


def test_log_up_to_ten_has_the_bits_that_it_always_had() -> None:
    """Those of the sums over at most ten classes, before there could be more of them."""
    x = torch.linspace(1, 10, 100_001, dtype=torch.float64)
    bits = hashlib.sha256(exact.log(x).numpy().tobytes()).hexdigest()
    assert bits == "70b519eb9a0967a9e41b5947cbfd587543108d1cb3dcb6b75f1e6f673dc427a4"
