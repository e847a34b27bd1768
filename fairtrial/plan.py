"""Say how many seeds and examples a comparison would need, before anything is trained.

  python -m fairtrial plan HEAD --difference 0.5

The spread is that of one revision, which has several seeds. Revisions that are compared by the same
seeds and hardly differ need less; such pairs cannot be known before they are trained.
"""

import argparse
import itertools
import math

import pandas as pd

from fairtrial.compare import add_output_formats, print_result
from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.scores import load_scores, select
from fairtrial.statistics.comparison import round_up, size_text
from fairtrial.statistics.planning import Spread

SEEDS = 2, 3, 5, 10, 20, 50
MULTIPLES = 1, 4, 16  # of the examples that there are


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revision", metavar="A", help="a commit, branch, tag, experiment")
    parser.add_argument(
        "--difference",
        type=float,
        metavar="D",
        help="that is to be shown, in the unit of the metric (points for %%)",
    )
    parser.add_argument("--metric", metavar="NAME", help="(default: the first of the contract)")
    parser.add_argument("--split", metavar="NAME", help="(default: that of the contract)")
    parser.add_argument("--slice", metavar="COLUMN=VALUE", help="only examples with this label")
    add_output_formats(parser)


def main(args: argparse.Namespace) -> None:
    if args.difference is not None and not 0 < args.difference < math.inf:
        raise InputError("--difference has to be above 0")
    revision = load_scores(args.revision, args.split)
    if args.slice:
        revision = select(revision, args.slice)
    name, metric = revision.contract.metric(args.metric)
    if revision.replicas < 2:
        raise InputError(
            f"{revision.name}: one seed shows no spread; set {revision.contract.replicas} to 5"
        )
    spread = Spread.of(revision.scores[name])
    sizes = {
        seeds: [spread.detectable(seeds, multiple * spread.n) for multiple in MULTIPLES]
        for seeds in SEEDS
    }
    # The approximate degrees of freedom fall a little as the examples tell more; more never hurt.
    sizes = {seeds: list(itertools.accumulate(one, min)) for seeds, one in sizes.items()}
    rows = [
        [str(seeds), *(none_or(size, spread, metric) for size in of_seeds)]
        for seeds, of_seeds in sizes.items()
    ]
    heads = [f"{multiple * spread.n:,} examples" for multiple in MULTIPLES]
    table = pd.DataFrame(rows, columns=["seeds of each", *heads])
    line = f"smallest difference in {name} that is shown in 80 % of comparisons"
    values = {
        "revision": revision.name,
        "split": revision.split,
        "metric": name,
        "examples": spread.n,
        "detectable": {str(seeds): of_seeds[0] for seeds, of_seeds in sizes.items()},
    }
    lines = [line]
    if args.difference is not None:
        size = metric.parse(args.difference)
        needed = spread.required_seeds(size)
        values |= {"difference": size, "seeds": needed}
        text = size_text(size, metric)
        lines.append(
            f"about {round_up(needed)} seeds of each show {text} on {spread.n:,} examples"
            if needed
            else f"no number of seeds shows {text} on {spread.n:,} examples: more are needed"
        )
    print_result(args, values, [table], lines)


def none_or(size: float, spread: Spread, metric: Metric) -> str:
    """Return the size of a difference, unless it is larger than any can be."""
    return "none" if spread.is_binary and size > 1 else size_text(size, metric)
