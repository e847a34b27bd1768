"""Installed packages that are large, or whose licence is not simply permissive, as a table.

python benchmarks/packages.py
"""

import re
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pandas as pd

LARGE = 50  # MB
PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|ISC|PSF|Python|Unlicense|0BSD|HPND|Zlib|CC0)", re.I)


def licence_of(package: Distribution) -> str:
    """Return the licence of a package's metadata, in the first words that say it."""
    about = package.metadata.json  # of several values a list
    kinds = [kind for kind in about.get("classifier", []) if kind.startswith("License ::")]
    text = about.get("license_expression") or "; ".join(kind.split(" :: ")[-1] for kind in kinds)
    return str(text or (about.get("license") or "not said")).splitlines()[0][:60]


def main() -> None:
    rows = []
    for package in distributions():
        paths = [Path(str(file.locate())) for file in package.files or []]
        size = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
        licence = licence_of(package)
        if size > LARGE or not PERMISSIVE.search(licence):
            rows.append([package.name, package.version, licence, round(size)])
    table = pd.DataFrame(rows, columns=["package", "version", "licence", "MB"])
    print(table.sort_values("MB", ascending=False).to_markdown(index=False))


if __name__ == "__main__":
    main()
