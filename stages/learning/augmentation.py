"""Augmentation: rotate, scale, shear, shift and flip images, in other ways in each epoch."""

import math
from collections.abc import Callable
from typing import Literal, assert_never

import torch
from torch import Tensor

import samebits

# The largest of each, in either direction.
MAX_ROTATION = math.radians(10)
MAX_SCALE = 0.15  # of the size
MAX_SHEAR = 0.2  # sideways, of the height
MAX_SHIFT = 1 / 14  # of the size: 2 of 28 pixels

NUM_TRANSFORM_PARAMS = 5  # for each image: rotation, scale, shear, shift to the right and down


def make_augmentation(
    name: Literal["none", "affine", "affine_mirror"],
    n: int,
    black_outside: bool,
    generator: torch.Generator,
    device: str,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that transforms images (B, C, H, W), given their indices of n: int64 (B,).

    It draws from `generator` how it will transform each of the n images.
    """
    match name:
        case "none":
            return lambda images, indices: images
        case "affine" | "affine_mirror":
            fractions = torch.rand((n, NUM_TRANSFORM_PARAMS), generator=generator) * 2 - 1
            fractions = fractions.to(device)
            if name == "affine":
                return lambda images, indices: affine(images, fractions[indices], black_outside)
            is_mirrored = (torch.rand(n, generator=generator) < 0.5).to(device)
            return lambda images, indices: affine(
                mirror(images, is_mirrored[indices]), fractions[indices], black_outside
            )
        case _:
            assert_never(name)  # mypy finds a name that is missing here


def affine(images: Tensor, transform_params: Tensor, black_outside: bool) -> Tensor:
    """Transform each image of uint8 (N, C, H, W), H = W, in its own affine way.

    transform_params: float32 (N, 5) in [-1, 1], fractions of the largest rotation, scale, shear,
    and shift to the right and down.
    """
    rotation, scale, shear, right, down = transform_params.T
    max_shift = images.shape[3] * MAX_SHIFT
    return samebits.affine(
        images,
        rotation * MAX_ROTATION,
        1 + scale * MAX_SCALE,
        shear * MAX_SHEAR,
        right * max_shift,
        down * max_shift,
        black_outside,
    )


def mirror(images: Tensor, is_mirrored: Tensor) -> Tensor:
    """Flip the images (N, C, H, W) where `is_mirrored`, bool (N,), is true."""
    return torch.where(is_mirrored[:, None, None, None], images.flip(3), images)
