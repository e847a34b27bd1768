"""Refuse bad input in a sentence, with exit status 2, and print what others have named."""

import gc
import select
import signal
import sys
from collections.abc import Callable

TRUST = '`git config --global --add safe.directory "$PWD"` trusts this folder'
MAX_PROBLEMS = 100  # that are printed
MAX_CHARS = 2_000  # of a problem, which are printed


class InputError(Exception):
    """Input that the user can mend: each argument is a problem, in a sentence of its own.

    It names the file, the place and the remedy.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def is_of_another_user(error: Exception) -> bool:
    """Return whether git's library refuses a folder of another user, which DVC passes on."""
    return type(error).__name__ == "GitError" and "owned" in str(error)


def run(main: Callable[[], None]) -> None:
    """Run a command.

    An `InputError` becomes its problems on stderr, a line each, and exit status 2. A reader of
    stdout that has seen enough, such as `head`, ends the process by SIGPIPE, as it ends others.
    """
    gc.freeze()  # whatever has been imported stays
    gc.enable()
    try:
        try:
            main()
        except Exception as error:
            if not is_of_another_user(error):
                raise
            raise InputError(f"git: {error}; {TRUST}") from None
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are reported in any case
        if not poll.poll(0):  # the broken pipe is another one
            raise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except InputError as error:
        for problem in error.args[:MAX_PROBLEMS]:
            print(shorten(printable(str(problem))), file=sys.stderr)
        if len(error.args) > MAX_PROBLEMS:
            print(f"and {len(error.args) - MAX_PROBLEMS:,} more", file=sys.stderr)
        sys.exit(2)


def printable(text: str) -> str:
    """Return a text on one line, with what a terminal must not get as Python's escapes.

    These are escape sequences, line breaks, marks that reverse the direction of writing, and bytes
    of a file name that are not text.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str) -> str:
    """Return a text of at most `MAX_CHARS` characters, if need be without its middle."""
    if len(text) <= MAX_CHARS:
        return text
    half = MAX_CHARS // 2 - 4
    return f"{text[:half]} [...] {text[-half:]}"
