"""The affine transformations of images, compared with torch's own sampling of a grid."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from samebits.images import sin_cos
from stages.learning.augmentation import (
    MAX_ROTATION,
    MAX_SCALE,
    MAX_SHEAR,
    MAX_SHIFT,
    NUM_TRANSFORM_PARAMS,
    affine,
    mirror,
)
from tests.helpers.training import digits

IMAGES = digits(0, 200).images


def random_transform_params(seed: int, n: int = len(IMAGES)) -> Tensor:
    """Return a set of parameters for each of n images, uniform in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, NUM_TRANSFORM_PARAMS), generator=generator) * 2 - 1


def random_images(channels: int, size: int) -> Tensor:
    """Return ten images of noise, none of which is black at its border."""
    generator = torch.Generator().manual_seed(size)
    shape = (10, channels, size, size)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=generator)


def torch_affine(images: Tensor, transform_params: Tensor, padding_mode: str) -> Tensor:
    """Return what `affine` has to return, sampled by torch in float64 and not rounded."""
    rotation, scale, shear, right, down = transform_params.double().T
    angle, factor = rotation * MAX_ROTATION, 1 + scale * MAX_SCALE
    rotations = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
    shears = torch.eye(2, dtype=torch.float64).repeat(len(images), 1, 1)
    shears[:, 0, 1] = shear * MAX_SHEAR
    matrices = rotations.view(-1, 2, 2) @ shears / factor[:, None, None]
    # torch counts a shift in halves of an image.
    shifts = torch.stack([right, down], 1)[:, :, None] * MAX_SHIFT * 2
    grid = affine_grid(torch.cat([matrices, -shifts], 2), list(images.shape), False)
    return grid_sample(images.double(), grid, padding_mode=padding_mode, align_corners=False)


@pytest.mark.parametrize("seed", range(3))
def test_affine_equals_torch(seed: int) -> None:
    transform_params = random_transform_params(seed)
    result = affine(IMAGES, transform_params, True)
    expected = torch_affine(IMAGES, transform_params, "zeros")
    assert result.dtype == torch.uint8
    assert result.shape == IMAGES.shape
    # Half a grey level is the rounding to uint8, and the rest the difference of the precisions.
    assert (result - expected).abs().max() < 0.51
    assert (result != IMAGES).flatten(1).any(1).all()


@pytest.mark.parametrize(("black_outside", "padding_mode"), [(True, "zeros"), (False, "border")])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (3, 9), (1, 8), (1, 17), (3, 128)])
def test_affine_equals_torch_for_any_shape_and_outside(
    channels: int, size: int, black_outside: bool, padding_mode: str
) -> None:
    images, transform_params = random_images(channels, size), random_transform_params(size, 10)
    result = affine(images, transform_params, black_outside)
    expected = torch_affine(images, transform_params, padding_mode)
    # Noise has steep edges, where a difference of the positions counts more.
    assert (result - expected).abs().max() < 0.52
    # All channels of an image move in the same way.
    alone = affine(images[:, -1:], transform_params, black_outside)
    assert torch.equal(result[:, -1:], alone)
    assert bool((result == 0).any()) == black_outside


def test_mirror_flips_the_images_that_are_chosen() -> None:
    images = random_images(3, 9)
    is_mirrored = torch.arange(10) % 3 == 0
    result = mirror(images, is_mirrored)
    np.testing.assert_array_equal(result[is_mirrored], images.numpy()[is_mirrored][..., ::-1])
    assert torch.equal(result[~is_mirrored], images[~is_mirrored])


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
