"""Layers whose outputs and gradients are chains of operations in an order that the source fixes.

Tensors are float32. A tensor of images (N, C, H, W) lies in memory as (N, H, W, S): the channels of
a pixel side by side, in S >= C floats, a multiple of 16. The layers return such tensors, take any
other after a copy, and `kernels/*.c` say in which order they compute.
"""

import ctypes
import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from samebits.library import kernels, run

PADDING = 16  # as in kernels/vectors.h
CHUNK, SLAB = 16, 512  # images whose gradients of the weights are added first, and held in memory
EPSILON, MOMENTUM = 1e-5, 0.1  # of batch normalization: torch's own


def _longs(names: str) -> list[tuple[str, type]]:
    return [(name, ctypes.c_long) for name in names.split()]


# The structs of the kernels.
class _Convolution(ctypes.Structure):
    _fields_ = _longs(
        "in_height in_width in_channels in_step out_height out_width out_channels out_step size "
        "stride pooled"
    )


class _Normalization(ctypes.Structure):
    _fields_ = _longs("images pixels channels step relu training")


class _Dense(ctypes.Structure):
    _fields_ = _longs("examples inputs in_step outputs out_step")


def _padded(floats: int) -> int:
    return -(-floats // PADDING) * PADDING


def _padded_copy(x: Tensor, step: int) -> Tensor:
    """Return a tensor (..., K) in rows of `step` floats, (..., step), with zeros behind the K."""
    copy = torch.zeros(*x.shape[:-1], step)
    copy[..., : x.shape[-1]] = x
    return copy


def _scaled(x: Tensor) -> Tensor:
    """Return bytes as value / 255, in the same order, and floats as they are."""
    if x.dtype != torch.uint8:
        return x.float()
    x = x.contiguous()
    result = torch.empty(x.shape)
    kernels().scale_bytes(x.numel(), x, result)
    return result


def _rows(x: Tensor) -> Tensor:
    """Return x (..., K) as float32 in rows of a multiple of 16 floats, (..., S)."""
    x = _scaled(x)
    step = _padded(x.shape[-1])
    return x.contiguous() if step == x.shape[-1] else _padded_copy(x, step)


def _pixels(x: Tensor, padded: bool = True) -> Tensor:
    """Return x (N, C, H, W) as float32 as it lies in memory, (N, H, W, S); S = C if not padded."""
    n, channels, height, width = x.shape
    step = _padded(channels) if padded else channels
    strides = height * width * step, 1, width * step, step
    if x.dtype == torch.float32 and x.stride() == strides:
        end = x.storage_offset() + n * strides[0]
        if x.untyped_storage().nbytes() >= 4 * end:
            return x.as_strided((n, height, width, step), (*strides[:1], *strides[2:], 1))
    rows = _scaled(x.permute(0, 2, 3, 1))
    return rows.contiguous() if step == channels else _padded_copy(rows, step)


def _images(pixels: Tensor, channels: int) -> Tensor:
    """Return pixels (N, H, W, S) as a tensor (N, C, H, W) of the same memory."""
    n, height, width, step = pixels.shape
    size, strides = (n, channels, height, width), (height * width * step, 1, width * step, step)
    # Not a view, so that it can be changed in place.
    return torch.empty(0).set_(pixels.untyped_storage(), 0, size, strides)


def _packed(weight: Tensor, shape: tuple[int, ...], order: tuple[int, int, int]) -> Tensor:
    """Return weight (D, C, k, k) in another order, of a shape, with zeros in what it leaves.

    order: the distances there from d, c and a pixel to the next; a negative one reverses the
        pixels.
    """
    weight, result = weight.contiguous(), torch.empty(shape)
    outputs, channels, size, _ = weight.shape
    kernels().pack_weights(outputs, channels, size * size, weight, *order, result.numel(), result)
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = _rows(x)
        (*_, n, in_step), (*_, outputs, inputs) = rows.shape, weight.shape
        out_step = _padded(outputs)
        replicas = weight.shape[0] if weight.ndim == 3 else 1
        shape = _Dense(n, inputs, in_step, outputs, out_step)
        result = torch.empty(*weight.shape[:-2], n, out_step)
        columns = _padded_copy(weight.mT, out_step)
        run(kernels().dense, replicas, shape, rows, columns, bias, result)
        ctx.save_for_backward(rows, weight)
        ctx.replicas, ctx.shape = replicas, shape
        return result if out_step == outputs else result[..., :outputs].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        rows, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        shape, outputs = ctx.shape, weight.shape[-2]
        shape.out_step = outputs
        grad_weight = torch.empty(*weight.shape[:-1], shape.in_step)
        grad_bias = torch.empty(weight.shape[:-1])
        run(kernels().dense_gradient, ctx.replicas, shape, rows, gradient, grad_weight, grad_bias)
        grad_x = None
        if ctx.needs_input_grad[0]:
            reverse = _Dense(shape.examples, outputs, outputs, shape.inputs, shape.in_step)
            grad_x = torch.empty(*rows.shape)
            padded = _rows(weight)
            run(kernels().dense, ctx.replicas, reverse, gradient, padded, None, grad_x)
            grad_x = grad_x[..., : shape.inputs]
        return grad_x, grad_weight[..., : shape.inputs].contiguous(), grad_bias


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, pool: bool
    ) -> Tensor:
        outputs, channels, size, _ = weight.shape
        # Where the gradient of the weights has channels of the input in its lanes, they are padded.
        inner = ctx.needs_input_grad[0] or x.dtype != torch.uint8
        pixels = _pixels(x, padded=pool or inner)
        n, height, width, in_step = pixels.shape
        out_height, out_width = ((side - size) // stride + 1 for side in (height, width))
        out_step = _padded(outputs)
        shape = _Convolution(
            height,
            width,
            channels,
            in_step,
            out_height,
            out_width,
            outputs,
            out_step,
            size,
            stride,
            pool,
        )
        if pool:
            out_height, out_width = out_height // 2, out_width // 2
        result = torch.empty(n, out_height, out_width, out_step)
        winners = torch.empty(result.shape, dtype=torch.uint8) if pool else None
        packed = _packed(
            weight, (size, size, channels, out_step), (1, out_step, channels * out_step)
        )
        run(
            kernels().convolve,
            n,
            shape,
            pixels,
            packed,
            bias,
            result,
            winners,
            scratch=4 * out_width * out_step,
        )
        ctx.save_for_backward(pixels, weight, winners)
        ctx.shape, ctx.has_bias = shape, bias is not None
        return _images(result, outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pixels, weight, winners = ctx.saved_tensors
        gradient = _pixels(gradients[0])
        grad_x = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _images_gradient(ctx.shape, gradient, weight, winners, len(pixels))
        grad_weight = _weights_gradient(ctx.shape, pixels, gradient, winners)
        if ctx.has_bias:
            grad_bias = _channel_sums(gradient, weight.shape[0])
        return grad_x, grad_weight, grad_bias, None, None


def _weights_gradient(
    shape: _Convolution, pixels: Tensor, gradient: Tensor, winners: Tensor | None
) -> Tensor:
    channels, outputs, size = shape.in_channels, shape.out_channels, shape.size
    if shape.pooled:
        order = size * size * shape.in_step, 1, shape.in_step
        floats = outputs * order[0]
    else:
        order = 1, shape.out_step, channels * shape.out_step
        floats = size * size * order[2]
    # Factors and offsets of the pooled outputs of an image.
    scratch = 2 * outputs * math.prod(gradient.shape[1:3]) if shape.pooled else 1
    total = torch.zeros(outputs, channels, size, size)
    for start in range(0, len(pixels), SLAB):
        part = slice(start, start + SLAB)
        n = len(pixels[part])
        chunks = -(-n // CHUNK)
        sums = torch.empty(chunks, floats)
        run(
            kernels().weights_gradient,
            chunks,
            shape,
            n,
            CHUNK,
            pixels[part],
            gradient[part],
            None if winners is None else winners[part],
            sums,
            scratch=scratch,
        )
        kernels().unpack_sums(outputs, channels, size * size, sums, *order, floats, chunks, total)
    return total


def _images_gradient(
    shape: _Convolution, gradient: Tensor, weight: Tensor, winners: Tensor | None, n: int
) -> Tensor:
    outputs, size, step = shape.out_channels, shape.size, shape.in_step
    if shape.pooled:
        packed = _packed(weight, (outputs, size, size, step), (size * size * step, 1, step))
        scratch = 8 * outputs
    else:
        packed = _packed(weight, (size, size, outputs, step), (step, 1, -outputs * step))
        border = shape.size - 1
        scratch = (shape.in_height + border) * (shape.in_width + border) * shape.out_step
    result = torch.empty(n, shape.in_height, shape.in_width, shape.in_step)
    run(kernels().images_gradient, n, shape, packed, gradient, winners, result, scratch=scratch)
    return _images(result, shape.in_channels)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        var: Tensor,
        scale: Tensor,
        shift: Tensor,
        training: bool,
        relu: bool,
    ) -> Tensor:
        pixels = _pixels(x)
        n, height, width, step = pixels.shape
        channels = len(scale)
        shape = _Normalization(n, height * width, channels, step, relu, training)
        sums, constants = torch.empty(n, 2, step), torch.zeros(5, step)
        inverse = torch.empty(channels, dtype=torch.float64)
        if training:
            run(kernels().image_statistics, n, shape, pixels, sums)
        kernels().normalization_constants(
            shape, sums, scale, shift, mean, var, MOMENTUM, EPSILON, constants, inverse
        )
        result = torch.empty(pixels.shape)
        run(kernels().normalize, n, shape, pixels, constants, result)
        ctx.save_for_backward(pixels, constants, inverse)
        ctx.shape = shape
        return _images(result, channels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pixels, constants, inverse = ctx.saved_tensors
        gradient, shape = _pixels(gradients[0]), ctx.shape
        inputs = shape, pixels, gradient
        sums, result = torch.empty(shape.images, 2, shape.step), torch.empty(pixels.shape)
        grad_scale, grad_shift = torch.empty(shape.channels), torch.empty(shape.channels)
        run(kernels().gradient_sums, shape.images, *inputs, constants, sums)
        kernels().gradient_constants(shape, sums, inverse, grad_scale, grad_shift, constants)
        run(kernels().normalize_gradient, shape.images, *inputs, constants, result)
        return _images(result, shape.channels), None, None, grad_scale, grad_shift, None, None


def _channel_sums(pixels: Tensor, channels: int) -> Tensor:
    """Return the sum of pixels (N, H, W, S) for each channel, float32 (C,)."""
    n, height, width, step = pixels.shape
    shape = _Normalization(n, height * width, channels, step, False, False)
    sums, result = torch.empty(n, 2, step), torch.empty(channels)
    run(kernels().image_statistics, n, shape, pixels, sums)
    kernels().gradient_constants(shape, sums, None, None, result, None)
    return result


def _prepared(x: Tensor, *weights: Tensor) -> Tensor:
    """Return x as uint8 or float32; raise `ValueError` for tensors that no kernel takes."""
    for weight in weights:
        if weight.dtype != torch.float32 or not weight.is_contiguous():
            raise ValueError(
                f"samebits: weights are float32 and contiguous, not {weight.dtype} with strides "
                f"{weight.stride()}"
            )
    for tensor in (x, *weights):
        if tensor.device.type != "cpu":
            raise ValueError(f"samebits: its kernels run on the CPU, not on {tensor.device}")
    return x if x.dtype == torch.uint8 else x.float()


def pixels(images: Tensor) -> Tensor:
    """Return images as they are: the layers take uint8 for value / 255."""
    return images


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `torch.nn.functional.linear` of x (N, K), weight (M, K), bias (M,): float32 (N, M).

    x is float32, or uint8, which stands for value / 255. With another dimension before these the
    result is that of each replica, with the bits that it has alone.
    """
    x = _prepared(x, weight, bias)
    *replicas, _, inputs = weight.shape
    if [*x.shape[:-2], x.shape[-1]] != [*replicas, inputs] or bias.shape != weight.shape[:-1]:
        raise ValueError(
            f"samebits: linear cannot take x {tuple(x.shape)}, weight {tuple(weight.shape)} and "
            f"bias {tuple(bias.shape)} together"
        )
    result: Tensor = _Linear.apply(x, weight, bias)
    return result


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    pool: bool = False,
) -> Tensor:
    """Return `torch.nn.functional.conv2d` of x (N, C, H, W), weight (D, C, k, k), as float32.

    x is float32, or uint8, which stands for value / 255. With `pool`, `max_pool2d` in squares of
    2 x 2 follows, and takes three quarters of the work from the backward pass.
    """
    x = _prepared(x, weight, *([] if bias is None else [bias]))
    if (
        not x.ndim == weight.ndim == 4
        or x.shape[1] != weight.shape[1]
        or weight.shape[2] != weight.shape[3]
        or (bias is not None and bias.shape != weight.shape[:1])
    ):
        raise ValueError(
            f"samebits: conv2d cannot take x {tuple(x.shape)} and weight {tuple(weight.shape)}: "
            "they have the same channels, and the kernel is square"
        )
    size, side = weight.shape[3], min(x.shape[2:]) + 2 * padding
    if stride < 1 or padding < 0 or side < size + (stride if pool else 0):
        raise ValueError(
            f"samebits: conv2d of x {tuple(x.shape)} and weight {tuple(weight.shape)} with stride "
            f"{stride} and padding {padding}: nothing would be left"
        )
    if padding:
        x = torch.nn.functional.pad(x, (padding,) * 4)
    result: Tensor = _Conv2d.apply(x, weight, bias, stride, pool)
    return result


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor,
    shift: Tensor,
    training: bool,
    relu: bool = False,
) -> Tensor:
    """Return `torch.nn.functional.batch_norm` of x (N, C, H, W), the rest (C,), as float32.

    In training it uses the batch's own mean and variance, and updates the running ones in place.
    With `relu`, `torch.relu` follows.
    """
    x = _prepared(x, mean, var, scale, shift)
    if x.ndim != 4 or {len(of) for of in (mean, var, scale, shift)} != {x.shape[1]}:
        raise ValueError(
            f"samebits: batch_norm of x {tuple(x.shape)} takes {x.shape[1]} means, variances, "
            "scales and shifts"
        )
    result: Tensor = _BatchNorm.apply(x, mean, var, scale, shift, training, relu)
    return result
