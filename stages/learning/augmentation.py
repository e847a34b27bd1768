"""Digits turned, scaled, slanted and shifted a little, so that a model sees new ones.

Every operation is one whose result IEEE 754 fixes, and the result is bytes again: the same
on every CPU.
"""

import math

import torch
from torch import Tensor

# The most of each, either way.
MAX_ROTATION = math.radians(10)
MAX_SCALE = 0.15  # of the size
MAX_SHEAR = 0.2  # sideways, of the height
MAX_SHIFT = 2.0  # pixels

NUM_TRANSFORM_PARAMS = 5  # how many decide about an image

CENTRE = 13.5  # of 28 pixels
PADDED_WIDTH = 31  # with a border of black: one pixel before the image, two behind it


def affine(images: Tensor, numbers: Tensor) -> Tensor:
    """Return images uint8 (N, 1, 28, 28), each transformed as its numbers say.

    numbers: float32 (N, 5) in [-1, 1], of the most of rotation, scale, shear, and shift to
    the right and down. Values between pixels are interpolated, those outside are black.
    """
    turn, grow, slant, right, down = numbers.T[:, :, None, None].unbind()
    sin, cos = sin_cos(turn * MAX_ROTATION)
    sin, cos = (part / (1 + grow * MAX_SCALE) for part in (sin, cos))
    slant = slant * MAX_SHEAR
    # Of each pixel (x, y) of the result, the place that its value comes from.
    x = torch.arange(28, dtype=torch.float32, device=images.device) - CENTRE
    y = x[:, None]
    from_x = cos * x + (cos * slant - sin) * y + (CENTRE - right * MAX_SHIFT)
    from_y = sin * x + (sin * slant + cos) * y + (CENTRE - down * MAX_SHIFT)
    padded = torch.nn.functional.pad(images[:, 0], (1, 2, 1, 2)).flatten(1)
    left, of_right = _split_floor(from_x)
    top, of_bottom = _split_floor(from_y)
    corner = ((top + 1) * PADDED_WIDTH + left + 1).long().flatten(1)
    of_right, of_bottom = of_right.flatten(1), of_bottom.flatten(1)

    def row(offset: int) -> Tensor:
        values = padded.gather(1, corner + offset), padded.gather(1, corner + offset + 1)
        return values[0] * (1 - of_right) + values[1] * of_right

    result = row(0) * (1 - of_bottom) + row(PADDED_WIDTH) * of_bottom
    return result.round().to(torch.uint8).view_as(images)


def sin_cos(angle: Tensor) -> tuple[Tensor, Tensor]:
    """Return sine and cosine of angles up to a right one, by Taylor's series."""
    square = angle * angle
    sin, cos = torch.ones_like(angle), torch.ones_like(angle)
    for n in range(12, 0, -2):
        sin = 1 - sin * square / (n * (n + 1))
        cos = 1 - cos * square / (n * (n - 1))
    return sin * angle, cos


def _split_floor(place: Tensor) -> tuple[Tensor, Tensor]:
    """Split places into whole pixels, of which those far outside come to the border, and rests."""
    place = place.clamp(-1, 28)
    whole = place.floor()
    return whole, place - whole
