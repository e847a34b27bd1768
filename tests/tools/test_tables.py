"""How tables are printed."""

import pandas as pd
import pytest

from tools.analysis.tables import print_tables, to_markdown


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
        "| revision   | accuracy   |",
        "|:-----------|:-----------|",
        "| a          | 80.0       |",
        "",
        "- one",
        "- two",
    ]
