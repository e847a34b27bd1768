"""Read the files of a revision.

A revision is what git or DVC calls one: a commit, branch or tag, `workspace`, an experiment.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairtrial.project.errors import InputError
from fairtrial.project.files import refuse_irregular

RESULTS = "dvc.lock", "params.yaml", "stages"  # what a commit with other results changes
NO_GIT = "this folder is not in a git repository, which keeps revisions; get it by `git clone`"


def read_files(revision: str, *paths: str) -> list[bytes]:
    """Return the contents of files that git or DVC keeps; raises `InputError` if one is missing."""
    from dvc.api import DVCFileSystem  # here, because the import takes half a second
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import RevError, SCMError

    remedy = "`git log --oneline` and `dvc exp list --all-commits` list them"
    if revision.startswith("sweep-"):
        remedy = "the sweep's command with `--promote N` makes experiments of its N best points"
    unknown = InputError(
        f"{revision}: no commit, branch, tag or experiment has this name; {remedy}"
    )
    path = ""
    try:
        Repo.find_root()
        if not revision or ":" in revision[1:]:  # to DVC the workspace, or a file of a commit
            raise unknown
        if revision == "workspace":
            for path in paths:
                refuse_irregular(
                    Path(path), "remove it; `git checkout` or `dvc repro` brings it back"
                )
        files = DVCFileSystem(".", rev=None if revision == "workspace" else revision)
        contents = []
        for path in paths:
            contents.append(files.read_bytes(path))
        return contents
    except NotDvcRepoError:
        raise InputError("no DVC project here; run this at the top of the project") from None
    except RevError:
        raise unknown from None
    except SCMError:
        raise InputError(NO_GIT) from None
    except FileNotFoundError:
        raise InputError(
            f"{revision}: {path} is not there; "
            "`dvc pull` gets what was shared, and `dvc repro` makes it"
        ) from None
    except (DvcException, OSError, ValueError) as error:
        raise InputError(
            f"{revision}: {path} cannot be read ({' '.join(str(error).split())}); "
            "`dvc repro` there makes its results again"
        ) from None


def describe_commit(revision: str) -> str:
    """Return the short hash and the subject of a revision's commit.

    Raises `InputError` if the project is not in git.
    """
    sha = _resolve("HEAD" if revision == "workspace" else revision)
    commit = run_git("log", "-1", "--format=%h %s", sha)
    return f"not committed; after {commit}" if revision == "workspace" else commit


def commit_of_results(revision: str) -> str | None:
    """Return the hash of the commit that brought the results of a revision, or None if none has.

    It stays the same while later commits change other files, such as a README. Raises
    `InputError` if the project is not in git.
    """
    is_workspace = revision == "workspace"
    sha = _resolve("HEAD" if is_workspace else revision)
    if is_workspace and run_git("status", "--porcelain", "--", *RESULTS):
        return None
    return run_git("rev-list", "-1", sha, "--", *RESULTS)


def _resolve(revision: str) -> str:
    """Return the hash of a commit, branch, tag or experiment."""
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


def flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections by their dotted names."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
