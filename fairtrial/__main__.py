"""Run a command of fairtrial: `python -m fairtrial compare HEAD~1 HEAD`."""

import argparse
import contextlib
import gc
import importlib
import signal
import sys
from pathlib import Path
from types import TracebackType

COMMANDS = "compare", "mend", "plan", "rank", "report", "sweep", "until-decided"
HELP = """\
usage: python -m fairtrial COMMAND ...

  compare A B ...      Is each B better or worse than A, and is that significant?
  rank A B ...         Which of several can be told apart?
  plan A               How many seeds and examples does a difference need?
  until-decided A B    Train more replicas of both until it is known which is better.
  sweep -S NAME=VALUES Train and score a grid of settings, or search ranges of them.
  mend                 Remove what stops DVC after it was killed.
  report [REV ...]     Write a page that compares revisions: tables, plots, pictures.

A revision is a commit, a branch, a tag, an experiment of DVC, or `workspace`.
`python -m fairtrial COMMAND --help` shows examples and the options of a command.

  python -m fairtrial compare HEAD~1 HEAD
"""


def report_interrupt(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Say in one line that Ctrl-C was pressed; leave any other exception to Python."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def warn_of_killed_experiment() -> None:
    """Say it if `dvc exp run` was killed here: git is on no branch, as during the experiment."""
    from fairtrial.project.errors import InputError
    from fairtrial.project.revisions import refuse_running, run_git

    with contextlib.suppress(InputError):
        if run_git("for-each-ref", "refs/exps/exec/EXEC_BASELINE"):
            refuse_running()
            print(
                "`dvc exp run` was killed here: `python -m fairtrial mend`, and `git switch -` if "
                "git is on no branch",
                file=sys.stderr,
            )


def file_of(command: str) -> str:
    return f"{command.replace('-', '_')}.py"


def main() -> None:
    from fairtrial.project.errors import InputError, nearest

    name, *arguments = sys.argv[1:] or ["--help"]
    # A project may have removed what it does not need, such as sweeps.
    removed = [one for one in COMMANDS if not Path(__file__).with_name(file_of(one)).is_file()]
    commands = [one for one in COMMANDS if one not in removed]
    if name in ("-h", "--help", "help"):
        lines = HELP.splitlines(keepends=True)
        print(
            "".join(line for line in lines if line.split()[:1] not in ([x] for x in removed)),
            end="",
        )
        return
    if name not in commands:
        raise InputError(f"unknown command '{name}'; {nearest(name, commands)}")
    module = importlib.import_module(f"fairtrial.{Path(file_of(name)).stem}")
    parser = argparse.ArgumentParser(
        prog=f"python -m fairtrial {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    if name != "mend":
        warn_of_killed_experiment()
    # As Ctrl-C, so that workers and folders do not outlive the command.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    module.main(parser.parse_args(arguments))


if __name__ == "__main__":  # workers of a sweep import this file, too
    # Before the slow imports, during which Ctrl-C may be pressed. Without garbage collection they
    # take a quarter less; `run` enables it again.
    sys.excepthook = report_interrupt
    gc.disable()
    from fairtrial.project.errors import run

    run(main)
