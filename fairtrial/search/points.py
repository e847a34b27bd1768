"""The points of a sweep, each validated before any is computed."""

import hashlib
import importlib
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fairtrial.project.contract import DVC_YAML, Contract
from fairtrial.project.errors import InputError
from fairtrial.project.packages import REQUIREMENTS
from fairtrial.project.pipeline import Pipeline
from fairtrial.project.revisions import flatten, run_git
from fairtrial.project.staleness import PARAMS
from fairtrial.project.yaml_reader import parse_yaml, read_yaml


class Point(NamedTuple):
    overrides: list[str]  # as -S takes them
    params: str  # the content of params.yaml
    key: str  # a hash of everything that decides the result

    @property
    def name(self) -> str:
        return f"sweep-{self.key[:8]}"

    @property
    def values(self) -> dict[str, Any]:
        """The parameters, by dotted name."""
        return dict(flatten(parse_yaml(self.params, PARAMS)))


class Trial(NamedTuple):
    """What a sweep tries: a point of a grid, or of a search one setting with growing budgets."""

    overrides: list[str]  # as -S takes them, without those of a budget
    points: list[Point]  # with a result, one for each budget that it got


class CheckError(InputError):
    """The project's own check refuses parameters."""


class Written(NamedTuple):
    """A params.yaml as DVC writes it."""

    text: str
    values: dict[str, Any]  # by dotted name

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


class PointMaker:
    """Makes points of overrides, in a folder whose pipeline and contract it knows."""

    def __init__(self, pipeline: Pipeline, contract: Contract) -> None:
        self.pipeline, self.contract = pipeline, contract
        self.base = Path(PARAMS).read_bytes()
        self.check = _load_check(contract.check)
        self.repeated: set[str] = set()  # overrides of several points
        self.singles: dict[str, Written] = {}  # the parameters with one override
        self.hashes: dict[tuple[str, ...], str] = {}  # of the files of points, by their paths
        self._hash_files([])  # what is not committed is refused whatever the points are

    def make(
        self, overrides_of_points: list[list[str]], skip_invalid: bool = False
    ) -> tuple[list[Point], dict[str, int]]:
        """Return the points with these overrides, and how many were left out for each reason.

        skip_invalid: whether to leave out points that the project's own check refuses.

        Raises `InputError` with all problems of all points that are not left out, or if no point is
        left.
        """
        counts = Counter(one for overrides in overrides_of_points for one in overrides)
        # Of what refers to other values, or is referred to, more than its own line changes.
        if not set(b"&*") & set(self.base):
            self.repeated = {one for one, count in counts.items() if count > 1 and "$" not in one}
        points: list[Point] = []
        problems: dict[str, str] = {}  # each with the first point that has it
        invalid: dict[str, int] = {}  # how many points each problem of the check has
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, PARAMS)
            for overrides in overrides_of_points:
                try:
                    points.append(self._make_point(file, overrides))
                except InputError as error:
                    for problem in error.args:
                        message = str(problem).replace(f"{folder}/", "")
                        problems.setdefault(message, " ".join(overrides))
                        if isinstance(error, CheckError):
                            invalid[message] = invalid.get(message, 0) + 1
        only_invalid = problems.keys() == invalid.keys()
        if problems and not (skip_invalid and points and only_invalid):
            lines = [f"-S {overrides}: {message}" for message, overrides in problems.items()]
            if points and only_invalid:
                lines.append("--skip-invalid leaves such points out")
            raise InputError(*lines)
        return points, invalid

    def _make_point(self, file: Path, overrides: list[str]) -> Point:
        """Return the point with these overrides, which are written to `file`.

        Raises `InputError` if they cannot be applied, or if a file that they name is not committed;
        `CheckError` if the project's own check refuses them.
        """
        written = self._combine(file, overrides) or self._apply(file, overrides)
        file.write_text(written.text, encoding="utf-8")
        try:
            self.check(file)
        except Exception as error:  # of whatever kind the project has
            sentences = [one for one in error.args if isinstance(one, str)]
            raise CheckError(*(sentences or [repr(error)])) from None
        hashes = self._hash_files(self.pipeline.sources_of(written.values))
        inputs = json.dumps([hashes, written.values], sort_keys=True, default=str)
        key = hashlib.sha256(inputs.encode()).hexdigest()
        return Point(overrides, written.text, key)

    def _apply(self, file: Path, overrides: list[str]) -> Written:
        """Return the parameters with overrides as DVC writes them; raises `InputError`."""
        from dvc.exceptions import DvcException
        from dvc.utils.hydra import apply_overrides

        file.write_bytes(self.base)
        try:
            apply_overrides(file, overrides)
        except DvcException as error:
            message = str(error.__cause__ or error).splitlines()[0]
            raise InputError(f"{message} Is it in {PARAMS}?") from None
        return Written(file.read_text(encoding="utf-8"), dict(flatten(read_yaml(file))))

    def _combine(self, file: Path, overrides: list[str]) -> Written | None:
        """Return the same from the lines and values that each override alone changes.

        DVC takes 10 ms to write a file. None if a point's overrides are new, or if one changes more
        than lines of its own.
        """
        if not all(one in self.repeated for one in overrides):
            return None
        base = self._single(file, "")
        lines, values = list(base.lines), dict(base.values)
        for one in overrides:
            single = self._single(file, one)
            if len(single.lines) != len(lines):
                return None
            for number, (old, new) in enumerate(zip(base.lines, single.lines, strict=True)):
                if old != new:
                    if lines[number] != old:
                        return None
                    lines[number] = new
            values |= {key: of for key, of in single.values.items() if of != base.values.get(key)}
        return Written("\n".join([*lines, ""]), values)

    def _single(self, file: Path, override: str) -> Written:
        if override not in self.singles:
            self.singles[override] = self._apply(file, [override] if override else [])
        return self.singles[override]

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


def replace(overrides: list[str], others: list[str]) -> list[str]:
    """Return overrides in which the others replace those of the same names."""
    names = {other.partition("=")[0] for other in others}
    return [one for one in overrides if one.partition("=")[0] not in names] + others


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
