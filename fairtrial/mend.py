"""Remove what stops DVC after a kill, a power cut or a full disk, and say what is left to type.

It removes locks that no running DVC holds, unfinished entries of DVC's cache of runs, and the marks
of an experiment that was killed. A `dvc.lock` or `params.yaml` that was cut becomes the committed
one. No result is lost by it.

    python -m fairtrial mend
"""

import argparse
import contextlib
import re
from pathlib import Path

from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.revisions import LOCKS, RESULTS, git_output, refuse_running, run_git
from fairtrial.project.scratch import remove_left
from fairtrial.project.yaml_reader import parse_yaml

NO_LOCKS = "{}", '{"read": {}, "write": {}}', '{"write": {}, "read": {}}'
LOCK, _ = RESULTS
# What an experiment removes at its end; others of refs/exps/exec stay.
OF_RUNNING = [f"refs/exps/exec/EXEC_{name}" for name in ("BASELINE", "BRANCH", "MERGE")]
PREFIXES = "sweep-", "until-decided-"  # of the folders in which our commands work
KEY = re.compile(r"[0-9a-f]{64}")  # the name of an entry of the cache of runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def main(_: argparse.Namespace) -> None:
    if not Path(".dvc").is_dir():
        raise InputError("no DVC project here; run this at the top of the project")
    refuse_running()
    done = []
    if LOCKS.exists() and LOCKS.read_text(encoding="utf-8") not in NO_LOCKS:
        LOCKS.unlink()
        done.append(f"{LOCKS}: removed; no DVC holds it")
    done += mend_cache_of_runs(cache_of_runs())
    done += mend_files()
    for prefix in PREFIXES:
        done += [f"{folder}: removed; its command was killed" for folder in remove_left(prefix)]
    refs = run_git("for-each-ref", "--format=%(refname)", *OF_RUNNING)
    for ref in refs.split():
        run_git("update-ref", "--no-deref", "-d", ref)
        done.append(f"{ref}: removed; the experiment was killed")
    if run_git("ls-files", "--", ".dvc/tmp"):  # an experiment adds it, and takes it out again
        run_git("rm", "-rq", "--cached", "--", ".dvc/tmp")
        done.append(".dvc/tmp: taken out of the index of git; the experiment was killed")
    for path in [path for depth in ("", "*/", "*/*/") for path in Path().glob(f"{depth}.*.draft")]:
        path.unlink()
        done.append(f"{path}: removed; it was not written to its end")
    for path in Path(run_git("rev-parse", "--git-dir")).glob("*.lock"):
        done.append(f"{path}: git was killed, or runs now; if it does not, type `rm {path}`")
    print("\n".join(done or ["nothing to mend"]))
    if not run_git("branch", "--show-current"):
        print("git is on no branch: `git switch -` goes back, and keeps your files")


def mend_files() -> list[str]:
    """Bring back what DVC has not written to its end, as it was committed; return a line for each.

    `dvc repro` then finds in its cache of runs what it had noted in `dvc.lock`.
    """
    done = []
    for name in RESULTS:
        # The first question takes a hundredth of the second's time.
        if run_git("status", "--porcelain", "--", name) and is_cut(Path(name)):
            try:
                write_bytes(Path(name), git_output("show", f"HEAD:./{name}"))
            except InputError:
                Path(name).unlink()  # git has none either
            done.append(f"{name}: was not written to its end; it is as in the last commit again")
    return done


def is_cut(path: Path) -> bool:
    """Return whether a file was not written to its end: users may have made mistakes in params."""
    try:
        content = path.read_bytes()
        return not content or (
            path.name == LOCK and not isinstance(parse_yaml(content, LOCK), dict)
        )
    except FileNotFoundError:
        return False
    except InputError:
        return path.name == LOCK


def cache_of_runs() -> Path:
    """Return the folder in which DVC keeps which stage gave what; others may share it."""
    from dvc.config import Config, ConfigError  # a quarter of the time that a Repo takes

    try:
        return Path(Config(dvc_dir=".dvc")["cache"].get("dir") or ".dvc/cache", "runs")
    except ConfigError as error:
        raise InputError(f".dvc/config: {' '.join(str(error).split())}; correct it") from None


def mend_cache_of_runs(folder: Path) -> list[str]:
    """Remove unfinished entries, at which DVC stops; return a line for each.

    DVC makes the folder of an entry, writes a file with another name there, and renames it.
    """
    done = []
    for entries in folder.glob("*/*"):
        for path in entries.iterdir():
            if not KEY.fullmatch(path.name) or path.stat().st_size == 0:
                path.unlink()
                done.append(f"{path}: removed; it was not written to its end")
        with contextlib.suppress(OSError):  # it is not empty, as it should be
            entries.rmdir()
            done.append(f"{entries}: removed; it was empty")
    return done
