"""Train the best of a search again on fresh seeds, beside the default, and compare the two."""

from fairtrial.project.chosen import record_chosen
from fairtrial.project.errors import InputError
from fairtrial.project.scores import load_scores
from fairtrial.project.seeds import derived_seed
from fairtrial.search.point_runner import PointRunner
from fairtrial.search.points import PointMaker, Trial, replace
from fairtrial.search.promote import promote
from fairtrial.statistics.comparison import compare, summary_lines
from fairtrial.statistics.matching import Choice

MIN_REPLICAS = 5  # of each side: fewer show little


def confirm(
    best: Trial, default: list[str], trials: int, maker: PointMaker, runner: PointRunner
) -> list[str]:
    """Say how good the best is on seeds that had no part in the choice.

    Both sides become DVC experiments.

    default: the overrides of what it is compared with.
    trials: from how many the best was chosen.
    """
    contract, goal = maker.contract, runner.goal
    values = best.points[-1].values
    replicas = max(values[contract.replicas], MIN_REPLICAS)
    fresh = [
        f"{contract.seed}={derived_seed(values[contract.seed], 'confirmation')}",
        f"{contract.replicas}={replicas}",
    ]
    points, _ = maker.make([replace(one, fresh) for one in (default, best.overrides)])
    runner.compute(points, "confirmation")
    for point in points:
        if point.key not in runner.rows:
            raise InputError(
                f"{' '.join(point.overrides)}: could not be trained, so nothing is confirmed; the "
                "same command tries it again"
            )
    of_default, chosen = points
    # Noted before it is made, so that it is never without its note. The seeds are those of the
    # search, and not the fresh ones.
    record_chosen([values], trials, contract)
    for point in points:
        promote(point, runner.rows[point.key], goal)
    first, other = (load_scores(point.name) for point in points)
    compared = compare(first, [other], goal.metric, [Choice(trials, True, False)])
    found, again, base = (
        goal.text(runner.rows[point.key]) for point in (best.points[-1], chosen, of_default)
    )
    return [
        f"found {found}, the best of {trials} trials: {' '.join(best.overrides)}",
        f"confirmed {again} on fresh seeds; the default has {base}",
        *summary_lines({goal.metric: compared}, first),
        f"{of_default.name} is the default with these seeds: "
        f"python -m fairtrial compare {of_default.name} {chosen.name}",
    ]
