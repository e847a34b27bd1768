"""The points of a grid of parameters, all validated before any is computed."""

import hashlib
import itertools
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from fairtrial.project.errors import InputError
from fairtrial.project.revisions import run_git
from fairtrial.project.pipeline import Pipeline

MAX_POINTS = 100_000  # to check them takes 20 minutes


class Point(NamedTuple):
    overrides: list[str]  # as -S takes them
    params: str  # the content of params.yaml
    key: str  # a hash of everything that decides the result

    @property
    def settings(self) -> dict[str, str]:
        return dict(override.split("=", 1) for override in self.overrides)

    @property
    def name(self) -> str:
        return f"sweep-{self.key[:8]}"


def grid(
    settings: list[str], pipeline: Pipeline, skip_invalid: bool = False
) -> tuple[list[Point], dict[str, int]]:
    """Return the points of a grid, without duplicates, and how many were left out, by the reason.

    settings: as -S takes them, such as train.lr=0.01,0.03.
    skip_invalid: whether to leave out points whose parameters contradict each other.

    Raises `InputError` with all problems of all points that are not left out, or if no point is
    left or there are more than `MAX_POINTS`.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    try:
        _check_size(settings)
        sweeps = get_hydra_sweeps({"params.yaml": settings})
    except (ArithmeticError, DvcException, HydraException, ValueError) as error:
        raise InputError(
            f"-S: {str(error).splitlines()[0]}; write NAME=VALUES, as in docs/sweeps.md"
        ) from None
    names = [setting.partition("=")[0] for setting in settings]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"-S: {', '.join(repeated)} more than once; give all values in one -S")
    if not sweeps:
        raise InputError(f"-S: {' '.join(settings)} has no values; see docs/sweeps.md")
    overrides = [sweep["params.yaml"] for sweep in sweeps]
    points, invalid = make_points(overrides, pipeline, skip_invalid)
    return list({point.key: point for point in points}.values()), invalid


def make_points(
    overrides_of_points: list[list[str]], pipeline: Pipeline, skip_invalid: bool = False
) -> tuple[list[Point], dict[str, int]]:
    """Return the points with these overrides, and how many were left out, by the reason.

    skip_invalid: as `grid` takes it. Raises `InputError` with all problems.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    from stages.check import Params
    from stages.params import read_model

    code = _committed_code(pipeline)
    sources: dict[str, str] = {}  # the hashes of each data set of the grid
    base = Path("params.yaml").read_bytes()
    points: list[Point] = []
    problems: dict[str, str] = {}  # each with the first point that has it
    invalid: dict[str, int] = {}  # how many points each problem has
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "params.yaml")
        for overrides in overrides_of_points:
            file.write_bytes(base)
            try:
                apply_overrides(file, overrides)
                params = read_model(Params, file)
                source = params.fetch.source
                if source not in sources:
                    sources[source] = _committed_source(source)
            except DvcException as error:
                message = str(error.__cause__ or error).splitlines()[0]
                problems.setdefault(f"{message} Is it in params.yaml?", " ".join(overrides))
            except InputError as error:
                for message in error.args:
                    message = message.removeprefix(f"{folder}/")
                    problems.setdefault(message, " ".join(overrides))
                    invalid[message] = invalid.get(message, 0) + 1
            else:
                inputs = json.dumps([code, sources[source], params.model_dump()], sort_keys=True)
                key = hashlib.sha256(inputs.encode()).hexdigest()
                points.append(Point(overrides, file.read_text(encoding="utf-8"), key))
    if problems and not (skip_invalid and points and problems.keys() == invalid.keys()):
        lines = [f"-S {overrides}: {message}" for message, overrides in problems.items()]
        if points and problems.keys() == invalid.keys():
            lines.append("--skip-invalid leaves such points out")
        raise InputError(*lines)
    return points, invalid


def _check_size(settings: list[str]) -> None:
    """Raise `InputError` if there are more than `MAX_POINTS`, before Hydra makes a list of them."""
    from dvc.utils.hydra import to_hydra_overrides

    size = 1
    for override in to_hydra_overrides(settings):
        value = override.value()
        if override.is_range_sweep():  # one of numbers with a fraction has no length, or no end
            size *= sum(1 for _ in itertools.islice(value.range(), MAX_POINTS + 1))
        elif override.is_interval_sweep():
            raise InputError(
                f"-S {override.input_line}: has no end of values; search it by --trials N"
            )
        elif override.is_choice_sweep():
            size *= len(value.list)
        if size > MAX_POINTS:
            raise InputError(
                f"-S: more than {MAX_POINTS:,} points; give fewer values, or sweep over a part of "
                "them at a time"
            )


def _committed_code(pipeline: Pipeline) -> str:
    """Return the hashes that git has of the code; raises `InputError` if some is not committed."""
    return _committed(["stages", "requirements.txt", "dvc.yaml", *pipeline.sources])


def _committed_source(source: str) -> str:
    """Return the hashes that git has of a data card, or of the .dvc file of a folder of pictures.

    Raises `InputError` if it has none.
    """
    tracked = [f"{path}.dvc" for path in (Path(source), *Path(source).parents)[:-1]]
    if not run_git("ls-tree", "HEAD", "--", source, *tracked):
        raise InputError(
            f"params.yaml: fetch.source: {source} is not committed, so no worker can get it; "
            f"`dvc add {source}` and commit its .dvc file, or commit a data card itself"
        )
    return _committed([source, *tracked])


def _committed(paths: list[str]) -> str:
    """Return the hashes that git has of files and folders; raises `InputError` if one is new."""
    if changed := run_git("status", "--porcelain", "--", *paths):
        raise InputError(f"not committed, so no worker can clone it: {changed}; commit it first")
    return run_git("ls-tree", "-r", "HEAD", "--", *paths)
