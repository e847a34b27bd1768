"""Run a stage, in a process that is prepared for it.

python -m stages train
"""

import difflib
import gc
import importlib
import os
import sys
from types import TracebackType

from stages.storage.errors import InputError, run

NAMES = ("check", "fetch", "prepare", "train", "evaluate")
USAGE = """usage: python -m stages NAME

  check      refuse a bad params.yaml before anything is removed or run
  fetch      fetch the data set
  prepare    take the training and validation images out of it
  train      train the model
  evaluate   score the model

`dvc repro` runs all of them that have something to do."""


def report_interrupt(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one line that Ctrl-C was pressed; leave any other exception to Python."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def refuse_arguments() -> None:
    given = " ".join(sys.argv[1:])
    similar = difflib.get_close_matches(given, NAMES, n=1)
    advice = f"did you mean {similar[0]}?" if similar else f"name one of {', '.join(NAMES)}"
    raise InputError(f"{' '.join(['python -m stages', *sys.argv[1:]])}: unknown stage; {advice}")


# Before the imports of the stage, which take most of a short run: Ctrl-C has to be handled during
# them, and torch reads the number of threads. With small tensors several threads only wait for one
# another.
sys.excepthook = report_interrupt
os.environ.setdefault("OMP_NUM_THREADS", "1")

if sys.argv[1:] in (["-h"], ["--help"]):
    run(lambda: print(USAGE))
elif sys.argv[1:] not in [[name] for name in NAMES]:
    run(refuse_arguments)
else:
    # Scanning the imported modules for garbage takes a quarter of a short run; `run` enables the
    # collector again.
    gc.disable()
    run(importlib.import_module(f"stages.{sys.argv[1]}").main)
