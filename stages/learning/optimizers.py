"""A step of each optimizer, and the learning rate of each step, as torch defines them.

They are written out, because torch fuses multiplications with additions and approximates roots
such that some CPUs round once and others twice, and because creating one of its optimizers
imports `torch._dynamo`. Here IEEE 754 fixes the result of every operation.
"""

import math

import torch
from torch import Tensor, nn

from stages.arithmetic.exact_math import sqrt
from stages.params.train import Train

NUM_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}  # tensors that are kept for each weight
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@torch.no_grad()
def optimizer_step(
    weights: list[nn.Parameter],
    gradients: tuple[Tensor, ...],
    moments: list[list[Tensor]],
    iteration: int,
    total_iterations: int,
    params: Train,
) -> None:
    """Change the weights and moments in place; `iteration` counts from 1.

    Momentum as in Sutskever et al. 2013, Adam as in Kingma and Ba 2015
    (https://arxiv.org/abs/1412.6980), AdamW as in Loshchilov and Hutter 2019
    (https://arxiv.org/abs/1711.05101).
    """
    lr = learning_rate(iteration, total_iterations, params)
    for weight, gradient, weight_moments in zip(weights, gradients, moments, strict=True):
        if params.weight_decay and params.optimizer == "adamw":
            weight.mul_(1 - lr * params.weight_decay)
        elif params.weight_decay:
            gradient = gradient + weight * params.weight_decay
        if params.optimizer == "sgd":
            weight.sub_(_momentum_update(gradient, weight_moments[0], params) * lr)
        else:
            first, second = weight_moments
            first.mul_(BETA1).add_(gradient * (1 - BETA1))
            second.mul_(BETA2).add_(gradient * gradient * (1 - BETA2))
            root = sqrt(second) / math.sqrt(1 - integer_power(BETA2, iteration)) + EPSILON
            weight.sub_(first / root * (lr / (1 - integer_power(BETA1, iteration))))


def learning_rate(iteration: int, total_iterations: int, params: Train) -> float:
    """Return the learning rate of a step; `iteration` counts from 1.

    One cycle rises from lr / 25 to lr over the first 30 % of the steps, and falls to
    lr / 250,000 (Smith and Topin 2018, https://arxiv.org/abs/1708.07120).
    """
    if params.schedule == "constant":
        return params.lr
    first, last = params.lr / 25, params.lr / 250_000
    position, peak = iteration - 1, 0.3 * total_iterations - 1
    if position <= peak:
        return first + (params.lr - first) * (position / peak if peak else 1)
    return params.lr + (last - params.lr) * ((position - peak) / (total_iterations - 1 - peak))


def _momentum_update(gradient: Tensor, velocity: Tensor, params: Train) -> Tensor:
    """Update the velocity in place; return the direction of the step."""
    if not params.momentum:
        return gradient
    velocity.mul_(params.momentum).add_(gradient)
    return gradient + velocity * params.momentum if params.nesterov else velocity


def integer_power(base: float, exponent: int) -> float:
    """Return base^exponent by multiplications: C libraries round `pow` in different ways."""
    result = 1.0
    while exponent:
        if exponent % 2:
            result *= base
        base *= base
        exponent //= 2
    return result
