"""The only reader of YAML in the tools."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.storage.errors import InputError


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML document; raises `InputError`, which names the file, if broken."""
    try:
        return YAML(typ="safe").load(text)
    except (YAMLError, TypeError, ValueError) as error:
        raise InputError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
