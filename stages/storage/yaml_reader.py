"""Read YAML as DVC reads it, by the same library, within bounds: a file may be anybody's."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular

MAX_CHARS = 150_000
MAX_VALUES = 12_000  # scalars, lists and mappings, keys included
MAX_DEPTH = 50  # levels


def read_yaml(path: Path) -> Any:
    """Return the value of the YAML file `path`, or None if it is empty.

    Raises `InputError` if the file is missing, is not a regular file of UTF-8 text, or is refused
    by `parse_yaml`. Only the beginning of a file that is too long is read.
    """
    refuse_irregular(path, "put a YAML file in its place")
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_CHARS + 1)  # a character has at most 4 bytes in UTF-8
    except FileNotFoundError:
        raise InputError(
            f"{path}: not found; run from the top of the project, "
            f"or bring the file back with `git checkout {path}`"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}); check its permissions") from None
    try:
        return parse_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: not UTF-8 text ({error.reason}); save the file in UTF-8"
        ) from None


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML document, or None if it is empty.

    name: the file that it comes from, for messages.

    Raises `InputError`, with a sentence that names the file, the line and the remedy, if the text
    is not YAML, exceeds a bound, or has an alias, by which a few lines can stand for a billion
    values.
    """
    if len(text) > MAX_CHARS:
        raise InputError(
            f"{name}: longer than {MAX_CHARS:,} characters; check that it is the right file, and "
            "shorten or divide it"
        )
    try:
        # The parser's events need no recursion, unlike the values that they describe.
        check_bounds(text, name)
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}: line {mark.line + 1}, column {mark.column + 1}" if mark else name
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        if mark and text[mark.index : mark.index + 1] == "\t":
            remedy = "write spaces instead of the tab"
        else:
            remedy = "correct the text here or before it"
        raise InputError(f"{place}: not valid YAML ({problem[:160]}); {remedy}") from None
    # A date that does not exist, a number of a million digits, half a character, an odd tag.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{name}: not valid YAML ({str(error)[:160]}); correct it") from None


def check_bounds(text: str, name: str) -> None:
    """Raise `InputError` if a document is too large or too deep, or has an alias."""
    depth = values = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        values += isinstance(event, CollectionStartEvent | ScalarEvent)
        place = f"{name}: line {event.start_mark.line + 1}"
        if isinstance(event, AliasEvent):
            raise InputError(f"{place}: an alias is not supported; write the value out")
        if depth > MAX_DEPTH:
            raise InputError(f"{place}: nested deeper than {MAX_DEPTH} levels; nest less")
        if values > MAX_VALUES:
            raise InputError(f"{place}: more than {MAX_VALUES:,} values; divide the file")
