"""Read the files of a revision: a commit, a branch, a tag, an experiment or `workspace`."""

import contextlib
import fcntl
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairtrial.project.errors import InputError
from fairtrial.project.files import refuse_irregular

LOCKS = Path(".dvc/tmp/rwlock")
MAX_BYTES = 2**28  # of a file; a table of a million examples with five replicas has 100 MB
RESULTS = "dvc.lock", "params.yaml"  # what a commit with other results changes
NO_GIT = (
    "this folder is not in a git repository with a commit, which keeps revisions; get it by "
    "`git clone`, or commit"
)


def read_files(revision: str, *paths: str) -> list[bytes]:
    """Return the contents of files that git or DVC keeps.

    Raises `InputError` if one is missing, cannot be read, or has more than `MAX_BYTES`.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo  # here, because the import takes half a second
    from dvc.scm import RevError, SCMError

    path = ""
    contents = []
    try:
        if not revision or ":" in revision[1:]:  # to DVC the workspace, or a file of a commit
            raise RevError("not a revision")
        with contextlib.ExitStack() as stack:
            repo = stack.enter_context(Repo())
            if revision != "workspace":
                config = repo.config
                stack.enter_context(repo.switch(revision))
                # Anybody may have written that of the revision, and it can name remotes, programs
                # that give credentials, and databases that run code when DVC reads them.
                repo.config = config
            for path in paths:
                if revision == "workspace":
                    remedy = "remove it; `git checkout` brings back what was there"
                    refuse_irregular(Path(path), remedy)
                with repo.dvcfs.open(path, "rb") as file:
                    contents.append(file.read(MAX_BYTES + 1))
                if len(contents[-1]) > MAX_BYTES:
                    raise InputError(
                        f"{revision}: {path} has more than {MAX_BYTES >> 20} MiB; divide it"
                    )
        return contents
    except NotDvcRepoError as error:
        if "does not contain" in str(error):  # in a folder that the revision has not
            raise InputError(f"{revision}: {error}; name a later one") from None
        raise InputError("no DVC project here; run this at the top of the project") from None
    except RevError:
        remedy = "`git log --oneline` and `dvc exp list --all-commits` list them"
        if revision.startswith("sweep-"):
            remedy = "the sweep's command with `--promote N` makes experiments of its N best points"
        raise InputError(
            f"{revision}: no commit, branch, tag or experiment has this name; {remedy}"
        ) from None
    except SCMError:
        raise InputError(NO_GIT) from None
    except FileNotFoundError:
        remedy = "`dvc pull` gets what was shared, and `dvc repro` makes it"
        if path == "dvc.yaml":
            remedy = "fairtrial works on pipelines of DVC, which have it at their top"
        raise InputError(f"{revision}: {path} is not there; {remedy}") from None
    except (DvcException, OSError, ValueError) as error:
        raise InputError(
            f"{revision}: {path} cannot be read ({' '.join(str(error).split())}); "
            "`dvc repro` there makes its results again"
        ) from None


def describe_commit(revision: str) -> str:
    """Return the short hash and the subject of a revision's commit."""
    sha = _resolve("HEAD" if revision == "workspace" else revision)
    commit = run_git("log", "-1", "--format=%h %s", sha)
    return f"not committed; after {commit}" if revision == "workspace" else commit


def commit_of_results(revision: str, paths: tuple[str, ...] = RESULTS) -> str | None:
    """Return the hash of the last commit that changed one of the paths, which results depend on.

    None stands for changes that are not committed.
    """
    is_workspace = revision == "workspace"
    sha = _resolve("HEAD" if is_workspace else revision)
    if is_workspace and run_git("status", "--porcelain", "--", *paths):
        return None
    return run_git("rev-list", "-1", sha, "--", *paths)


def _resolve(revision: str) -> str:
    """Return the hash of a revision; raises `InputError` if the project is not in git."""
    from dvc.repo import Repo
    from dvc.scm import SCMError, resolve_rev

    try:
        with Repo() as repo:
            return str(resolve_rev(repo.scm, revision))
    except SCMError:
        raise InputError(NO_GIT) from None


def run_git(*arguments: str) -> str:
    """Return the text that a git command prints; raises `InputError` as `git_output` does."""
    return git_output(*arguments).decode(errors="replace").strip()


def git_output(*arguments: str) -> bytes:
    """Return what a git command prints; raises `InputError` with its message if it fails."""
    try:
        result = subprocess.run(["git", *arguments], capture_output=True)
    except OSError as error:
        raise InputError(f"git cannot be run ({error}); install it") from None
    if result.returncode != 0:
        message = " ".join(result.stderr.decode(errors="replace").split())
        raise InputError(f"git {arguments[0]}: {message}")
    return result.stdout


def lock_holders(folder: Path = Path()) -> dict[int, bool]:
    """Return the living processes that lock outputs of a folder, and whether each is a DVC.

    DVC itself takes the number of a process that was killed, such as 1 in a container, for the
    process that has this number now.
    """
    try:
        locks = json.loads((folder / LOCKS).read_text(encoding="utf-8"))["write"]
        pids = {int(lock["pid"]) for lock in locks.values()}
        written = (folder / LOCKS).stat().st_mtime
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        return {}  # DVC has not locked anything
    import psutil  # which DVC has, too

    return {pid: _is_dvc(pid, written) for pid in sorted(pids) if psutil.pid_exists(pid)}


def _is_dvc(pid: int, written: float) -> bool:
    """Return whether a process is a DVC that can have written its locks at this time."""
    import psutil

    try:
        process = psutil.Process(pid)
        command, start = process.cmdline(), process.create_time()
    except psutil.Error:
        return True  # nothing is known of it
    names = [Path(argument).name for argument in command[:3]]
    return start < written + 2 and any(name.startswith("dvc") for name in names)  # to the second


def refuse_running() -> None:
    """Raise `InputError` if DVC is running here, or in another worktree of this repository."""
    prefix = run_git("rev-parse", "--show-prefix")
    for line in run_git("worktree", "list", "--porcelain").splitlines():
        if not line.startswith("worktree "):
            continue
        folder = Path(line.removeprefix("worktree "), prefix)
        for pid, is_dvc in lock_holders(folder).items():
            if is_dvc:
                raise InputError(f"DVC is running in {folder} (process {pid}); wait for its end")
        with contextlib.suppress(FileNotFoundError), (folder / ".dvc/tmp/lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as DVC does between two stages
            except OSError:
                raise InputError(f"DVC is running in {folder}; wait for its end") from None


def refuse_locked() -> None:
    """Raise `InputError` if DVC is running a stage in this folder, or has left its locks."""
    for pid, is_dvc in lock_holders().items():
        if is_dvc:
            raise InputError(
                f"workspace: DVC is running a stage here (process {pid}); wait for its end"
            )
        raise InputError(
            f"workspace: {LOCKS} is left of a DVC that was killed, and process {pid} is another "
            "program now; `python -m fairtrial mend` removes it"
        )


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections by their dotted names."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
