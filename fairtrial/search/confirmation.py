"""Train the best of a search again on fresh seeds, beside the default, and compare the two."""

import hashlib
from typing import Any

from fairtrial.project.errors import InputError
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.statistics.comparison import compare, summary_lines
from fairtrial.project.results import load_results
from fairtrial.tables import metrics_cells
from fairtrial.project.pipeline import PARAMS, Pipeline
from fairtrial.search.execution import Computation
from fairtrial.search.grid import Point, make_points
from fairtrial.search.promotion import promote
from fairtrial.search.rows import METRIC, metric_value, record_chosen
from fairtrial.search.trials import Trial, replace

MIN_REPLICAS = 5  # of each side: fewer show little


def confirm(
    best: Trial, default: list[str], trials: int, pipeline: Pipeline, computation: Computation
) -> list[str]:
    """Return in words how good the best is on seeds that had no part in the choice.

    Both sides become DVC experiments.

    default: the overrides of what it is compared with.
    trials: of how many the best was chosen.
    """
    training = parse_yaml(best.points[-1].params, PARAMS)["train"]
    digest = hashlib.sha256(f"{training['seed']} confirmation".encode()).digest()
    fresh = [
        f"train.seed={int.from_bytes(digest[:4], 'big')}",
        f"train.replicas={max(training['replicas'], MIN_REPLICAS)}",
    ]
    points, _ = make_points([replace(one, fresh) for one in (default, best.overrides)], pipeline)
    computation.compute(points, "confirmation")
    for point in points:
        if point.key not in computation.rows:
            raise InputError(
                f"{' '.join(point.overrides)}: could not be trained, so nothing is confirmed; the "
                "same command tries it again"
            )
    of_default, chosen = points
    # Noted before it is made, so that it is not without its note.
    record_chosen([chosen.name], trials)
    for point in points:
        promote(point, computation.rows[point.key])
    first, other = (load_results(point.name, "val") for point in points)
    found = computation.rows[best.points[-1].key]["metrics"]
    return [
        f"found {_text(found, computation.metric)}, the best of {trials} trials: "
        f"{' '.join(best.overrides)}",
        f"confirmed {_value(chosen, computation)} on fresh seeds; the default has "
        f"{_value(of_default, computation)}",
        *summary_lines(compare(first, [other], [trials]), "val"),
        f"{of_default.name} is the default with these seeds: "
        f"python -m fairtrial.compare {of_default.name} {chosen.name}",
    ]


def _value(point: Point, computation: Computation) -> str:
    return _text(computation.rows[point.key]["metrics"], computation.metric)


def _text(metrics: dict[str, Any], metric: str) -> str:
    """Return a metric, in percent and with its standard deviation if it is the mean over seeds."""
    if metric != METRIC:
        return f"{metric} {metric_value(metrics, metric):.4f}"
    return f"{metrics_cells(metrics['evaluate']['val'])['mean ± sd %']} %"
