"""The stages of the pipeline, and the modules that they import."""

import gc
import os
import sys
from types import TracebackType


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# What is imported is never garbage: looking for it takes a quarter of the time of a short run.
# Only of a stage, as "-m" says while Python looks for it; `stages.storage.errors.run` goes on from here.
if sys.argv[0] == "-m":
    gc.disable()

# All here, because Python runs this before a stage's own imports, which take most of its time:
# Ctrl-C says so in one line then too, the number of threads is read by them, and the process
# that started this one may be gone after them.
sys.excepthook = _one_line
# One, unless more are asked for: with small tensors several only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
PARENT = os.getppid()
