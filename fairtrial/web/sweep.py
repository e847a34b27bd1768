"""The plots of a sweep for the page of a report, from the table that the sweep has written."""

import itertools
from pathlib import Path

import pandas as pd

from fairtrial.project.contract import read_contract
from fairtrial.project.errors import InputError
from fairtrial.project.lock import PARAMS
from fairtrial.project.revisions import flatten
from fairtrial.project.sweeps import SWEEPS
from fairtrial.project.yaml_reader import read_yaml
from fairtrial.search.chart import sweep_plots
from fairtrial.search.goal import Goal
from fairtrial.web.plots import Plot


def load_sweep_plots(name: str) -> list[Plot]:
    """Return the plots of the sweep of this name, which is empty for `sweeps/sweep.csv`.

    Raises `InputError` if its table is missing or broken.
    """
    contract = read_contract()
    goals = [Goal(contract, metric) for metric in contract.metrics]
    path = SWEEPS / name / "sweep.csv"
    try:
        table = pd.read_csv(path)
        # The settings stand after the name of the point, and the metric that ranks after them.
        known = dict(flatten(read_yaml(Path(PARAMS))))
        params = list(itertools.takewhile(known.__contains__, table.columns[1:]))
        column = table.columns[1 + len(params)]
        goal = goals[[one.column for one in goals].index(column)]
        plots = sweep_plots(table.astype({column: float}), params, goal)
    except (IndexError, KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not the table of a sweep ({error}); `python -m fairtrial sweep` writes it"
        ) from None
    return [Plot(title, spec, wide="width" in spec) for title, spec in plots]
