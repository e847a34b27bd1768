"""How a stage refuses bad input: in words, with exit status 2."""

import gc
import sys
from collections.abc import Callable


class InputError(Exception):
    """Input that the user can mend: the message names the file and the place, and the remedy."""


def run(main: Callable[[], None]) -> None:
    """Run a stage; an `InputError` becomes its message on stderr and exit status 2."""
    gc.freeze()  # what is imported stays: neither now nor at the end is it looked through
    gc.enable()
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
