"""Read YAML as DVC reads it, within bounds.

The loader is PyYAML's `SafeLoader` in pure Python, because a deep nesting crashes the parsers in
C. Values without quotes follow the core schema of YAML 1.2, where yes is a word and 010 is ten
(https://yaml.org/spec/1.2.2/#103-core-schema), with one addition: the digits of a decimal number
may be grouped with underscores, as in 1_000. A value that DVC reads differently from this
schema is refused, so that no text has two meanings.
"""

import math
import re
import reprlib
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import yaml

from fairtrial.project.errors import InputError
from fairtrial.project.files import refuse_irregular

# The costliest text known within these bounds takes 0.6 seconds of CPU time. Our dvc.lock has
# 13,000 characters and 1,056 values.
MAX_CHARS = 150_000
MAX_VALUES = 12_000  # scalars, lists and mappings, keys included, aliases written out
MAX_DEPTH = 50  # levels, aliases written out


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
    if len(content) > 4 * MAX_CHARS:
        raise _too_long(str(path))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: cannot be read as UTF-8 text ({error.reason}); "
            "save the file in UTF-8"
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML document, or None if it is empty.

    text: the document, with or without a byte order mark before it.
    name: the file that it comes from, for messages.

    Raises `InputError`, with a sentence that names the file, the line, the column and the remedy,
    if the text is not YAML, exceeds a bound, or contains what this reader does not support: a
    second document, a directive, a tag, a merge key, a key that is a list or a mapping, or a value
    that DVC reads differently from the core schema.
    """
    if len(text) > MAX_CHARS:
        raise _too_long(name)
    match = _Loader.NON_PRINTABLE.search(text)
    # A byte order mark that does not begin the text is a character to PyYAML and nothing to DVC.
    position = match.start() if match else text.find("\ufeff", 1)
    if position >= 0:
        # An x in its place: splitlines ends lines at some of these characters, and YAML does not.
        lines = f"{text[:position]}x".splitlines()
        raise InputError(
            f"{name}: line {len(lines)}, column {len(lines[-1])}: not valid YAML: the character "
            f"U+{ord(text[position]):04X} is not allowed; remove it"
        )
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or loader.get_mark()
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        problem = textwrap.shorten(problem, 160)  # it may quote a long name
        tab = text[mark.index : mark.index + 1] == "\t"
        remedy = "write spaces instead of the tab" if tab else "correct the text here or before it"
        raise InputError(f"{_place(name, mark)}: not valid YAML: {problem}; {remedy}") from None
    except (ValueError, OverflowError):  # of chr(), to which PyYAML gives the number of an escape
        raise InputError(
            f"{_place(name, loader.get_mark())}: not valid YAML: this escape stands for no "
            "character; correct it"
        ) from None


def _too_long(name: str) -> InputError:
    return InputError(
        f"{name}: longer than {MAX_CHARS:,} characters; check that it is the right file, "
        "and shorten or divide it"
    )


def _place(name: str, mark: yaml.Mark) -> str:
    return f"{name}: line {mark.line + 1}, column {mark.column + 1}"


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` of one document, with the rules and the bounds of this module."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.values = 0

    def fetch_directive(self) -> NoReturn:
        _refuse(self.get_mark(), "a directive, such as %YAML 1.1, is not supported; remove it")

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        if root is not None:
            _check_aliases(root)
        return root

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            _refuse(
                event.start_mark,
                "a tag, such as !!str, is not supported; remove it, and quote text",
            )
        # Before the node is composed: that calls this method again for each level below it.
        self.depth += 1
        self.values += 1
        _check_bounds(event.start_mark, self.depth, self.values)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                _refuse(key_node.start_mark, "a key is a list or a mapping; write a text instead")
            key = self.construct_object(key_node)
            if key in mapping:
                _refuse(
                    key_node.start_mark,
                    f"not valid YAML: found duplicate key {_quote(key_node)}; keep one of them",
                )
            mapping[key] = self.construct_object(value_node, deep)
        return mapping


def _refuse(mark: yaml.Mark, problem: str) -> NoReturn:
    raise InputError(f"{_place(mark.name, mark)}: {problem}")


def _quote(node: yaml.ScalarNode) -> str:
    return reprlib.repr(node.value)  # a long text without its middle


def _check_bounds(mark: yaml.Mark, depth: int, values: int) -> None:
    if depth > MAX_DEPTH:
        _refuse(
            mark, f"nested deeper than {MAX_DEPTH} levels, or without end by an alias; nest less"
        )
    if values > MAX_VALUES:
        _refuse(mark, f"more than {MAX_VALUES:,} values; divide the file, or use fewer aliases")


def _check_aliases(root: yaml.Node) -> None:
    """Check the bounds with every alias written out; one inside of its own value has no end."""
    values = 1
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        children = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in children for child in pair]
        values += len(children)
        _check_bounds(node.start_mark, depth, values)
        stack += [(child, depth + 1) for child in children]


def _construct_str(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if re.search("[\ud800-\udfff]", text):
        _refuse(
            node.start_mark,
            "not valid YAML: an escape stands for half a character; write the character itself",
        )
    return text


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    try:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    except ValueError:
        _refuse(node.start_mark, f"{_quote(node)} has too many digits; write it in quotes as text")


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).replace("_", "").lower()
    special = {".nan": math.nan, ".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf}
    return special[text] if text in special else float(text)


def _refuse_merge(loader: _Loader, node: yaml.ScalarNode) -> NoReturn:
    _refuse(
        node.start_mark,
        "the merge key << is not supported; write the merged values out, or quote it as text",
    )


def _refuse_number(loader: _Loader, node: yaml.ScalarNode) -> NoReturn:
    _refuse(
        node.start_mark,
        f"DVC and YAML 1.2 differ on whether {_quote(node)} is a number; "
        "write it like 5, 0.5, 0.5e3, 0o17 or 0x1F, or quote it as text",
    )


def _refuse_date(loader: _Loader, node: yaml.ScalarNode) -> NoReturn:
    _refuse(node.start_mark, f"DVC reads {_quote(node)} as a date; quote it as text")


_Loader.yaml_implicit_resolvers = {}  # without those of SafeLoader, which are of YAML 1.1
# What a value without quotes is: the first pattern that it matches as a whole decides, and
# without one it is text. So the numbers that are refused are those that no line above accepts.
for tag, pattern, construct in (
    ("null", r"~|null|Null|NULL|", _Loader.construct_yaml_null),
    ("bool", r"true|True|TRUE|false|False|FALSE", _Loader.construct_yaml_bool),
    ("int", r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", _construct_int),
    ("float", r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?", _construct_float),
    ("float", r"[-+]?\.[0-9][0-9_]*([eE][-+][0-9]+)?", _construct_float),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _construct_float),
    ("number", r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+)|[-+][0-9_]+", _refuse_number),
    ("number", r"[-+]?\.[0-9_]+([eE][-+]?[0-9]+)?", _refuse_number),
    ("date", r"[0-9]{4}-[0-9]{2}-[0-9]{2}", _refuse_date),
    (
        "date",
        r"[0-9]{4}(-[0-9]{1,2}){2}([Tt]|[ \t]+)[0-9]+(:[0-9]{2}){2}[-+:.0-9Z \t]*",
        _refuse_date,
    ),
    ("merge", r"<<", _refuse_merge),
):
    _Loader.add_implicit_resolver(tag, re.compile(rf"(?:{pattern})\Z"), None)
    _Loader.add_constructor(tag, construct)
_Loader.add_constructor("tag:yaml.org,2002:str", _construct_str)
