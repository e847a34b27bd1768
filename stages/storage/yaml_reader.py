"""Read YAML as DVC reads it, by the same library, within bounds: a file may be anybody's."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from stages.storage.errors import InputError
from stages.storage.files import refuse_irregular

MAX_LENGTH = 150_000  # bytes, or characters
MAX_DEPTH = 50  # levels


def read_yaml(path: Path) -> Any:
    """Return the value of the YAML file `path`, or None if it is empty.

    Raises `InputError` if it is missing or not a regular file, or as `parse_yaml` does.
    """
    refuse_irregular(path, "put a YAML file in its place")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_LENGTH + 1)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); run from the top of the project, "
            f"or bring the file back with `git checkout {path}`"
        ) from None
    return parse_yaml(content, str(path))


def parse_yaml(content: bytes | str, name: str) -> Any:
    """Return the value of a YAML document, or None if it is empty.

    name: the file that it comes from, for messages.

    Raises `InputError` if the content is not YAML, if it is too long or too deep, or if it has an
    alias, by which a few lines can stand for a billion values.
    """
    if len(content) > MAX_LENGTH:
        raise InputError(f"{name}: longer than {MAX_LENGTH:,} bytes; is it the right file?")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        depth = 0
        # The parser's events need no recursion, unlike the values that they describe.
        for event in YAML(typ="safe").parse(text):
            depth += isinstance(event, CollectionStartEvent)
            depth -= isinstance(event, CollectionEndEvent)
            place = f"{name}: line {event.start_mark.line + 1}"
            if isinstance(event, AliasEvent):
                raise InputError(f"{place}: an alias is not supported; write the value out")
            if depth > MAX_DEPTH:
                raise InputError(f"{place}: nested deeper than {MAX_DEPTH} levels; nest less")
        return YAML(typ="safe").load(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text ({error}); save the file in UTF-8") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}: line {mark.line + 1}, column {mark.column + 1}" if mark else name
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise InputError(
            f"{place}: not valid YAML ({problem[:160]}); correct the text here or before it"
        ) from None
    # A date that does not exist, a number of a million digits, half a character, an odd tag.
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{name}: not valid YAML ({str(error)[:160]}); correct it") from None
