"""Run a stage, in a process that is prepared for it.

python -m stages train
"""

import gc
import os
import sys
from types import TracebackType


def report_interrupt(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say what Ctrl-C leads to, in two lines; leave any other exception to Python."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted: the same command continues", file=sys.stderr)
        print("`git checkout HEAD . && dvc checkout` goes back to the last commit", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


# Before the other imports, which take most of a short run: Ctrl-C has to be handled during them,
# torch reads the number of threads, and scanning the imported modules for garbage takes a quarter
# of the run. (With small tensors several threads only wait for one another.)
sys.excepthook = report_interrupt
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # a waiting thread leaves its core to others
gc.disable()  # `run` enables it again

import difflib  # noqa: E402
import importlib  # noqa: E402
from pathlib import Path  # noqa: E402

from stages.storage.errors import NOT_IN_GIT, InputError, run  # noqa: E402

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))}


def show_help() -> None:
    print("usage: python -m stages NAME\n")
    for name, path in FILES.items():
        first_line = path.read_text(encoding="utf-8").partition("\n")[0].strip('"')
        print(f"  {name:<10}{first_line}")
    print("\n`dvc repro` runs all of them that have something to do.")


def refuse_arguments() -> None:
    given = " ".join(sys.argv[1:])
    similar = difflib.get_close_matches(given, FILES, n=1)
    advice = f"did you mean {similar[0]}?" if similar else f"name one of {', '.join(FILES)}"
    raise InputError(f"{f'python -m stages {given}'.rstrip()}: unknown stage; {advice}")


def refuse_missing_module() -> None:
    raise InputError(f"{MISSING}: is not there; {NOT_IN_GIT.format(MISSING)}")


if sys.argv[1:] in (["-h"], ["--help"]):
    run(show_help)
elif len(sys.argv) != 2 or sys.argv[1] not in FILES:
    run(refuse_arguments)
else:
    try:
        main = importlib.import_module(f"stages.{sys.argv[1]}").main
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("samebits.", "stages.")):
            raise
        MISSING = f"{str(error.name).replace('.', '/')}.py"
        main = refuse_missing_module
    run(main)
