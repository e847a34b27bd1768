"""That YAML means here what it means to DVC, and that no file is too bad or too large to refuse."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.exceptions import DvcException
from dvc.utils.serialize import dumps_yaml, load_yaml
from dvc.utils.serialize import parse_yaml as parse_by_dvc
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.storage.errors import InputError
from stages.storage.yaml_reader import (
    MAX_CHARS,
    MAX_DEPTH,
    MAX_VALUES,
    parse_yaml,
    read_yaml,
)
from tests.helpers.project import ROOT

FILES = [(ROOT / name).read_text() for name in ("params.yaml", "dvc.yaml", "dvc.lock")]
# Pieces of scalars: what numbers, dates, words and their like are made of.
SCALAR_PIECES = [
    *"0 1 2 7 8 9 00 12 60 + - _ . : e E x o b a F f T t Z n N ~ = < << , @".split(),
    *"0x 0X 0o 0b e5 e-05 e+3 .5 1. inf .inf .Inf nan .nan .NaN null Null true True TRUE".split(),
    *"yes no on off y 1_000 1e5 2001-01-01 2001-1-1 12:30:45 1:30 .25".split(),
    " ",
]
# Pieces of documents: signs that mean something to YAML, what they stand beside, and worse.
DOCUMENT_PIECES = [
    *"- : ? , [ ] { } # & * ! | > ' \" % @ ` ~ / \\ = < a b e 0 1 . _ é 🙂".split(),
    *"&a *a 'a' \"b\" '' \"\" null true yes 1e5 1_0 0x1F .5 2001-01-01 a: b:".split(),
    *"{a: b} [a, b] |- >+ >2 \\x41 \\u00e9 \\ud800 :: a:b ?a -a !!str --- ...".split(),
    *(" ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\x85", "\u2028", "\ufeff", "\x00", "\x7f"),
    *("- ", ": ", "? ", "&a ", "*a ", "<<: ", "! ", "--- ", "|\n", "\\\n", " # c\n"),
    *("\n  ", "\n- ", "\n    ", "---\n", "...\n", "a: ", "b: ", "\n\ufeff", "%YAML 1.1\n"),
]


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    return str(caught.value)


def agrees(text: str) -> bool:
    """Return whether DVC and we accept a text; then it has to have the same value for both."""
    try:
        ours = parse_yaml(text, "f.yaml")
    except InputError as error:
        assert str(error).startswith("f.yaml: line ")
        assert str(error).isprintable()
        return False
    try:
        theirs = parse_by_dvc(text, "f.yaml")
    except (DvcException, ValueError):
        return False
    # repr tells apart 1, 1.0, True and '1', -0.0 and 0.0; it says nan of every nan.
    assert repr(ours or {}) == repr(theirs)  # DVC gives {} for whatever is false
    return True


def accepted_share(documents: st.SearchStrategy[str], count: int) -> float:
    """Return the share of documents that both accept, after a check that they agree on each."""
    results = []

    @settings(max_examples=count)
    @given(documents)
    def check(text: str) -> None:
        results.append(agrees(text))

    check()
    return sum(results) / len(results)


def texts(pieces: list[str], max_size: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=max_size).map("".join)


@st.composite
def mutations(draw: st.DrawFn) -> str:
    """A part of a file of this project after a few cuts and insertions."""
    text = draw(st.sampled_from(FILES))
    start = draw(st.integers(0, len(text)))
    text = text[start : start + draw(st.integers(0, 300))]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 3))
        text = text[:start] + draw(st.sampled_from(DOCUMENT_PIECES)) + text[stop:]
    return text


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.text(max_size=8) | st.integers() | st.booleans() | st.none()
STRUCTURES = st.recursive(
    SCALARS | texts(SCALAR_PIECES, 3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05),
        ("1e5", 100_000.0),
        ("1E+5", 100_000.0),
        ("1e400", math.inf),
        ("010", 10),
        ("08", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("+1", 1),
        ("-0", 0),
        ("-0.0", -0.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e-3", -0.0005),
        ("1_000", 1_000),
        ("1_000.5_0", 1_000.5),
        (".inf", math.inf),
        ("+.INF", math.inf),
        ("-.inf", -math.inf),
        (".nan", math.nan),
        ("~", None),
        ("null", None),
        ("", None),
        ("True", True),
        ("FALSE", False),
        *(
            (word, word)
            for word in "yes no on off y N nUll tRUE inf nan e5 1e 0xg 0O7 0X1F".split()
        ),
        *((word, word) for word in "1:30 1:30.5 12:30:45 2001-1-1 + . _ _1 -. 1.2.3 0,1".split()),
        *((f'"{word}"', word) for word in "1e-05 010 0b1 .5e3 2001-01-01 << = ~ true".split()),
        ("'it''s'", "it's"),
        ("''", ""),
        ('"\\x41\\u00e9\\n\\0"', "Aé\n\0"),
    ],
)
def test_a_scalar_has_the_value_of_the_core_schema_which_is_that_of_dvc(
    text: str, value: Any
) -> None:
    documents = {
        f"key: {text}": {"key": value},
        f"- {text}\n- 1": [value, 1],
        f"? {text}\n: 1": {value: 1},
    }
    if not {":", ","} & set(text):  # in a flow collection they end a value
        documents[f"{{key: {text}, b: 1}}"] = {"key": value, "b": 1}
    for document, expected in documents.items():
        assert repr(parse_yaml(document, "f.yaml")) == repr(expected)
        assert agrees(document)


def test_every_scalar_has_the_value_and_type_that_dvc_gives_it() -> None:
    places = st.sampled_from(["- {}", "{} : 1", "[a, {}]", "{{a: {}}}", "{}"])
    scalars = st.builds(str.format, places, texts(SCALAR_PIECES, 5))
    assert accepted_share(scalars, 1_000) > 0.5


def test_every_structure_reads_as_in_dvc_in_every_style() -> None:
    styles: list[dict[str, Any]] = [
        *({"default_flow_style": flow} for flow in (True, False, None)),
        *({"default_style": quote} for quote in "'\"|>"),
    ]
    written = st.builds(
        lambda value, style, unicode: str(yaml.safe_dump(value, **style, allow_unicode=unicode)),
        STRUCTURES,
        st.sampled_from(styles),
        st.booleans(),
    )
    assert accepted_share(written | STRUCTURES.map(dumps_yaml), 400) > 0.5


@settings(max_examples=150)
@given(st.dictionaries(st.text("abc é🙂", min_size=1), st.integers() | st.floats() | st.booleans()))
def test_what_dvc_writes_is_read_again(values: dict[str, Any]) -> None:
    text = dumps_yaml({"train": values, "b": [values]})
    assert repr(parse_yaml(text, "f.yaml")) == repr({"train": values, "b": [values]})


def test_every_document_reads_as_in_dvc_or_is_refused() -> None:
    assert accepted_share(texts(DOCUMENT_PIECES, 14), 1_500) > 0.1
    assert accepted_share(st.text(), 100) > 0.1


def test_every_change_to_a_file_of_ours_reads_as_in_dvc_or_is_refused() -> None:
    assert accepted_share(mutations(), 600) > 0.1


@pytest.mark.parametrize("text", FILES, ids=["params.yaml", "dvc.yaml", "dvc.lock"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_a_file_of_ours_reads_as_in_dvc(
    tmp_path: Path, text: str, newline: str, bom: bytes
) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(bom + text.replace("\n", newline).encode())
    assert repr(read_yaml(path)) == repr(load_yaml(path)) == repr(parse_yaml(text, "f.yaml"))


def test_the_lock_of_a_project_ten_times_the_size_is_read() -> None:
    head, stages = FILES[2].split("stages:\n")
    stage_names = [line for line in stages.splitlines() if line.startswith("  ") and line[2] != " "]
    text = f"{head}stages:\n"
    for number in range(10):
        copy = stages
        for name in stage_names:
            copy = copy.replace(f"{name}\n", f"{name[:-1]}-{number}:\n")
        text += copy
    assert agrees(text)
    assert len(parse_yaml(text, "f.yaml")["stages"]) == 50


def test_an_alias_is_the_value_that_it_repeats() -> None:
    text = "a: &x {lr: 1}\nb: [*x, &y lr, *y]\n*y : *x"
    assert parse_yaml(text, "f.yaml") == {
        "a": {"lr": 1},
        "b": [{"lr": 1}, "lr", "lr"],
        "lr": {"lr": 1},
    }
    assert agrees(text)


def test_an_empty_document_is_none() -> None:
    for text in ("", "# a remark\n", "\ufeff", "---\n", "\n\n"):
        assert parse_yaml(text, "f.yaml") is None


# Nine levels of ten aliases: a thousand million values, if they were counted one by one.
LEVELS = [f"&a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 10)]
# Each level with the alias at its bottom: 20 times 40 levels, of which a recursion would fail.
TOWER = [f"&a{i} {40 * '['}*a{i - 1}{40 * ']'}" for i in range(1, 20)]


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("a: 1\nb: {x: 1, x: 2}", 2, 11, "not valid YAML: found duplicate key 'x'; keep one"),
        ("1: a\n1.0: b", 2, 1, "not valid YAML: found duplicate key '1.0'; keep one of them"),
        (".nan: a\n.NaN: b", 2, 1, "found duplicate key '.NaN'; keep one of them"),
        (2 * f"{'x' * 99}: 1\n", 2, 1, f"duplicate key '{'x' * 12}...{'x' * 13}'; keep one"),
        ("a:\n\t- b", 2, 1, "'\\t' that cannot start any token; write spaces instead of the tab"),
        ("a: [1,\n", 2, 1, "but found '<stream end>'; correct the text here or before it"),
        ("a: b: c", 1, 5, "not valid YAML: mapping values are not allowed here; correct the text"),
        ("a: 1\n---\nb: 2", 2, 1, "not valid YAML: expected a single document in the stream"),
        ("%YAML 1.1\n---\na", 1, 1, "a directive, such as %YAML 1.1, is not supported; remove it"),
        ("a: !!python/name:os.system ''", 1, 4, "a tag, such as !!str, is not supported; remove"),
        ("a: !!str 1", 1, 4, "a tag, such as !!str, is not supported; remove it, and quote text"),
        ("a: ! 1", 1, 4, "a tag, such as !!str, is not supported; remove it, and quote text"),
        ("<<: {a: 1}", 1, 1, "the merge key << is not supported; write the merged values out"),
        ("a: &x {b: 1}\nc:\n  <<: *x", 3, 3, "the merge key << is not supported; write"),
        ("a: <<", 1, 4, "the merge key << is not supported; write the merged values out, or quote"),
        ("[1]: a", 1, 1, "a key is a list or a mapping; write a text instead"),
        ("? {a: b}\n: c", 1, 3, "a key is a list or a mapping; write a text instead"),
        ("a: *x", 1, 4, "not valid YAML: found undefined alias 'x'; correct the text here"),
        (f"a: *{'x' * 999}", 1, 4, "not valid YAML: found undefined alias [...]; correct the text"),
        ("[&a 1, &a 2]", 1, 8, "not valid YAML: found duplicate anchor 'a'; first occurrence"),
        ("a\n \x00", 2, 2, "not valid YAML: the character U+0000 is not allowed; remove it"),
        ("\x0b", 1, 1, "not valid YAML: the character U+000B is not allowed; remove it"),
        ("ab\ud800", 1, 3, "not valid YAML: the character U+D800 is not allowed; remove it"),
        ("a\r\n\ufeffb", 2, 1, "not valid YAML: the character U+FEFF is not allowed; remove it"),
        ('a: "\\ud83d\\ude42"', 1, 4, "not valid YAML: an escape stands for half a character; wri"),
        ('a: "\\UFFFFFFFF"', 1, 7, "not valid YAML: this escape stands for no character; correct"),
        ('a: "\\U00110000"', 1, 7, "not valid YAML: this escape stands for no character; correct"),
        ("9" * 5_000, 1, 1, "'999999999999...9999999999999' has too many digits; write it in"),
        ("[" * 100_000, 1, 51, "nested deeper than 50 levels, or without end by an alias"),
        ("{a: " * 25_000, 1, 198, "nested deeper than 50 levels"),
        ("- " * 5_000, 1, 101, "nested deeper than 50 levels"),
        ("".join(f"{' ' * i}a:\n" for i in range(400)), 50, 50, "nested deeper than 50 levels"),
        ("a: &x [*x]", 1, 4, "nested deeper than 50 levels, or without end by an alias; nest less"),
        ("&x {a: [b, *x]}", 1, 1, "nested deeper than 50 levels, or without end by an alias"),
        ("? &x [*x]", 1, 3, "nested deeper than 50 levels, or without end by an alias"),
        (f"[&a0 [], {', '.join(TOWER)}]", 1, 1552, "nested deeper than 50 levels"),
        (f"[&a0 [1], {', '.join(LEVELS)}]", 1, 2, "more than 12,000 values; divide the file"),
        ("- 1\n" * 20_000, 12_000, 3, "more than 12,000 values; divide the file, or use fewer"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, str) else str(value),
)
def test_what_is_not_supported_is_refused_with_its_place_and_the_remedy(
    text: str, line: int, column: int, problem: str
) -> None:
    message = refusal(text)
    assert message.startswith(f"f.yaml: line {line}, column {column}: ")
    assert problem in message
    assert message.isprintable()
    assert len(message) < 250


@pytest.mark.parametrize(
    "text", "0b1 -0b1 +0x1F -0o7 0o_7 0x1_F +_1 -_ .5e3 ._5 ._ +._5E-3".split()
)
def test_what_is_a_number_only_to_dvc_or_only_in_the_core_schema_is_refused(text: str) -> None:
    assert refusal(f"a: {text}").startswith(
        f"f.yaml: line 1, column 4: DVC and YAML 1.2 differ on whether '{text}' is a number; "
        "write it like 5, 0.5"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("2001-01-01", "2001-13-32", "2001-1-1T1:02:03Z", "2001-01-01 12:30:45"),
        *("2001-01-01t12:30:45.5", "2001-01-01 12:30:45 +01:00", "2001-01-01T12:30:45-5"),
    ],
)
def test_a_date_is_refused(text: str) -> None:
    message = f"f.yaml: line 1, column 4: DVC reads '{text}' as a date; quote it as text"
    assert refusal(f"a: {text}") == message


def test_a_text_that_is_too_long_is_refused() -> None:
    message = "f.yaml: longer than 150,000 characters; check that it is the right file, and shorten"
    assert refusal("a" * 1_000_000).startswith(message)


def test_the_bounds_are_exact() -> None:
    assert len(parse_yaml("- 1\n" * (MAX_VALUES - 1), "f.yaml")) == MAX_VALUES - 1
    assert "more than" in refusal("- 1\n" * MAX_VALUES)
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH, "f.yaml")
    assert "nested deeper" in refusal("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    assert parse_yaml("a" * MAX_CHARS, "f.yaml") == "a" * MAX_CHARS
    assert "longer than" in refusal("a" * (MAX_CHARS + 1))


def test_the_bounds_count_an_alias_as_what_it_repeats() -> None:
    fifty = f"[&a [{'1, ' * 49}], "  # the list a is 50 values
    assert len(parse_yaml(f"{fifty}{'*a, ' * 238}{'1, ' * 49}]", "f.yaml")) == 288
    assert "more than" in refusal(f"{fifty}{'*a, ' * 238}{'1, ' * 50}]")
    assert "more than" in refusal(f"{fifty}{'*a, ' * 239}]")
    ten = "[&a [[[[[[[[[[]]]]]]]]]], "  # the list a is 10 levels
    assert parse_yaml(f"{ten}{'[' * (MAX_DEPTH - 11)}*a{']' * (MAX_DEPTH - 11)}]", "f.yaml")
    assert "deeper" in refusal(f"{ten}{'[' * (MAX_DEPTH - 10)}*a{']' * (MAX_DEPTH - 10)}]")


@settings(max_examples=300)
@given(st.binary() | texts(DOCUMENT_PIECES, 10).map(lambda text: text.encode(errors="replace")))
def test_every_file_is_read_or_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(content)
    try:
        read_yaml(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
        assert str(error).isprintable()


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InputError, match=r"line 2: cannot be read as UTF-8 .*; save the file"):
        read_yaml(path)


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for a writer
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises(InputError, match=f"{path}: is not a regular file; put a YAML file"):
            read_yaml(path)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"f.yaml: not found; run from the top .* `git checkout .*f.yaml`"
    ):
        read_yaml(tmp_path / "f.yaml")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r": cannot be read \(.*too long.*; check its permissions"):
        read_yaml(tmp_path / ("x" * 300))


def test_only_the_beginning_of_a_file_that_is_too_long_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_bytes(b"a: 1\n" * 10_000_000)  # 50 MB
    # The script may have as much memory as it has once the reader is imported, and 10 MB more.
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from stages.storage.errors import InputError\n"
        "from stages.storage.yaml_reader import read_yaml\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "limit = pages * resource.getpagesize() + 10_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n"
        "    read_yaml(Path(sys.argv[1]))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    message = subprocess.check_output(command, cwd=ROOT, text=True)
    assert message.startswith(f"{path}: longer than 150,000 characters; check that it is the right")
