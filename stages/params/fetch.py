"""The section `fetch` of `params.yaml`."""

from typing import Literal

from stages.params import Section

# The number of images in the training pool, of which `prepare` takes the training and the
# validation images.
POOL_SIZES = {
    "mnist-5k": 2_500,
    "mnist": 60_000,
    "fashion-mnist": 60_000,
    "kmnist": 60_000,
    "qmnist": 60_000,
}


class Fetch(Section):
    dataset: Literal["mnist-5k", "mnist", "fashion-mnist", "kmnist", "qmnist"]
