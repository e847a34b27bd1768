"""Let DVC's own pages of plots work without a network, and run no script but ours.

DVC writes the names of revisions and plots into its page as they are, so that a branch whose name
has HTML in it could run a script there. Our template takes all that DVC writes as text, up to the
end of the page, and draws the plots and pictures that it finds in this text.

Writes `.dvc/plots.html`, and sets it as DVC's template in this clone only.

    python -m tools.plots_page
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes
from fairtrial.web.vega import content_security_policy, vega_bundle

TEMPLATE_FILE = Path(".dvc/plots.html")
SCRIPT = Path(__file__).parent / "web/dvc_plots.js"

# DVC replaces {plot_divs} by the plots. A template without {scripts} loads nothing.
TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="POLICY">
<meta name="viewport" content="width=device-width">
<title>Plots</title>
{refresh_tag}
<script>LIBRARY</script>
<script>SCRIPT</script>
<style>
body { font-family: system-ui, sans-serif; display: flex; flex-wrap: wrap; gap: 2rem; margin: 2rem }
img { max-width: 100% }
plaintext { display: none }
</style>
</head>
<body>
<plaintext>
{plot_divs}
"""


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.plots_page", description="Let DVC's plots work without a network."
    ).parse_args()
    library, script = vega_bundle(), SCRIPT.read_text(encoding="utf-8")
    # DVC puts the pictures beside the page.
    policy = content_security_policy([library, script], images="'self' file: data:")
    page = TEMPLATE.replace("POLICY", policy).replace("SCRIPT", script)
    page = page.replace("LIBRARY", library)
    write_bytes(TEMPLATE_FILE, page.encode())
    option = ["plots.html_template", TEMPLATE_FILE.name]
    command = [sys.executable, "-m", "dvc", "config", "--local", *option]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc config: {' '.join(result.stderr.split())}")


if __name__ == "__main__":
    run(main)
