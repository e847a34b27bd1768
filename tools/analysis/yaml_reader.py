"""The only reader of YAML in the tools."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.storage.errors import InputError


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file; raises `InputError` if it is missing or broken."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); restore it by `git checkout {path}`"
        ) from None


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML document; raises `InputError`, which names the file, if broken."""
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, TypeError, ValueError) as error:
        raise InputError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
