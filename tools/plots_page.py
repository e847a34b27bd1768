"""Let DVC's own pages of plots carry the library that draws them, so that they need no network.

Writes `.dvc/plots.html` and tells DVC of it, in this clone alone.

    python -m tools.plots_page
"""

import subprocess
import sys
from pathlib import Path

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes

PAGE = Path(".dvc/plots.html")

# DVC puts the plots in the place of {plot_divs}; without {scripts} it loads nothing.
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


def library() -> str:
    """Return JavaScript that defines `vegaEmbed`, and nothing else, for a script of a page."""
    import vl_convert  # here, since it takes a second

    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return f"(() => {{\n{bundle}\n}})();"


def main() -> None:
    write_bytes(PAGE, TEMPLATE.replace("LIBRARY", library()).encode())
    option = ["plots.html_template", PAGE.name]
    dvc = [sys.executable, "-m", "dvc", "config", "--local", *option]
    done = subprocess.run(dvc, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"dvc config: {done.stderr.strip()}")


if __name__ == "__main__":
    run(main)
