"""The chains of the kernels, one operation after the other, rounded by Python's fractions."""

import itertools
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any  # of NumPy, float32


def rounded(exact: Fraction) -> Any:
    """Return the float32 next to a fraction, the even one of two: IEEE 754's default."""
    near = np.float32(float(exact))
    candidates = [np.nextafter(near, np.float32(sign * np.inf)) for sign in (-1, 1)] + [near]

    def distance(x: Any) -> tuple[Fraction, int]:
        return abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) % 2

    return min(candidates, key=distance)


def multiply_add(a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""
    return rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def chain(pairs: Any) -> Any:
    total = np.float32(0)
    for a, b in pairs:
        total = multiply_add(a, b, total)
    return total


def convolve(x: Array, weight: Array, stride: int) -> Array:
    """Return the outputs (N, D, H, W): over rows, columns and channels of the kernel."""
    (n, channels, height, width), (outputs, _, size, _) = x.shape, weight.shape
    rows, columns = ((side - size) // stride + 1 for side in (height, width))
    result = np.empty((n, outputs, rows, columns), np.float32)
    for i, d, y, z in itertools.product(*map(range, result.shape)):
        result[i, d, y, z] = chain(
            (x[i, c, y * stride + ky, z * stride + kx], weight[d, c, ky, kx])
            for ky, kx, c in itertools.product(range(size), range(size), range(channels))
        )
    return result


def pooled(outputs: Array) -> tuple[Array, Array]:
    """Return the largest of each square of 2 x 2, and the position of the first such in it."""
    n, d, rows, columns = outputs.shape
    squares = outputs[:, :, : rows // 2 * 2, : columns // 2 * 2]
    squares = squares.reshape(n, d, rows // 2, 2, columns // 2, 2).swapaxes(3, 4)
    squares = squares.reshape(n, d, rows // 2, columns // 2, 4)
    return squares.max(-1), squares.argmax(-1)


def spread(gradient: Array, winners: Array | None) -> Any:
    """Yield image, output, row, column and value of a gradient before pooling, as in memory."""
    n, d, height, width = gradient.shape
    for i, y, z, k in itertools.product(range(n), range(height), range(width), range(d)):
        if winners is None:
            yield i, k, y, z, gradient[i, k, y, z]
        else:
            winner = int(winners[i, k, y, z])
            yield i, k, 2 * y + winner // 2, 2 * z + winner % 2, gradient[i, k, y, z]


def weights_gradient(
    x: Array, weight: Array, gradient: Array, winners: Array | None, stride: int, chunk: int
) -> Array:
    """Return it: chains over the pixels of an image, added image by image, then chunk by chunk.

    With pooling a chain goes on from image to image of a chunk.
    """
    result = np.zeros_like(weight)
    for start in range(0, len(x), chunk):
        of_chunk = np.zeros_like(weight)
        for i in range(start, min(start + chunk, len(x))):
            of_image = np.zeros_like(weight) if winners is None else of_chunk
            part = None if winners is None else winners[i : i + 1]
            for _, d, y, z, value in spread(gradient[i : i + 1], part):
                for c, ky, kx in itertools.product(*map(range, weight.shape[1:])):
                    pixel = x[i, c, y * stride + ky, z * stride + kx]
                    of_image[d, c, ky, kx] = multiply_add(value, pixel, of_image[d, c, ky, kx])
            if winners is None:
                of_chunk = of_chunk + of_image
        result = result + of_chunk
    return result


def images_gradient(
    x: Array, weight: Array, gradient: Array, winners: Array | None, stride: int
) -> Array:
    """Return it: over pooled outputs, winners and channels, or rows, columns and channels."""
    result = np.zeros_like(x)
    if winners is not None:
        values = list(spread(gradient, winners))
        # By image, output, which of four, channel.
        values.sort(key=lambda v: (v[0], v[2] // 2, v[3] // 2, v[2] % 2, v[3] % 2, v[1]))
    else:
        # Rows and columns of the kernel from the last to the first meet outputs in memory's order.
        values = list(spread(gradient, None))
    for i, d, y, z, value in values:
        for c, ky, kx in itertools.product(*map(range, weight.shape[1:])):
            at = i, c, y * stride + ky, z * stride + kx
            result[at] = multiply_add(value, weight[d, c, ky, kx], result[at])
    return result
