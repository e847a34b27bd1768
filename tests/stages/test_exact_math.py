"""Exact sums, products and functions, against Python's integers, fractions and decimals."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.arithmetic import exact_math
from tests.helpers.grids import adversarial, scale, steps

getcontext().prec = 40


@settings(max_examples=200)
@given(
    st.lists(st.floats(-1e30, 1e30, allow_subnormal=False), min_size=1, max_size=50),
    st.integers(1, 50),
)
def test_the_grid_is_pythons_rounding_to_whole_steps(numbers: list[float], bits: int) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    assume(x.abs().max() > 2.0**-300)  # for smaller ones the grid is coarser, as another test shows
    found = steps(x, bits)
    assert found.tolist() == [round(Fraction(n) / scale(x, bits)) for n in numbers]
    assert max(abs(found)) <= 2**bits


@pytest.mark.parametrize("terms", [1, 2, 3, 4, 7, 8, 63, 64, 784, 1_000, 50_000])
@pytest.mark.parametrize("spread", [0, 10, 100])
def test_a_product_is_the_sum_of_integers_in_any_order(terms: int, spread: int) -> None:
    a, b = adversarial((2, terms), 1, spread), adversarial((terms, 2), 2, spread)
    bits = (53 - terms.bit_length()) // 2
    found = exact_math.matmul(a, b)
    whole = steps(a, bits) @ steps(b, bits) * scale(a, bits) * scale(b, bits)
    assert [[Fraction(number) for number in row] for row in found.tolist()] == whole.tolist()
    order = torch.from_numpy(np.random.default_rng(3).permutation(terms))
    assert torch.equal(exact_math.matmul(a[:, order], b[order]), found)


@pytest.mark.parametrize("terms", [1, 3, 7, 127, 1_023, 65_535])
def test_the_worst_case_just_fits(terms: int) -> None:
    """All entries are the largest odd number of steps: their sum needs every bit there is."""
    spare = 53 - terms.bit_length()

    def largest(bits: int) -> tuple[Tensor, int]:
        return torch.full((1, terms), 1 - 2.0**-bits, dtype=torch.float64), 2**bits - 1

    x, i = largest(spare // 2)
    assert exact_math.matmul(x, x.T).item() * 4 ** (spare // 2) == terms * i * i
    w, j = largest(spare - 8)
    white = torch.full((1, terms), 255, dtype=torch.uint8)
    assert exact_math.matmul(white, w.T).item() == float(terms * 255 * j) / 2 ** (spare - 8) / 255
    bits = min(50, spare)
    y, k = largest(bits)
    assert exact_math.exact_sum(y, 1).item() * 2**bits == terms * k


@pytest.mark.parametrize("terms", [1, 64, 784, 50_000])
def test_bytes_are_exact_as_they_are(terms: int) -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (2, terms), dtype=np.uint8))
    weights = adversarial((terms, 3), 1, 20)
    bits = 53 - 8 - terms.bit_length()
    found = exact_math.matmul(images, weights)
    whole = images.numpy().astype(object) @ steps(weights, bits) * scale(weights, bits)
    assert found.tolist() == [[float(number) / 255 for number in row] for row in whole]
    assert torch.equal(exact_math.matmul(weights.T, images.T), found.T)


@pytest.mark.parametrize("terms", [1, 2, 5, 10, 2_500, 50_000])
@pytest.mark.parametrize("spread", [0, 10, 100])
def test_a_sum_is_the_same_in_any_order(terms: int, spread: int) -> None:
    x = adversarial((terms, 3), 1, spread)
    bits = min(50, 53 - terms.bit_length())
    found = exact_math.exact_sum(x, 0)
    whole = steps(x, bits).sum(0) * scale(x, bits)
    assert [Fraction(number) for number in found.tolist()] == whole.tolist()
    order = torch.from_numpy(np.random.default_rng(3).permutation(terms))
    assert torch.equal(exact_math.exact_sum(x[order], 0), found)


@pytest.mark.parametrize("size", [0.0, 5e-324, 1e-310, 2.0**-500])
def test_products_of_tiny_numbers_do_not_leave_the_range(size: float) -> None:
    x = torch.full((1, 3), size, dtype=torch.float64)
    assert exact_math.matmul(x, x.T).item() == 0.0
    assert exact_math.matmul(x, torch.ones(3, 1)).item() == 0.0


def test_float32_may_be_mixed_in() -> None:
    a, b = torch.rand(5, 7), torch.rand(7, 3, dtype=torch.float64)
    assert exact_math.matmul(a, b).dtype == torch.float64
    torch.testing.assert_close(exact_math.matmul(a, b), a.double() @ b, rtol=1e-6, atol=0)


def test_exp_is_accurate() -> None:
    x = torch.linspace(-64, 0, 2_001, dtype=torch.float64)
    for found, number in zip(exact_math.exp(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(found) / Decimal(number).exp() - 1) < Decimal("1e-9")
    assert exact_math.exp(torch.zeros(1)).item() == 1.0
    assert 0 < exact_math.exp(torch.tensor([-1e300], dtype=torch.float64)).item() < 1e-27


def test_log_is_accurate() -> None:
    x = torch.linspace(1, 10, 2_001, dtype=torch.float64)
    for found, number in zip(exact_math.log(x).tolist(), x.tolist(), strict=True):
        assert abs(Decimal(found) - Decimal(number).ln()) < Decimal("1e-11")
