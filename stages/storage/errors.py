"""How a stage or a tool refuses bad input: in one sentence, with exit status 2."""

import gc
import sys
from collections.abc import Callable


class InputError(Exception):
    """Input that the user can mend: the message names the file, the place and the remedy."""


def run(main: Callable[[], None]) -> None:
    """Run the `main` of a stage or a tool.

    An `InputError` becomes its message on stderr and exit status 2.
    """
    # Whatever has been imported stays: exempt it from garbage collection, at the exit too.
    gc.freeze()
    gc.enable()
    try:
        main()
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
