"""The affine transformations of images, compared with torch's own sampling of a grid."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from stages.learning.augmentation import (
    MAX_ROTATION,
    MAX_SCALE,
    MAX_SHEAR,
    MAX_SHIFT,
    NUM_TRANSFORM_PARAMS,
    affine,
    sin_cos,
)
from tests.helpers.training import digits

IMAGES = digits(0, 200).images


def random_transform_params(seed: int) -> Tensor:
    """Return a set of parameters for each of IMAGES, uniform in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((len(IMAGES), NUM_TRANSFORM_PARAMS), generator=generator) * 2 - 1


def torch_affine(images: Tensor, transform_params: Tensor) -> Tensor:
    """Return what `affine` has to return, sampled by torch in float64 and not rounded."""
    rotation, scale, shear, right, down = transform_params.double().T
    angle, factor = rotation * MAX_ROTATION, 1 + scale * MAX_SCALE
    rotations = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
    shears = torch.eye(2, dtype=torch.float64).repeat(len(images), 1, 1)
    shears[:, 0, 1] = shear * MAX_SHEAR
    matrices = rotations.view(-1, 2, 2) @ shears / factor[:, None, None]
    # torch counts a shift in halves of an image.
    shifts = torch.stack([right, down], 1)[:, :, None] * MAX_SHIFT / 14
    grid = affine_grid(torch.cat([matrices, -shifts], 2), [len(images), 1, 28, 28], False)
    return grid_sample(images.double(), grid, padding_mode="zeros", align_corners=False)


@pytest.mark.parametrize("seed", range(3))
def test_affine_equals_torch(seed: int) -> None:
    transform_params = random_transform_params(seed)
    result, expected = (
        affine(IMAGES, transform_params, True),
        torch_affine(IMAGES, transform_params),
    )
    assert result.dtype == torch.uint8
    assert result.shape == IMAGES.shape
    # Half a grey level is the rounding to uint8, and the rest the difference of the precisions.
    assert (result - expected).abs().max() < 0.51
    assert (result != IMAGES).flatten(1).any(1).all()


def test_parameters_of_zero_leave_the_images_as_they_are() -> None:
    transform_params = torch.zeros(len(IMAGES), NUM_TRANSFORM_PARAMS)
    assert torch.equal(affine(IMAGES, transform_params, True), IMAGES)


@pytest.mark.parametrize(
    ("position", "right", "down"), [(3, 2, 0), (4, 0, 2)], ids=["to the right", "down"]
)
def test_the_largest_shift_is_two_pixels(position: int, right: int, down: int) -> None:
    transform_params = torch.zeros(len(IMAGES), NUM_TRANSFORM_PARAMS)
    transform_params[:, position] = 1
    expected = torch.zeros_like(IMAGES)
    expected[:, :, down:, right:] = IMAGES[:, :, : 28 - down, : 28 - right]
    assert torch.equal(affine(IMAGES, transform_params, True), expected)


def test_an_image_depends_on_its_own_parameters_alone() -> None:
    transform_params = random_transform_params(0)
    order = torch.randperm(len(IMAGES))
    shuffled = affine(IMAGES[order], transform_params[order], True)
    assert torch.equal(affine(IMAGES, transform_params, True)[order], shuffled)


def test_sine_and_cosine_are_accurate() -> None:
    angles = torch.linspace(-math.pi / 2, math.pi / 2, 1_001, dtype=torch.float64)
    sin, cos = sin_cos(angles)
    torch.testing.assert_close(sin, angles.sin(), rtol=0, atol=1e-8)
    torch.testing.assert_close(cos, angles.cos(), rtol=0, atol=1e-8)
