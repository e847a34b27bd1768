"""The section `fetch` of `params.yaml`."""

from typing import Literal

from stages.params import Section

# Images in the official training split, of which `prepare` takes its subsets.
POOL_SIZES = {"mnist-5k": 2_500}


class Fetch(Section):
    dataset: Literal["mnist-5k"]
