"""Give DVC a private folder for its databases, in this clone only.

DVC keeps what it knows of files in a folder of `/var/tmp` that is open to all users, and what it
finds there can run code. This makes `.dvc/site-cache`, which only you can enter, and sets it as
DVC's `core.site_cache_dir`. The path is absolute: type the command again after moving the project.

    python -m tools.site_cache
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stages.storage.errors import InputError, run

FOLDER = Path(".dvc/site-cache")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.site_cache", description="Give DVC a private folder."
    ).parse_args()
    path = str(FOLDER.absolute())
    # In its configuration DVC neither writes the one nor reads the other.
    if not path.isascii() or "%(" in path:
        print(
            f"{path!r}: DVC's configuration cannot have this path, so `dvc exp run --temp` and "
            "`fairtrial.sweep --promote` fail here, and DVC's databases stay in /var/tmp; move the "
            "project to a path of ASCII characters without %, or, where others use this computer, "
            "set DVC_SITE_CACHE_DIR to a folder of yours",
            file=sys.stderr,
        )
        return
    try:
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        FOLDER.chmod(0o700)  # also of one that DVC has made anew, for all users
    except OSError as error:
        raise InputError(
            f"{FOLDER}: cannot be made private ({error}); run this at the top of the project, or "
            "remove what is in its place"
        ) from None
    command = [sys.executable, "-m", "dvc", "config", "--local", "core.site_cache_dir", path]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc config: {result.stderr.strip()}")


if __name__ == "__main__":
    run(main)
