"""Train with torch and get the same bits on every CPU, with any number of threads: see README.md.

Layers, losses and optimizers that take the place of torch's. `samebits.plain_float32` has the same
layers and losses by torch.
"""

from samebits.images import affine
from samebits.layers import batch_norm, conv2d, linear, pixels
from samebits.losses import cross_entropy, exp, log, mse, smoothed_targets, softmax_cross_entropy
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
    "exp",
    "linear",
    "log",
    "mse",
    "one_cycle",
    "pixels",
    "seeded_generator",
    "smoothed_targets",
    "softmax_cross_entropy",
    "stack_weights",
    "uniform",
]
