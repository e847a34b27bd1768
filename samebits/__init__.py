"""Train with torch and get the same bits on every CPU, with any number of threads: see README.md.

Layers, losses and optimizers that take the place of torch's, and the sums and functions that they
consist of. `samebits.plain_float32` has the same layers and losses by torch in float32.
"""

from samebits.exact import exact_sum, exp, log, matmul, sqrt
from samebits.images import affine
from samebits.layers import batch_norm, conv2d, linear, max_pool2d, pixels
from samebits.losses import cross_entropy, mse, smoothed_targets, softmax_cross_entropy
from samebits.optimizers import SGD, Adam, one_cycle
from samebits.random import seeded_generator, uniform
from samebits.stacking import stack_weights

__all__ = [
    "SGD",
    "Adam",
    "affine",
    "batch_norm",
    "conv2d",
    "cross_entropy",
    "exact_sum",
    "exp",
    "linear",
    "log",
    "matmul",
    "max_pool2d",
    "mse",
    "one_cycle",
    "pixels",
    "seeded_generator",
    "smoothed_targets",
    "softmax_cross_entropy",
    "sqrt",
    "stack_weights",
    "uniform",
]
