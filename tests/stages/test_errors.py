"""What a refusal prints, whatever it names."""

import os
import signal
import subprocess
import sys

import pytest

from stages.storage.errors import MAX_CHARS, InputError, printable, run, shorten


def printed(capfd: pytest.CaptureFixture[str], *problems: str) -> list[str]:
    """Return the lines that a refusal with these problems prints."""

    def main() -> None:
        raise InputError(*problems)

    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a \\ b: é, 数, 🙂", "a \\ b: é, 数, 🙂"),
        ("\x1b]0;PWNED\a", "\\x1b]0;PWNED\\x07"),  # sets the title of a terminal
        ("a\nb\r\tc\x0bd\x85e\u2028f", "a\\nb\\r\\tc\\x0bd\\x85e\\u2028f"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("\u202egnp.7", "\\u202egnp.7"),  # what follows is written from right to left
        ("\udcff.png", "\\udcff.png"),  # a byte of a file name that is no UTF-8
    ],
)
def test_a_problem_is_one_printable_line(
    capfd: pytest.CaptureFixture[str], text: str, escaped: str
) -> None:
    assert printed(capfd, f"{text}: not found", "[/nothing]") == [
        f"{escaped}: not found",
        "[/nothing]",
    ]
    assert printable(text) == escaped


def test_many_and_long_problems_are_shortened(capfd: pytest.CaptureFixture[str]) -> None:
    lines = printed(capfd, *(f"{number}: bad" for number in range(200_000)))
    assert lines == [*(f"{number}: bad" for number in range(100)), "and 199,900 more"]
    [line] = printed(capfd, f"start {'x' * 1_000_000} end")
    assert len(line) <= MAX_CHARS
    assert line.startswith("start xx")
    assert line.endswith("xx end")
    assert shorten("x" * MAX_CHARS) == "x" * MAX_CHARS


def test_a_name_without_text_can_be_printed_into_a_pipe() -> None:
    code = (
        "from stages.storage.errors import InputError, run\n"
        "def main():\n"
        "    raise InputError('\\udcff')\n"
        "run(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (2, b"\\udcff\n")


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_has_seen_enough_ends_the_process_quietly(buffered: str) -> None:
    """As `| head` does."""
    code = (
        "from stages.storage.errors import run\n"
        "def main():\n"
        "    input()\n"  # until the reader has gone
        "    print('x' * 100)\n"
        "run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONUNBUFFERED": buffered},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stdin.write(b"go\n")
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() == -signal.SIGPIPE
    process.stderr.close()
