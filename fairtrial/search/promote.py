"""Make DVC experiments of the best points of a sweep."""

import sys

from fairtrial.project.contract import DVC_YAML, stage_definitions
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import read_files
from fairtrial.project.scores import load_scores
from fairtrial.project.scratch import run_captured
from fairtrial.project.staleness import LOCK, locked_hashes
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.search.goal import Goal, Row
from fairtrial.search.points import Point


def promote(point: Point, row: Row, goal: Goal) -> str:
    """Make a DVC experiment of a point, unless there is one already; say whether it is the same.

    Raises `InputError` if DVC cannot make it.
    """
    dvc = [sys.executable, "-m", "dvc", "exp"]
    if point.name not in run_captured([*dvc, "list", "--name-only"]).stdout.split():
        # With the equals sign, so that no override is taken for an option.
        options = [f"--set-param={override}" for override in point.overrides]
        result = run_captured([*dvc, "run", "--temp", "--name", point.name, *options])
        if result.returncode != 0:
            raise InputError(f"{point.name}: {' '.join(result.stderr.split()[-60:])}")
    definition, lock = read_files(point.name, DVC_YAML, LOCK)
    stages = stage_definitions(definition, f"{point.name}: {DVC_YAML}")
    outs = locked_hashes(parse_yaml(lock, f"{point.name}: {LOCK}"), stages, "outs")
    made = {path: md5 for of_stage in outs.values() for path, md5 in of_stage.items()}
    others = [path for path, md5 in row["md5"].items() if made.get(path) != md5]
    if not others:
        return f"reproduced bit for bit as experiment {point.name}: dvc exp apply {point.name}"
    revision = load_scores(point.name, goal.contract.split)
    again = float(revision.scores[goal.metric].mean())
    return (
        f"{point.name} is an experiment, but not of the same bits: {goal.title} was "
        f"{goal.value(row)!r} in the sweep and is {again!r} in the experiment; {', '.join(others)} "
        "differ"
    )
