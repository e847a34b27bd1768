"""The stages of the pipeline, one script each, and in the folders below what they stand on.

Importing this has no side effect, unless Python imports it to run a stage or a tool as
`python -m stages.NAME` or `python -m tools.NAME`: then it prepares the process for that.
"""

import gc
import os
import sys
from types import TracebackType

# Read before the slow imports of a stage: the parent may have ended after them.
PARENT_PID = os.getppid()


def _report_interrupt(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one line that Ctrl-C was pressed; leave any other exception to Python."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _runs_as_command() -> bool:
    """Return whether Python is looking for `stages.NAME` or `tools.NAME` to run it with -m."""
    # While it looks, argv[0] is "-m"; the name of the module stands in orig_argv alone.
    if sys.argv[0] != "-m" or "-m" not in sys.orig_argv:
        return False
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return module.startswith(("stages.", "tools."))


if _runs_as_command():
    # Here, because Python runs this file before the imports of the stage, which take most of a
    # short run: Ctrl-C has to be handled during them, and torch reads the number of threads.
    sys.excepthook = _report_interrupt
    # One thread by default: with small tensors several threads only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Disable the garbage collector during imports: scanning imported modules costs a quarter of
    # a short run. `stages.storage.errors.run` enables it again.
    gc.disable()
