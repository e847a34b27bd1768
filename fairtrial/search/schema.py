"""What a row of `sweeps/points.jsonl` has to be."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _Accuracy(_Strict):
    value: float
    low: float
    high: float


class _Replicas(_Strict):
    n: int
    mean: float
    sd: float | None


class _Split(_Strict):
    n: int
    accuracy: _Accuracy
    replicas: _Replicas
    ensemble: float
    cross_entropy: float
    calibration_error: float


class _Evaluate(_Strict):
    val: _Split


class _Metrics(_Strict):
    """What the tables need of the metrics; there may be more."""

    __pydantic_extra__: dict[str, JsonValue]
    evaluate: _Evaluate


class _Row(_Strict, extra="forbid"):
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    overrides: list[str]
    metrics: _Metrics
    md5: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]]
    seconds: Annotated[float, Field(ge=0)]


def check_row(row: Any) -> None:
    """Raise `ValueError` with the first problem if a row of a point is none."""
    try:
        _Row.model_validate(row)
        json.dumps(row, allow_nan=False)  # there may be numbers anywhere
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(repr, problem["loc"])) or "the row"
        is_object = problem["type"] == "model_type"  # pydantic names a class of ours
        message = "should be an object" if is_object else problem["msg"].lower()
        raise ValueError(f"{place}: {message}") from None
    except (RecursionError, TypeError) as error:
        raise ValueError(str(error)) from None
