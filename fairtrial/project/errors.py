"""Refuse bad input in a sentence, with exit status 2, and print what others have named."""

import errno
import gc
import select
import signal
import sys
from collections.abc import Callable, Iterable

TRUST = '`git config --global --add safe.directory "$PWD"` trusts this folder'
MAX_PROBLEMS = 100  # that are printed
MAX_CHARS = 2_000  # of a problem, which are printed


class InputError(Exception):
    """Input that the user can mend: each argument is a problem, in a sentence of its own.

    It names the file, the place and the remedy.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


def sentence_of(error: Exception) -> str | None:
    """Return what the user can do about an error of git's library, the disk or DVC's databases."""
    if type(error).__name__ == "GitError" and "owned" in str(error):
        return f"git: {error}; {TRUST}"
    codes = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES
    is_of_database = (type(error).__module__, type(error).__name__) == (
        "sqlite3",
        "OperationalError",
    )
    if is_of_database or getattr(error, "errno", None) in codes:
        return f"{error}; make room or give permission, and type the same command again"
    return None


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
            if not (sentence := sentence_of(error)):
                raise
            raise InputError(sentence) from None
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


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question after the name that was meant, or all names if none is like it."""
    import difflib  # here, because only a mistake needs it

    names = list(known)
    similar = difflib.get_close_matches(name, names, 1)
    return f"did you mean {similar[0]}?" if similar else f"known: {', '.join(names)}"


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
