"""What a project says about its scores, in `dvc.yaml` beside the stage that makes them.

stages:
  evaluate:
    meta:
      fairtrial:
        scores: metrics/scores.csv
        split: val
        seed: train.seed
        replicas: train.replicas
        metrics:
          accuracy: {better: higher, unit: "%"}
"""

import posixpath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fairtrial.project.errors import InputError, nearest
from fairtrial.project.revisions import read_files
from fairtrial.project.yaml_reader import parse_yaml

DVC_YAML = "dvc.yaml"
README = "fairtrial/README.md shows one"

Text = Annotated[str, Field(min_length=1)]


class Metric(BaseModel):
    """A number for each example and replica, whose mean over both is compared."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    better: Literal["higher", "lower"]
    unit: str = ""  # with %, values are shown times 100, and differences in points

    @property
    def sign(self) -> int:
        """+1 if higher values are better, and -1 if lower ones are."""
        return 1 if self.better == "higher" else -1

    @property
    def points(self) -> str:
        """The unit of a difference, after a space: of percentages, points."""
        return " points" if self.unit == "%" else f" {self.unit}".rstrip()

    def text(self, value: float, percent: str = ".2f", plain: str = ".4g") -> str:
        """Return a value without its unit, in one of two formats; with the unit %, times 100."""
        return format(100 * value, percent) if self.unit == "%" else format(value, plain)

    def parse(self, shown: float) -> float:
        """Return the value of a number that is given as `text` shows it."""
        return shown / 100 if self.unit == "%" else shown


class Contract(BaseModel):
    """What `dvc.yaml` says about the scores of a project."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stage: Text  # the stage that makes the scores
    scores: Annotated[  # paths of tables: in dvc.yaml from the stage's folder, here from the root
        tuple[Text, ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(strict=False),
        Field(min_length=1),
    ]
    split: Text  # by which settings are chosen
    seed: Text  # the parameters of these names, in params.yaml
    replicas: Text
    metrics: Annotated[dict[Text, Metric], Field(min_length=1)]  # the first is the default
    budget: Text | None = None  # the parameter that a search by halving shortens
    data: Text | None = None  # the stage whose outputs workers take from DVC's cache or remote
    check: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None  # module:function

    @property
    def default_metric(self) -> str:
        return next(iter(self.metrics))

    def metric(self, name: str | None = None) -> tuple[str, Metric]:
        """Return a metric with its name, by default the first; raises `InputError` if unknown."""
        name = name or self.default_metric
        if name not in self.metrics:
            raise InputError(f"unknown metric '{name}'; known: {', '.join(self.metrics)}")
        return name, self.metrics[name]

    def sign(self, name: str) -> int:
        """Return +1 if higher values of a metric are better, and -1 if lower ones are."""
        return self.metric(name)[1].sign


def read_contract(revision: str = "workspace") -> Contract:
    """Return the contract of a revision; raises `InputError` if there is none, or a bad one."""
    [content] = read_files(revision, DVC_YAML)
    return parse_contract(content, revision)


def parse_contract(content: bytes, revision: str) -> Contract:
    """Return the contract in the `dvc.yaml` of a revision.

    Raises `InputError` if no stage has one, if several have, or with all that is wrong in it.
    """
    name = DVC_YAML if revision == "workspace" else f"{revision}: {DVC_YAML}"
    stages = stage_definitions(content, name)
    claims = {
        key: stage["meta"]["fairtrial"]
        for key, stage in stages.items()
        if isinstance(stage.get("meta"), dict) and "fairtrial" in stage["meta"]
    }
    if not claims:
        raise InputError(f"{name}: no stage has `meta: fairtrial:`, the place of scores; {README}")
    if len(claims) > 1:
        names = " and ".join(claims)
        raise InputError(f"{name}: the stages {names} have `meta: fairtrial:`; keep one of them")
    [(stage, values)] = claims.items()
    place = f"{name}: stages.{stage}.meta.fairtrial"
    if not isinstance(values, dict) or "stage" in values:
        raise InputError(f"{place}: has no keys, or a key stage; {README}")
    try:
        contract = Contract.model_validate({**values, "stage": stage})
    except ValidationError as error:
        raise InputError(*(_sentence(place, one) for one in error.errors())) from None
    paths = tuple(path_from_root(stages[stage], path) for path in contract.scores)
    return contract.model_copy(update={"scores": paths})


def stage_definitions(content: bytes, name: str) -> dict[str, dict[str, Any]]:
    """Return the stages of a `dvc.yaml` by their names; raises `InputError` if it has none."""
    value = parse_yaml(content, name)
    stages = value.get("stages") if isinstance(value, dict) else None
    if not isinstance(stages, dict):
        raise InputError(f"{name}: has no stages; {README}")
    return {str(key): stage for key, stage in stages.items() if isinstance(stage, dict)}


def path_from_root(stage: dict[str, Any], path: str) -> str:
    """Return a path that a stage names, which is relative to the folder it runs in."""
    return posixpath.normpath(posixpath.join(str(stage.get("wdir", ".")), path))


def _sentence(place: str, error: Any) -> str:
    """Return one problem that pydantic found as a sentence with its place and remedy."""
    where = ".".join([place, *(str(part) for part in error["loc"] if part != "[key]")])
    if error["type"] == "missing":
        return f"{where}: is missing; {README}"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}, not {error['input']!r}; {README}"
    fields = Contract.model_fields if len(error["loc"]) == 1 else Metric.model_fields
    known = [field for field in fields if field != "stage"]
    return f"{where}: unknown key; {nearest(str(error['loc'][-1]), known)}"
