"""How tables are made and printed."""

import re
from typing import Any

import pandas as pd
import pytest

from fairtrial.project.errors import printable
from fairtrial.statistics.comparison import compare
from fairtrial.tables import (
    difference_table,
    params_table,
    print_tables,
    scores_table,
    to_latex,
    to_markdown,
)
from tests.fairtrial.replicas import CONTRACT, replicas, revision


def test_a_table_on_a_terminal_is_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in it: brackets are no markup, and nothing is cut or broken."""
    names = ["[red].png", ":smile:", "x" * 300]
    frame = pd.DataFrame({"file": names, "n": [1, 22, 333]})
    line = "a line " * 40
    print_tables([frame, pd.DataFrame()], [line])
    header, *rows, empty, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "n"]
    assert [row.split() for row in rows] == [
        [name, str(n)] for name, n in zip(names, frame["n"], strict=True)
    ]
    assert {len(row) for row in rows} == {300 + 2 + 3}
    assert (empty, last) == ("", line)


def test_markdown_has_tables_and_a_list() -> None:
    frame = pd.DataFrame({"revision": ["a"], "accuracy": ["80.0"]})
    assert to_markdown([frame, pd.DataFrame()], ["one", "two"]).splitlines() == [
        "| revision   |   accuracy |",
        "|:-----------|-----------:|",
        "| a          |       80.0 |",
        "",
        "- one",
        "- two",
    ]


HOSTILE = (
    "\x1b]0;PWNED\a",
    "[link=http://x]x[/link]",
    "[/nothing]",
    "*|",
    "<b>_x_ a_b",
    "50 % \\n\n",
)


def test_no_value_reaches_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_tables([pd.DataFrame([HOSTILE], columns=HOSTILE)], list(HOSTILE))
    header, row, _, *lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == list(map(printable, HOSTILE))
    assert header.split() == row.split() == " ".join(map(printable, HOSTILE)).split()
    assert r"\x1b]0;PWNED\x07" in row


def test_no_value_is_markdown() -> None:
    header, _, row, _, *lines = to_markdown(
        [pd.DataFrame([HOSTILE], columns=HOSTILE)], list(HOSTILE)
    ).splitlines()
    expected = [
        r"\\x1b\]0;PWNED\\x07",
        r"\[link=http://x\]x\[/link\]",
        r"\[/nothing\]",
        r"\*\|",
        r"\<b\>\_x\_ a_b",
        r"50 % \\n\\n",
    ]
    for cells in (header, row):
        assert [cell.strip() for cell in re.split(r"(?<!\\)\|", cells)[1:-1]] == expected
    assert lines == [f"- {line}" for line in expected]


def test_no_value_is_latex() -> None:
    """A bracket or a star after the end of a row would be an argument of that command."""
    frame = pd.DataFrame({"[2pt]": [*HOSTILE, "{#^~&$}"]})
    lines = to_latex([frame], ["[2pt]"]).splitlines()
    assert lines[2] == r"{}[2pt] \\"
    assert lines[4:11] == [
        r"\textbackslash{}x1b]0;PWNED\textbackslash{}x07 \\",
        r"{}[link=http://x]x[/link] \\",
        r"{}[/nothing] \\",
        r"{}*| \\",
        r"\ensuremath{<}b\ensuremath{>}\_x\_ a\_b \\",
        r"50 \% \textbackslash{}n\textbackslash{}n \\",
        r"\{\#\^{}\textasciitilde{}\&\$\} \\",
    ]
    assert lines[-3] == r"{}[2pt] \\"


def test_latex_has_powers_of_ten_and_signs_that_need_no_package() -> None:
    frame = pd.DataFrame({"mean": ["0.5 \u00b1 0.1"], "p": ["4.8e-07"], "lr": ["1e+3"]})
    text = to_latex([frame], ["p = 5e-12 of 12e34"])
    assert r"0.5 $\pm$ 0.1 & $4.8 \times 10^{-7}$ & $1 \times 10^{3}$" in text
    assert r"p = $5 \times 10^{-12}$ of 12e34" in text


def test_latex_has_tables_with_rules_and_escapes_its_own_characters() -> None:
    frame = pd.DataFrame({"revision": ["a_b"], "accuracy %": ["80.0"]})
    text = to_latex([frame, pd.DataFrame()], ["50 % & more"])
    assert text.splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"revision & accuracy \% \\",
        r"\midrule",
        r"a\_b & 80.0 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\begin{tabular}{l}",
        r"\toprule",
        r"result \\",
        r"\midrule",
        r"50 \% \& more \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_equal_numbers_are_no_changed_parameter() -> None:
    values: list[dict[str, Any]] = [
        {"a": 0.0, "b": 1, "c": False, "d": 1e5},
        {"a": 0, "b": 2, "c": 0, "d": 100_000},
    ]
    revisions = [
        revision(str(number), replicas([0.8]), params=params)
        for number, params in enumerate(values)
    ]
    assert params_table(revisions, only_changed=True)["parameter"].tolist() == ["b", "c"]


def test_values_are_shown_in_the_unit_of_the_metric() -> None:
    a, b = revision("a", replicas([0.8, 0.82])), revision("b", replicas([0.9, 0.9]))
    for name, columns, mean, gap in (
        ("accuracy", ["accuracy %", "mean ± sd %", "points"], "81.00 ± 1.41", "+9.00"),
        ("loss", ["loss", "mean ± sd", "difference"], "0.19 ± 0.01414", "-0.09"),
    ):
        metric = CONTRACT.metrics[name]
        scores = scores_table([a, b], name, metric)
        difference = difference_table(a, compare(a, [b], name), metric)
        assert [scores.columns[2], scores.columns[5], difference.columns[1]] == columns
        assert scores[columns[1]][0] == mean
        assert difference[columns[2]][0] == gap
        assert scores["95 % CI"][0] == scores["95 % CI"][0].strip()
