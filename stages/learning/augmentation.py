"""Augmentation: images rotated, scaled, sheared and shifted a little, anew in each epoch.

IEEE 754 fixes the result of every operation, and the images are rounded to uint8 again, so that
they are the same on every CPU.
"""

import math

import torch
from torch import Tensor

# The largest of each, in either direction.
MAX_ROTATION = math.radians(10)
MAX_SCALE = 0.15  # of the size
MAX_SHEAR = 0.2  # sideways, of the height
MAX_SHIFT = 2.0  # pixels

NUM_TRANSFORM_PARAMS = 5  # for each image: rotation, scale, shear, shift to the right and down

CENTRE = 13.5  # of 28 pixels
PADDED_WIDTH = 31  # with a black border: one pixel before the image, two behind it


def affine(images: Tensor, transform_params: Tensor) -> Tensor:
    """Return images uint8 (N, 1, 28, 28), each with an affine transformation of its own.

    transform_params: float32 (N, 5) in [-1, 1], as shares of the largest rotation, scale, shear,
    and shift to the right and down. Values between pixels are interpolated bilinearly; outside
    the image they are black.
    """
    rotation, scale, shear, right, down = transform_params.T[:, :, None, None].unbind()
    sin, cos = sin_cos(rotation * MAX_ROTATION)
    sin, cos = (value / (1 + scale * MAX_SCALE) for value in (sin, cos))
    shear = shear * MAX_SHEAR
    # For each pixel (x, y) of the result, the position that its value comes from.
    x = torch.arange(28, dtype=torch.float32, device=images.device) - CENTRE
    y = x[:, None]
    source_x = cos * x + (cos * shear - sin) * y + (CENTRE - right * MAX_SHIFT)
    source_y = sin * x + (sin * shear + cos) * y + (CENTRE - down * MAX_SHIFT)
    padded = torch.nn.functional.pad(images[:, 0], (1, 2, 1, 2)).flatten(1)
    left, weight_right = _split_floor(source_x)
    top, weight_bottom = _split_floor(source_y)
    corner = ((top + 1) * PADDED_WIDTH + left + 1).long().flatten(1)
    weight_right, weight_bottom = weight_right.flatten(1), weight_bottom.flatten(1)

    def interpolate_row(offset: int) -> Tensor:
        values = padded.gather(1, corner + offset), padded.gather(1, corner + offset + 1)
        return values[0] * (1 - weight_right) + values[1] * weight_right

    top_row, bottom_row = interpolate_row(0), interpolate_row(PADDED_WIDTH)
    result = top_row * (1 - weight_bottom) + bottom_row * weight_bottom
    return result.round().to(torch.uint8).view_as(images)


def sin_cos(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of angles up to a right angle, in radians, by Taylor's series."""
    square = angle * angle
    sin, cos = torch.ones_like(angle), torch.ones_like(angle)
    for n in range(12, 0, -2):
        sin = 1 - sin * square / (n * (n + 1))
        cos = 1 - cos * square / (n * (n - 1))
    return sin * angle, cos


def _split_floor(position: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whole pixels and the fractions of positions; those outside are clamped."""
    position = position.clamp(-1, 28)
    floor = position.floor()
    return floor, position - floor
