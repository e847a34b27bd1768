"""Run a tool, `python -m tools NAME`, in a process that is prepared for it.

python -m tools predict docs/seven.png
"""

import difflib
import gc
import importlib
import os
import sys

from fairtrial.__main__ import report_interrupt

USAGE = """usage: python -m tools NAME ...

  predict FILE ...   classify pictures
  draw               write draw.html, a page on which the model classifies what you draw
  export             write the model as ONNX, for programs without torch
  card               write a model card
  setup              prepare DVC in this clone; `make` has done it

`python -m tools NAME --help` lists the options of each."""
NAMES = ("predict", "draw", "export", "card", "setup")


def main() -> None:
    from fairtrial.project import errors
    from stages.storage.errors import InputError

    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(USAGE)
        return
    if name not in NAMES:
        similar = difflib.get_close_matches(name, NAMES, n=1)
        advice = f"did you mean {similar[0]}?" if similar else f"known: {', '.join(NAMES)}"
        raise InputError(f"{name}: no tool has this name; {advice}")
    del sys.argv[1]
    try:
        importlib.import_module(f"tools.{name}").main()
    except errors.InputError as error:  # of the other library
        raise InputError(*error.args) from None


if __name__ == "__main__":
    # Before the slow imports, as `stages/__main__.py` does and explains.
    sys.excepthook = report_interrupt
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    gc.disable()
    from stages.storage.errors import run

    run(main)
