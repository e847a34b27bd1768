"""That YAML means here what it means to DVC, and that no file is too bad or too large to refuse."""

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import DvcException
from dvc.utils.serialize import dumps_yaml
from dvc.utils.serialize import parse_yaml as parse_by_dvc
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.storage.errors import InputError
from stages.storage.yaml_reader import MAX_DEPTH, MAX_LENGTH, parse_yaml, read_yaml
from tests.helpers.project import DEFAULT, ROOT

PARAMS = (DEFAULT / "params.yaml").read_text()
# Pieces of documents: signs that mean something to YAML, what they stand beside, and worse.
PIECES = [
    *"- : ? , [ ] { } # & * ! | > ' \" % @ ` ~ / \\ = < a b e 0 1 . _ é 🙂".split(),
    *"&a *a 'a' \"b\" '' \"\" null true yes 1e5 1_0 0x1F 0o17 0b1 .5 .inf 2001-01-01 a: b:".split(),
    *"{a: b} [a, b] |- >+ >2 \\x41 \\u00e9 \\ud800 :: a:b ?a -a !!str !!set --- ...".split(),
    *(" ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "\x85", "\u2028", "\ufeff", "\x00", "\x7f"),
    *("- ", ": ", "? ", "&a ", "*a ", "<<: ", "! ", "--- ", "|\n", "\\\n", " # c\n"),
    *("\n  ", "\n- ", "\n    ", "---\n", "...\n", "a: ", "b: ", "\n\ufeff", "%YAML 1.1\n"),
]


def refusal(text: str) -> str:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "f.yaml")
    [message] = str(caught.value).splitlines()
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-05", 1e-05),
        ("010", 10),
        ("0o10", 8),
        ("1_000", 1_000),
        ("-.inf", -math.inf),
        ("~", None),
        ("", None),
        ("TRUE", True),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ('"1e-05"', "1e-05"),
        ("'it''s'", "it's"),
        ('"\\x41\\u00e9\\n\\0"', "Aé\n\0"),
    ],
)
def test_a_scalar_has_the_value_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_yaml(f"key: {text}", "f.yaml") == {"key": value}
    assert parse_by_dvc(f"key: {text}", "f.yaml") == {"key": value}


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Pieces, or a part of params.yaml after a few cuts and insertions."""
    if draw(st.booleans()):
        return "".join(draw(st.lists(st.sampled_from(PIECES), max_size=12)))
    start = draw(st.integers(0, len(PARAMS)))
    text = PARAMS[start : start + draw(st.integers(0, 300))]
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = start + draw(st.integers(0, 3))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[stop:]
    return text


def test_any_text_has_dvcs_value_or_is_refused_in_a_sentence() -> None:
    accepted = []

    @settings(max_examples=1_000)
    @given(documents())
    def check(text: str) -> None:
        try:
            ours = parse_yaml(text, "f.yaml")
        except InputError as error:
            assert str(error).startswith("f.yaml: ")
            return
        try:
            theirs = parse_by_dvc(text, "f.yaml")
        except DvcException:
            return
        # repr tells apart 1, 1.0, True and '1', and says nan of every nan.
        assert repr(ours or {}) == repr(theirs)  # DVC gives {} for whatever is false
        accepted.append(text)

    check()
    assert len(accepted) > 100


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_dvc_writes_is_read(value: Any) -> None:
    try:
        text = dumps_yaml({"key": value})
    except ValueError:  # a number of too many digits
        return
    assert repr(parse_yaml(text, "f.yaml")) == repr(parse_by_dvc(text, "f.yaml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n\tb: 2", "line 2, column 1: not valid YAML (found a tab character that"),
        ("a: [1", "line 2, column 1: not valid YAML (did not find expected ',' or ']'); correct"),
        ("a: 1\na: 2", "line 2, column 1: not valid YAML (found duplicate key"),
        ("a\n---\nb", "line 2, column 1: not valid YAML (but found another document); correct"),
        ("!!python/object:os.system x", "line 1, column 1: not valid YAML (could not determine"),
        ("{}: 1", "line 1, column 1: not valid YAML (found unhashable key); correct"),
        ("a: &x 1\nb: *x", "line 2: an alias is not supported; write the value out"),
        ("a: \x00", "not valid YAML (unacceptable character #x0000"),
        ('a: "\\ud800"', "line 1, column 7: not valid YAML (found invalid Unicode character"),
        ("a: 2001-99-99", "not valid YAML (month must be in 1..12); correct it"),
        (f"a: {'9' * 10_000}", "not valid YAML (Exceeds the limit (4300 digits)"),
        ("- " * (MAX_DEPTH + 1), f"line 1: nested deeper than {MAX_DEPTH} levels; nest less"),
        ("[" * (MAX_LENGTH - 1), f"line 1: nested deeper than {MAX_DEPTH} levels; nest less"),
        ("#" * (MAX_LENGTH + 1), f"longer than {MAX_LENGTH:,} bytes; is it the right file?"),
    ],
)
def test_bad_text_is_refused_with_its_place_and_the_remedy(text: str, message: str) -> None:
    assert refusal(text).startswith(f"f.yaml: {message}")


def test_what_is_within_the_bounds_is_read() -> None:
    assert parse_yaml("- " * (MAX_DEPTH - 1) + "1", "f.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "f.yaml: cannot be read (No such file or directory); run from the top of the"),
        (b"a: 1\nb: \xff", "f.yaml: not UTF-8 text ("),
        (b"#" * 50_000_000, f"f.yaml: longer than {MAX_LENGTH:,} bytes; is it"),
    ],
)
def test_a_bad_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("f.yaml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_yaml(Path("f.yaml"))
    assert str(caught.value).startswith(message)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\n")
    assert read_yaml(tmp_path / "f.yaml") == {"a": "é"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").touch(mode=0)
    with pytest.raises(InputError, match="cannot be read"):
        read_yaml(tmp_path / "f.yaml")


def test_a_deep_nesting_does_not_crash_the_process() -> None:
    """It crashes the parsers in C where they make values of it."""
    code = (
        "from stages.storage.yaml_reader import *\n"
        "try: parse_yaml('[' * 149_000, 'f.yaml')\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"f.yaml: line 1: nested deeper than {MAX_DEPTH} levels; nest less\n"
