"""The only reader of `params.yaml`: all problems at once, one line each, before any work.

A section is a frozen pydantic model in a module of its own, so that a stage depends on the
definition of its own parameters and of no others. No parameter has a default in code: what
a run used is what stands in the file.
"""

import difflib
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.storage.errors import InputError
from stages.storage.yaml_reader import read_yaml

# That of the folder the stage runs in. In temporary and queued experiments the variable
# DVC_ROOT names the parent workspace, whose parameters are others.
PATH = Path("params.yaml")


Size = Annotated[int, Field(gt=0, lt=2**31)]  # a number of things


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def load(model: type[S], name: str | None = None) -> S:
    """Return the section `name` of `params.yaml`, or the whole file, checked against `model`.

    Raises `InputError` with a line for each problem.
    """
    values = _read()
    if name and name not in values:
        raise InputError(f"{PATH}: {name}: missing; every section has to be given")
    try:
        return model.model_validate(values[name] if name else values)
    except ValidationError as error:
        raise InputError("\n".join(_lines(error, model, name))) from None


def _read() -> dict[object, Any]:
    values = read_yaml(PATH)
    if not isinstance(values, dict):
        found = "is empty" if values is None else f"is a {type(values).__name__}"
        raise InputError(f"{PATH}: {found}; it needs sections of `key: value` lines")
    return values


def _lines(error: ValidationError, model: type[Section], name: str | None) -> list[str]:
    """Return a line a problem: the file, the dotted key, what is wrong with which value."""
    lines = []
    for problem in error.errors():
        keys = [*([name] if name else []), *map(str, problem["loc"])]
        place = f"{PATH}: {'.'.join(key if key.isprintable() else repr(key) for key in keys)}"
        match problem["type"]:
            case "extra_forbidden":
                lines.append(f"{place}: unknown parameter{_nearest(problem['loc'], model)}")
            case "missing":
                lines.append(f"{place}: missing; every section and parameter has to be given")
            case "value_error":
                lines.append(f"{place}: {problem['ctx']['error']}")
            case "float_type" | "int_type" if _is_number(problem["input"]):
                lines.append(f"{place}: a number is written without quotes")
            case "model_type" | "model_attributes_type":
                lines.append(f"{place}: should be a section of `key: value` lines")
            case _:
                lines.append(f"{place}: {problem['msg'].lower()}, not {shown(problem['input'])}")
    return lines


def _nearest(location: tuple[int | str, ...], model: type[Section]) -> str:
    """Return advice for an unknown name: the known one most like it, or all of them."""
    *sections, unknown = location
    for section in sections:
        model = cast(type[Section], model.model_fields[str(section)].annotation)
    known = list(model.model_fields)
    near = difflib.get_close_matches(str(unknown), known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"


def _is_number(value: object) -> bool:
    """Return whether a value is a string that would be a number without its quotes."""
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def shown(value: object) -> str:
    """Return a value in at most 60 characters, whatever it is: a long or nested one by its type."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
