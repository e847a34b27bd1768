"""What a revision has in its files.

A revision is what git or DVC calls one: a commit, branch or tag, `workspace`, an experiment.
"""

import subprocess
from collections.abc import Iterator
from typing import Any

from stages.storage.errors import InputError

NO_GIT = "no git repository here, in which revisions are kept; get the project by `git clone`"


def read_files(revision: str, *paths: str) -> list[bytes]:
    """Return the contents of files that git or DVC keeps; raises `InputError` if one is missing."""
    from dvc.api import DVCFileSystem  # here, since it takes half a second to import
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import RevError, SCMError

    unknown = InputError(
        f"{revision}: no commit, branch, tag or experiment is called so; "
        "`git log --oneline` and `dvc exp list --all-commits` show what there is"
    )
    path = ""
    try:
        Repo.find_root()
        if not revision or ":" in revision[1:]:  # the workspace to DVC, or a file of a commit
            raise unknown
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
            "`dvc pull` brings what was shared, and `dvc repro` makes it"
        ) from None
    except (DvcException, OSError, ValueError) as error:
        raise InputError(
            f"{revision}: {path} cannot be read ({' '.join(str(error).split())}); "
            "`dvc repro` there makes its results again"
        ) from None


def commit(revision: str) -> str:
    """Return the short hash and the subject of a revision's commit.

    Raises `InputError` if the project is not in git.
    """
    from dvc.repo import Repo
    from dvc.scm import SCMError, resolve_rev

    try:
        with Repo() as repo:
            sha = resolve_rev(repo.scm, "HEAD" if revision == "workspace" else revision)
    except SCMError:
        raise InputError(NO_GIT) from None
    log = ["git", "log", "-1", "--format=%h %s", sha]
    said = subprocess.run(log, capture_output=True, text=True, check=True).stdout.strip()
    return f"not committed; after {said}" if revision == "workspace" else said


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections by their dotted names."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
