"""How a stage or a tool refuses bad input: in a sentence, with exit status 2.

And how it prints what others named, such as files, branches and values: `printable`.
"""

import gc
import select
import signal
import sys
from collections.abc import Callable

MAX_PROBLEMS = 100  # that are printed
MAX_CHARS = 2_000  # of a problem, which are printed


# Of a file that a stage needs, and that is not where an experiment runs.
NOT_IN_GIT = (
    "`dvc exp run --temp` and `--queue` take what git knows: `git add {}`, or correct the name"
)


class InputError(Exception):
    """Input that the user can mend: each argument is a problem, in a sentence of its own.

    It names the file, the place and the remedy.
    """

    def __str__(self) -> str:
        return "\n".join(self.args)


def run(main: Callable[[], None]) -> None:
    """Run the `main` of a stage or a tool.

    An `InputError` becomes its problems on stderr, a line each, and exit status 2; so does an
    `ImportError` of compiled code. A reader of stdout that has seen enough, such as `head`, ends
    the process as it ends others: by SIGPIPE.
    """
    # Whatever has been imported stays: exempt it from garbage collection, at the exit too.
    gc.freeze()
    gc.enable()
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors are reported in any case
        if not poll.poll(0):  # the broken pipe is another one
            raise
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except ImportError as error:
        if error.name:  # of a module that is missing; others say what to do
            raise
        print(shorten(printable(str(error))), file=sys.stderr)
        sys.exit(2)
    except InputError as error:
        for problem in error.args[:MAX_PROBLEMS]:
            print(shorten(printable(problem)), file=sys.stderr)
        if len(error.args) > MAX_PROBLEMS:
            print(f"and {len(error.args) - MAX_PROBLEMS:,} more", file=sys.stderr)
        sys.exit(2)


def printable(text: str) -> str:
    """Return a text as a terminal may show it: on one line, with escapes for the rest.

    An escape sequence of a terminal, a line break, a mark that reverses the direction of writing
    and a byte of a file name that is no text are written as Python writes them, such as `\\x1b`.
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
