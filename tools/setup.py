"""Prepare DVC in this clone, and compile the kernels; `make` runs it after the installation.

DVC's databases, in which another user could put code, go to `.dvc/site-cache`, which only you can
enter. DVC's pages of plots get the template `.dvc/plots.html`, which needs no network and takes
the names of revisions and plots as text. After moving the project, type the command again.

    python -m tools setup
"""

import argparse
import subprocess
import sys
from pathlib import Path

from samebits.library import kernels
from stages.storage.errors import InputError
from stages.storage.files import write_bytes
from tools.vega_library import content_security_policy, vega_bundle

SITE_CACHE, PLOTS_PAGE = Path(".dvc/site-cache"), Path(".dvc/plots.html")
SCRIPT = Path(__file__).with_name("dvc_plots.js")
# DVC replaces {plot_divs} in it by the plots. Without {scripts} it loads nothing.
TEMPLATE = SCRIPT.with_suffix(".html")


def main(_: argparse.Namespace) -> None:
    path = str(SITE_CACHE.absolute())
    # In its configuration DVC neither writes the one nor reads the other.
    if path.isascii() and "%(" not in path:
        make_private(SITE_CACHE)
        configure_dvc("core.site_cache_dir", path)
    else:
        print(
            f"{path!r}: DVC's configuration cannot have this path, so `dvc exp run --temp` and "
            "`python -m fairtrial sweep --promote` fail here, and DVC's databases stay in "
            "/var/tmp; move the project to a path of ASCII characters without %, or, where others "
            "use this computer, set DVC_SITE_CACHE_DIR to a folder of yours",
            file=sys.stderr,
        )
    library, script = vega_bundle(), SCRIPT.read_text(encoding="utf-8")
    # DVC puts the pictures beside the page.
    policy = content_security_policy([library, script], images="'self' file: data:")
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, value in (("POLICY", policy), ("SCRIPT", script), ("LIBRARY", library)):
        page = page.replace(name, value)
    write_bytes(PLOTS_PAGE, page.encode())
    configure_dvc("plots.html_template", PLOTS_PAGE.name)
    kernels()


def make_private(folder: Path) -> None:
    """Make a folder that only this user can enter."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)  # also of one that DVC has made anew, for all users
    except OSError as error:
        remedy = "run this at the top of the project, or remove what is in its place"
        raise InputError(f"{folder}: cannot be made private ({error}); {remedy}") from None


def configure_dvc(option: str, value: str) -> None:
    """Set an option of DVC in this clone only."""
    command = [sys.executable, "-m", "dvc", "config", "--local", option, value]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc config: {' '.join(result.stderr.split())}")
