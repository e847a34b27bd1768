"""Prepare DVC in this clone; `make` runs it after the installation.

DVC keeps what it knows of files in a folder of `/var/tmp` that is open to all users, and what it
finds there can run code. This makes `.dvc/site-cache`, which only you can enter, and names it in
`.dvc/config.local`. The path is absolute: type the command again after moving the project.

DVC writes the names of revisions and plots into its own pages as they are, so that a branch whose
name has HTML in it could run a script there, and it loads its library of plots from a server. This
writes `.dvc/plots.html`, a template that takes all that DVC writes as text and has the library.

    python -m tools setup
"""

import argparse
import subprocess
import sys
from pathlib import Path

from fairtrial.web.vega_library import content_security_policy, vega_bundle
from stages.storage.errors import InputError
from stages.storage.files import write_bytes

SITE_CACHE = Path(".dvc/site-cache")
PLOTS_PAGE = Path(".dvc/plots.html")
SCRIPT = Path(__file__).with_name("dvc_plots.js")
# DVC replaces {plot_divs} in it by the plots. Without {scripts} it loads nothing.
TEMPLATE = SCRIPT.with_suffix(".html")


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools setup", description="Prepare DVC in this clone."
    ).parse_args()
    make_site_cache()
    write_plots_page()


def make_site_cache() -> None:
    """Give DVC a private folder for its databases."""
    path = str(SITE_CACHE.absolute())
    # In its configuration DVC neither writes the one nor reads the other.
    if not path.isascii() or "%(" in path:
        print(
            f"{path!r}: DVC's configuration cannot have this path, so `dvc exp run --temp` and "
            "`python -m fairtrial sweep --promote` fail here, and DVC's databases stay in "
            "/var/tmp; move the project to a path of ASCII characters without %, or, where others "
            "use this computer, set DVC_SITE_CACHE_DIR to a folder of yours",
            file=sys.stderr,
        )
        return
    try:
        SITE_CACHE.mkdir(mode=0o700, exist_ok=True)
        SITE_CACHE.chmod(0o700)  # also of one that DVC has made anew, for all users
    except OSError as error:
        raise InputError(
            f"{SITE_CACHE}: cannot be made private ({error}); run this at the top of the project, "
            "or remove what is in its place"
        ) from None
    configure_dvc("core.site_cache_dir", path)


def write_plots_page() -> None:
    """Let DVC's own pages of plots work without a network, and run no script but ours."""
    library, script = vega_bundle(), SCRIPT.read_text(encoding="utf-8")
    # DVC puts the pictures beside the page.
    policy = content_security_policy([library, script], images="'self' file: data:")
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, value in (("POLICY", policy), ("SCRIPT", script), ("LIBRARY", library)):
        page = page.replace(name, value)
    write_bytes(PLOTS_PAGE, page.encode())
    configure_dvc("plots.html_template", PLOTS_PAGE.name)


def configure_dvc(option: str, value: str) -> None:
    """Set an option of DVC in this clone only."""
    command = [sys.executable, "-m", "dvc", "config", "--local", option, value]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc config: {' '.join(result.stderr.split())}")
