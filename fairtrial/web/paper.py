"""The plots of a report as vector pictures, for a paper."""

import base64
import re
from pathlib import Path
from typing import NamedTuple

from fairtrial.project.files import write_bytes
from fairtrial.web.plots import Plot


class Figure(NamedTuple):
    """A plot on white."""

    title: str
    name: str  # of its files, without a suffix
    svg: str

    @property
    def url(self) -> str:
        """A data: URL of the SVG."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def draw_figures(plots: list[Plot]) -> list[Figure]:
    """Return the plots as vector pictures."""
    import vl_convert  # here, because the import takes a second

    figures: dict[str, Figure] = {}
    for plot in plots:
        # A title may be anybody's, and several plots may have the same.
        name = re.sub(r"[^\w]+", "-", plot.title.lower()).strip("-")[:100] or "plot"
        if name in figures:
            name = f"{name}-{len(figures)}"
        # A template that a branch names may want to load something, and must not.
        svg = vl_convert.vegalite_to_svg(plot.spec, allowed_base_urls=[])
        figures[name] = Figure(plot.title, name, svg)
    return list(figures.values())


def write_figures(figures: list[Figure], folder: Path) -> None:
    """Write each figure as SVG and as PDF.

    The PDFs are not in the page, because their bytes are not always the same.
    """
    import vl_convert

    for figure in figures:
        write_bytes(folder / f"{figure.name}.svg", figure.svg.encode())
        write_bytes(folder / f"{figure.name}.pdf", vl_convert.svg_to_pdf(figure.svg))
