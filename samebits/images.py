"""Affine transformations of images: single operations that IEEE 754 fixes, rounded to uint8."""

import torch
from torch import Tensor


def affine(
    images: Tensor,
    rotation: Tensor,
    scale: Tensor,
    shear: Tensor,
    right: Tensor,
    down: Tensor,
    black_outside: bool = True,
) -> Tensor:
    """Transform each image of uint8 (N, C, H, W), H = W, in its own affine way about its centre.

    The rest is float32 (N,): the rotation in radians, up to a right angle; the factor of the size;
    the shear sideways, as a fraction of the height; the shift to the right and down in pixels.
    Values between pixels are interpolated bilinearly. The area outside an image is black, or has
    the values of its border.
    """
    n, channels, size, _ = images.shape
    centre = (size - 1) / 2
    rotation, scale, shear, right, down = (
        values[:, None, None] for values in (rotation, scale, shear, right, down)
    )
    sin, cos = (value / scale for value in sin_cos(rotation))
    # For each pixel (x, y) of the result, the position that its value comes from.
    x = torch.arange(size, dtype=torch.float32, device=images.device) - centre
    y = x[:, None]
    source_x = cos * x + (cos * shear - sin) * y + (centre - right)
    source_y = sin * x + (sin * shear + cos) * y + (centre - down)
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
