"""How a stage refuses bad input: one clear sentence on stderr and exit status 2."""

import sys
from collections.abc import Callable


class InputError(Exception):
    """Input that the user can mend: the message names the file and the place, and the remedy."""


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`, turning `InputError` into exit status 2 and Ctrl-C into 130."""
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
