"""The points of a grid of parameters, all validated before any is computed."""

import hashlib
import importlib
import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fairtrial.project.contract import DVC_YAML, Contract
from fairtrial.project.errors import InputError
from fairtrial.project.lock import PARAMS
from fairtrial.project.packages import REQUIREMENTS
from fairtrial.project.pipeline import Pipeline
from fairtrial.project.revisions import flatten, run_git
from fairtrial.project.yaml_reader import read_yaml

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


class PointMaker:
    """Makes points of overrides, in a folder whose pipeline and contract it knows."""

    def __init__(self, pipeline: Pipeline, contract: Contract) -> None:
        self.pipeline, self.contract = pipeline, contract
        self.base = Path(PARAMS).read_bytes()
        self.check = _load_check(contract.check)
        self.hashes: dict[tuple[str, ...], str] = {}  # of the files of points, by their paths
        self._hash_files([])  # what is not committed is refused whatever the points are

    def make(
        self, overrides_of_points: list[list[str]], skip_invalid: bool = False
    ) -> tuple[list[Point], dict[str, int]]:
        """Return the points with these overrides, and how many were left out for each reason.

        skip_invalid: as `grid` takes it. Raises `InputError` with all problems.
        """
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        points: list[Point] = []
        problems: dict[str, str] = {}  # each with the first point that has it
        invalid: dict[str, int] = {}  # how many points each problem of the check has
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, PARAMS)
            for overrides in overrides_of_points:
                file.write_bytes(self.base)
                try:
                    apply_overrides(file, overrides)
                    values = dict(flatten(read_yaml(file)))
                except DvcException as error:
                    message = str(error.__cause__ or error).splitlines()[0]
                    problems.setdefault(f"{message} Is it in {PARAMS}?", " ".join(overrides))
                    continue
                except InputError as error:
                    problems.setdefault(_without(folder, str(error)), " ".join(overrides))
                    continue
                if messages := self._problems(file):
                    for message in messages:
                        problems.setdefault(message, " ".join(overrides))
                        invalid[message] = invalid.get(message, 0) + 1
                    continue
                try:
                    hashes = self._hash_files(self.pipeline.sources_of(values))
                except InputError as error:
                    problems.setdefault(str(error), " ".join(overrides))
                    continue
                inputs = json.dumps([hashes, values], sort_keys=True, default=str)
                key = hashlib.sha256(inputs.encode()).hexdigest()
                points.append(Point(overrides, file.read_text(encoding="utf-8"), key))
        only_invalid = problems.keys() == invalid.keys()
        if problems and not (skip_invalid and points and only_invalid):
            lines = [f"-S {overrides}: {message}" for message, overrides in problems.items()]
            if points and only_invalid:
                lines.append("--skip-invalid leaves such points out")
            raise InputError(*lines)
        return points, invalid

    def _problems(self, file: Path) -> list[str]:
        """Return what the project's own check says against a params.yaml."""
        try:
            self.check(file)
        except Exception as error:  # of whatever kind the project has
            sentences = [one for one in error.args if isinstance(one, str)] or [repr(error)]
            return [_without(str(file.parent), sentence) for sentence in sentences]
        return []

    def _hash_files(self, paths: list[str]) -> str:
        """Return git's hashes of all files that a point depends on.

        paths: those that not all points depend on. Raises `InputError` if one is not committed.
        """
        if (key := tuple(paths)) not in self.hashes:
            fixed = [DVC_YAML, *self.pipeline.sources]
            if Path(REQUIREMENTS).exists():
                fixed.append(REQUIREMENTS)
            self.hashes[key] = _committed_hashes([*fixed, *paths])
        return self.hashes[key]


def grid(
    settings: list[str], maker: PointMaker, skip_invalid: bool = False
) -> tuple[list[Point], dict[str, int]]:
    """Return the points of a grid, without duplicates, and how many were left out by each reason.

    settings: as -S takes them, such as train.lr=0.01,0.03.
    skip_invalid: whether to leave out points that the project's own check refuses.

    Raises `InputError` with all problems of all points that are not left out, if no point is left,
    or if there are more than `MAX_POINTS`.
    """
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import get_hydra_sweeps
    from hydra.errors import HydraException

    try:
        _check_size(settings)
        sweeps = get_hydra_sweeps({PARAMS: settings})
    except (ArithmeticError, DvcException, HydraException, ValueError) as error:
        raise InputError(
            f"-S: {str(error).splitlines()[0]}; write NAME=VALUES, as in docs/sweeps.md"
        ) from None
    names = [setting.partition("=")[0] for setting in settings]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"-S: {', '.join(repeated)} more than once; give all values in one -S")
    if not sweeps:
        raise InputError(f"-S: {' '.join(settings)} has no values; see docs/sweeps.md")
    points, invalid = maker.make([sweep[PARAMS] for sweep in sweeps], skip_invalid)
    return list({point.key: point for point in points}.values()), invalid


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


def _load_check(name: str | None) -> Callable[[Path], object]:
    """Return the project's own check of a params.yaml, such as stages.check:check_params."""
    if name is None:
        return lambda _: None
    module, _, function = name.partition(":")
    if sys.path[0] != str(Path.cwd()):
        sys.path.insert(0, str(Path.cwd()))
    try:
        check: Callable[[Path], object] = getattr(importlib.import_module(module), function)
    except (AttributeError, ImportError, ValueError) as error:
        raise InputError(
            f"{DVC_YAML}: check: {name} cannot be imported ({error}); write MODULE:FUNCTION of a "
            "module in this folder"
        ) from None
    return check


def _without(folder: str, message: str) -> str:
    return message.replace(f"{folder}/", "")


def _committed_hashes(paths: list[str]) -> str:
    """Return the hashes that git has of files and folders, or of the .dvc files in their place.

    Raises `InputError` if one is not committed.
    """
    # Data in a folder that DVC tracks is in git by the .dvc file of that folder.
    places = {
        path: [path, *(f"{one}.dvc" for one in (Path(path), *Path(path).parents) if one.name)]
        for path in paths
    }
    wanted = sorted({place for of_path in places.values() for place in of_path})
    if changed := run_git("status", "--porcelain", "--", *wanted):
        raise InputError(f"not committed, so no worker can clone it: {changed}; commit it first")
    tree = run_git("ls-tree", "-r", "-z", "HEAD", "--", *wanted)
    names = [line.partition("\t")[2] for line in tree.split("\0")]
    for path, of_path in places.items():
        folders = tuple(f"{place}/" for place in of_path)
        if not any(name in of_path or name.startswith(folders) for name in names):
            raise InputError(
                f"{path} is not committed, so no worker can get it; `dvc add {path}` and commit "
                "its .dvc file, or commit it itself"
            )
    return tree
