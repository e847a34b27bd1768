"""Installed packages that are large, or whose licence is not simply permissive, as a table.

python benchmarks/packages.py
"""

import re
from importlib.metadata import Distribution, distributions

import pandas as pd

LARGE = 50  # MB
PERMISSIVE = re.compile(r"\b(MIT|BSD|Apache|ISC|PSF|Python|Unlicense|0BSD|HPND|Zlib|CC0)", re.I)


def licence_of(package: Distribution) -> str:
    """Return the licence of a package's metadata, in the first words that say it."""
    about = package.metadata
    kinds = [text for text in about.get_all("Classifier", []) if text.startswith("License ::")]
    text = about.get("License-Expression") or "; ".join(kind.split(" :: ")[-1] for kind in kinds)
    return text or (about.get("License") or "not said").splitlines()[0][:60]


def main() -> None:
    rows = []
    for package in distributions():
        files = [file.locate() for file in package.files or []]
        size = sum(path.stat().st_size for path in files if path.is_file()) / 1e6  # type: ignore[union-attr]
        licence = licence_of(package)
        if size > LARGE or not PERMISSIVE.search(licence):
            rows.append([package.name, package.version, licence, round(size)])
    table = pd.DataFrame(rows, columns=["package", "version", "licence", "MB"])
    print(table.sort_values("MB", ascending=False).to_markdown(index=False))


if __name__ == "__main__":
    main()
