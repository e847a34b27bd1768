"""Augmentation: rotate, scale, shear, shift and flip images, in other ways in each epoch.

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
MAX_SHIFT = 1 / 14  # of the size: 2 of 28 pixels

NUM_TRANSFORM_PARAMS = 5  # for each image: rotation, scale, shear, shift to the right and down


def affine(images: Tensor, transform_params: Tensor, black_outside: bool) -> Tensor:
    """Transform each image of uint8 (N, C, H, W), H = W, in its own affine way.

    transform_params: float32 (N, 5) in [-1, 1], fractions of the largest rotation, scale, shear,
    and shift to the right and down. Values between pixels are interpolated bilinearly. The area
    outside an image is black, or has the values of its border.
    """
    n, channels, size, _ = images.shape
    centre, max_shift = (size - 1) / 2, size * MAX_SHIFT
    rotation, scale, shear, right, down = transform_params.T[:, :, None, None].unbind()
    sin, cos = sin_cos(rotation * MAX_ROTATION)
    sin, cos = (value / (1 + scale * MAX_SCALE) for value in (sin, cos))
    shear = shear * MAX_SHEAR
    # For each pixel (x, y) of the result, the position that its value comes from.
    x = torch.arange(size, dtype=torch.float32, device=images.device) - centre
    y = x[:, None]
    source_x = cos * x + (cos * shear - sin) * y + (centre - right * max_shift)
    source_y = sin * x + (sin * shear + cos) * y + (centre - down * max_shift)
    # A black border: one pixel before the image, two behind it.
    padded = torch.nn.functional.pad(images, (1, 2, 1, 2)).flatten(2)
    padded_width = size + 3
    low, high = (-1, size) if black_outside else (0, size - 1)
    left, weight_right = _split_floor(source_x.clamp(low, high))
    top, weight_bottom = _split_floor(source_y.clamp(low, high))
    corner = ((top + 1) * padded_width + left + 1).long().view(n, 1, -1).expand(-1, channels, -1)
    weight_right, weight_bottom = (x.view(n, 1, -1) for x in (weight_right, weight_bottom))

    def interpolate_row(offset: int) -> Tensor:
        values = padded.gather(2, corner + offset), padded.gather(2, corner + offset + 1)
        return values[0] * (1 - weight_right) + values[1] * weight_right

    top_row, bottom_row = interpolate_row(0), interpolate_row(padded_width)
    result = top_row * (1 - weight_bottom) + bottom_row * weight_bottom
    return result.round().to(torch.uint8).view_as(images)


def mirror(images: Tensor, is_mirrored: Tensor) -> Tensor:
    """Flip the images (N, C, H, W) where `is_mirrored`, bool (N,), is true."""
    return torch.where(is_mirrored[:, None, None, None], images.flip(3), images)


def sin_cos(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of angles up to a right angle, in radians, by Taylor's series."""
    square = angle * angle
    sin, cos = torch.ones_like(angle), torch.ones_like(angle)
    for n in range(12, 0, -2):
        sin = 1 - sin * square / (n * (n + 1))
        cos = 1 - cos * square / (n * (n - 1))
    return sin * angle, cos


def _split_floor(position: Tensor) -> tuple[Tensor, Tensor]:
    """Return the whole pixels and the fractions of positions."""
    floor = position.floor()
    return floor, position - floor
