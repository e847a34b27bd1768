"""Read YAML as DVC reads it, within bounds: a revision may be anybody's."""

from pathlib import Path
from typing import Any

from fairtrial.project.errors import InputError
from fairtrial.project.files import refuse_irregular

MAX_CHARS = 1_000_000
MAX_VALUES = 100_000  # scalars, lists and mappings, keys included, aliases written out
MAX_DEPTH = 50  # levels


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
    """Raise `InputError` if a document is too deep, or too large once its aliases are written out.

    The parser's events cost no recursion and no expansion, unlike the values that they describe.
    """
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    sizes: dict[str, int] = {}  # the values of what has an anchor
    open_ones: list[list[Any]] = [["", 0]]  # collections: their anchors, and the values so far
    for event in events:
        anchor, values = "", 0
        if isinstance(event, CollectionStartEvent):
            open_ones.append([event.anchor, 1])
        elif isinstance(event, CollectionEndEvent):
            anchor, values = open_ones.pop()
        elif isinstance(event, AliasEvent):  # perhaps inside of its own anchor, without an end
            values = sizes.get(event.anchor, MAX_VALUES)
        elif isinstance(event, ScalarEvent):
            anchor, values = event.anchor, 1
        if anchor:
            sizes[anchor] = values
        open_ones[-1][1] += values
        if len(open_ones) > MAX_DEPTH or open_ones[-1][1] > MAX_VALUES:
            raise InputError(
                f"{name}: line {event.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels "
                f"or more than {MAX_VALUES:,} values, with aliases written out; write less"
            )
