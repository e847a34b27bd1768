"""Read and validate `params.yaml`: all problems at once, one line each, before any work.

Each section is a frozen pydantic model in a module of its own, so that a stage depends on the
definition of its own parameters and of no others. No parameter has a default in code: the file
states everything that a run uses.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from stages.storage.errors import InputError
from stages.storage.yaml_reader import read_yaml

# In the folder where the stage runs. (In temporary and queued experiments the variable DVC_ROOT
# names the parent workspace, whose parameters may differ.)
PATH = Path("params.yaml")

Size = Annotated[int, Field(gt=0, lt=2**31)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


M = TypeVar("M", bound=BaseModel)


def load_params(model: type[M], name: str | None = None, path: Path = PATH) -> M:
    """Return the section `name` of a YAML file, or the whole file, checked against `model`.

    Raises `InputError` with a line for each problem.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path}: has no sections of `key: value` lines; write them")
    if name and name not in values:
        raise InputError(f"{path}: {name}: missing; every section has to be given")
    try:
        return model.model_validate(values[name] if name else values)
    except ValidationError as error:
        raise InputError(*_messages(error, model, path, name)) from None


def _messages(
    error: ValidationError, model: type[BaseModel], path: Path, name: str | None
) -> list[str]:
    """Return a line for each problem: the file, the dotted key, the value and what is wrong."""
    messages = []
    for problem in error.errors():
        keys = [*([name] if name else []), *map(str, problem["loc"])]
        key = ".".join(key if key.isprintable() else repr(key) for key in keys)
        match problem["type"]:
            case "extra_forbidden":
                text = f"unknown parameter{_suggestion(problem['loc'], model)}"
            case "missing":
                text = "missing; every section and parameter has to be given"
            case "value_error":
                text = str(problem["ctx"]["error"])
            case "model_type" | "model_attributes_type":
                text = "should be a section of `key: value` lines"
            case _:
                text = f"{problem['msg'].lower()}, not {short_repr(problem['input'])}"
        # A check of the whole model has no key.
        messages.append(f"{path}: {key}: {text}" if key else f"{path}: {text}")
    return messages


def _suggestion(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    """Return for an unknown parameter the most similar known one, or else all known ones."""
    *sections, unknown = location
    for section in sections:
        field = model.model_fields.get(str(section))
        if field is None or not isinstance(field.annotation, type):  # one of several models
            return ""
        model = field.annotation
    known = list(model.model_fields)
    similar = difflib.get_close_matches(str(unknown), known, n=1)
    return f"; did you mean {similar[0]}?" if similar else f"; known are {', '.join(known)}"


def should_be(expected: str) -> WrapValidator:
    """Return a validator of a union: one sentence refuses a value that is none of its types."""

    def check(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:
            raise ValueError(f"should be {expected}, not {short_repr(value)}") from None

    return WrapValidator(check)


def short_repr(value: object) -> str:
    """Return a value in at most 60 characters; of a large integer or a list only its kind."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
