"""The distorted digits, against torch's own sampling of a grid."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from stages.datasets.mnist_5k import load_mnist_5k
from stages.learning.augmentation import (
    MAX_ROTATION,
    MAX_SCALE,
    MAX_SHEAR,
    MAX_SHIFT,
    NUM_TRANSFORM_PARAMS,
    affine,
    sin_cos,
)

IMAGES = torch.from_numpy(load_mnist_5k()["train"]["images"][:200].copy())


def numbers(seed: int = 0) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.rand((len(IMAGES), NUM_TRANSFORM_PARAMS), generator=source) * 2 - 1


def by_torch(images: Tensor, numbers: Tensor) -> Tensor:
    """The same transformation, sampled by torch, in float64."""
    turn, grow, slant, right, down = numbers.double().T
    angle, factor = turn * MAX_ROTATION, 1 + grow * MAX_SCALE
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
    shear = torch.eye(2, dtype=torch.float64).repeat(len(images), 1, 1)
    shear[:, 0, 1] = slant * MAX_SHEAR
    matrix = rotation.view(-1, 2, 2) @ shear / factor[:, None, None]
    shift = torch.stack([right, down], 1)[:, :, None] * MAX_SHIFT / 14  # of half an image
    grid = affine_grid(torch.cat([matrix, -shift], 2), [len(images), 1, 28, 28], False)
    return grid_sample(images.double(), grid, padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_torch_samples(seed: int) -> None:
    found, expected = affine(IMAGES, numbers(seed)), by_torch(IMAGES, numbers(seed))
    assert found.dtype == torch.uint8
    assert found.shape == IMAGES.shape
    # Rounded to bytes, from float32 here and float64 there.
    assert (found - expected).abs().max() < 0.51
    assert (found != IMAGES).flatten(1).any(1).all()


def test_zeros_change_nothing() -> None:
    assert torch.equal(affine(IMAGES, torch.zeros(len(IMAGES), NUM_TRANSFORM_PARAMS)), IMAGES)


@pytest.mark.parametrize(
    ("place", "direction"), [(3, (0, 2)), (4, (2, 0))], ids=["to the right", "down"]
)
def test_a_shift_is_in_pixels(place: int, direction: tuple[int, int]) -> None:
    only = torch.zeros(len(IMAGES), NUM_TRANSFORM_PARAMS)
    only[:, place] = 1
    down, right = direction
    expected = torch.zeros_like(IMAGES)
    expected[:, :, down:, right:] = IMAGES[:, :, : 28 - down, : 28 - right]
    assert torch.equal(affine(IMAGES, only), expected)


def test_an_image_depends_on_its_own_numbers_alone() -> None:
    order = torch.randperm(len(IMAGES))
    assert torch.equal(affine(IMAGES, numbers())[order], affine(IMAGES[order], numbers()[order]))


def test_sine_and_cosine_are_accurate() -> None:
    angles = torch.linspace(-math.pi / 2, math.pi / 2, 1_001, dtype=torch.float64)
    sin, cos = sin_cos(angles)
    torch.testing.assert_close(sin, angles.sin(), rtol=0, atol=1e-8)
    torch.testing.assert_close(cos, angles.cos(), rtol=0, atol=1e-8)
