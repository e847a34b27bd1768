"""Embed the library that draws plots in DVC's own pages of plots, so that they need no network.

Writes `.dvc/plots.html`, and sets it as DVC's template in this clone only.

    python -m tools.plots_page
"""

import argparse
import subprocess
import sys
from pathlib import Path

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes
from tools.web.vega import vega_bundle

TEMPLATE_FILE = Path(".dvc/plots.html")

# DVC replaces {plot_divs} by the plots. A template without {scripts} loads nothing.
TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Plots</title>
{refresh_tag}
<script>LIBRARY</script>
<style>
body { font-family: system-ui, sans-serif; display: flex; flex-wrap: wrap; gap: 2rem; margin: 2rem }
img { max-width: 100% }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m tools.plots_page", description="Let DVC's plots work without a network."
    ).parse_args()
    write_bytes(TEMPLATE_FILE, TEMPLATE.replace("LIBRARY", vega_bundle()).encode())
    option = ["plots.html_template", TEMPLATE_FILE.name]
    command = [sys.executable, "-m", "dvc", "config", "--local", *option]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc config: {result.stderr.strip()}")


if __name__ == "__main__":
    run(main)
