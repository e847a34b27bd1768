"""Read YAML as DVC reads it, within bounds: a revision may be anybody's."""

from pathlib import Path
from typing import Any

from fairtrial.project.errors import InputError
from fairtrial.project.files import refuse_irregular

MAX_CHARS = 1_000_000
MAX_VALUES = 100_000  # scalars, lists and mappings, keys included, aliases written out
MAX_DEPTH = 50  # levels, aliases written out


def read_yaml(path: Path) -> Any:
    """Return the value of the YAML file `path`, or None if it is empty.

    Raises `InputError` if it is missing or not a regular file, or as `parse_yaml` does.
    """
    refuse_irregular(path, "put a YAML file in its place")
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_CHARS + 1)  # a character has at most 4 bytes in UTF-8
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run this at the top of the project"
        ) from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes | str, name: str) -> Any:
    """Return the value of a YAML document, or None if it is empty.

    name: the file that it comes from, for messages.

    Raises `InputError`, with a sentence that names the file and the remedy, if the content is not
    YAML or exceeds a bound.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text ({error}); save it in UTF-8") from None
    if len(text) > MAX_CHARS:
        raise InputError(f"{name}: longer than {MAX_CHARS:,} characters; is it the right file?")
    try:
        _check_bounds(YAML(typ="safe").parse(text), name)
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(f"{name}: {line}not valid YAML ({problem}); correct it") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A date that does not exist, a number of a million digits, a tag of its own.
        raise InputError(f"{name}: not valid YAML ({error}); correct it") from None


def parse_mapping(content: bytes, name: str) -> dict[str, Any]:
    """Return the value of a YAML document; raises `InputError` if it is not a mapping."""
    value = parse_yaml(content, name)
    if not isinstance(value, dict):
        raise InputError(f"{name}: has no sections; `git checkout` brings back what was committed")
    return value


def _check_bounds(events: Any, name: str) -> None:
    """Raise `InputError` if a document is too deep or large once its aliases are written out.

    The parser's events cost no recursion and no expansion, unlike the values that they describe.
    """
    anchors: dict[str, tuple[int, int]] = {}  # the values and the levels of what has an anchor
    stack: list[list[Any]] = [["", 0, 0]]  # of the open collections: anchor, values, levels below
    for event in events:
        kind = type(event).__name__
        if kind.endswith("EndEvent") and kind[:3] in ("Seq", "Map"):
            anchor, values, levels = stack.pop()
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            stack.append([event.anchor, 1, 0])
            anchor, values, levels = "", 0, 0
        elif kind == "ScalarEvent":
            anchor, values, levels = event.anchor, 1, 0
        elif kind == "AliasEvent":  # without an end, if it stands inside of its own anchor
            anchor, (values, levels) = "", anchors.get(event.anchor, (MAX_VALUES, MAX_DEPTH))
        else:
            continue
        if anchor:
            anchors[anchor] = values, levels
        outer = stack[-1]
        outer[1] += values
        outer[2] = max(outer[2], levels + 1)
        if len(stack) + levels > MAX_DEPTH or outer[1] > MAX_VALUES:
            raise InputError(
                f"{name}: line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels "
                f"or more than {MAX_VALUES:,} values, with aliases written out; write less"
            )
