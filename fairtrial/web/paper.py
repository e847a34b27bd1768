"""The plots of a report as vector pictures, for a paper."""

import base64
from pathlib import Path
from typing import NamedTuple

from fairtrial.project.files import write_bytes
from fairtrial.web.plots import Plot


class Figure(NamedTuple):
    """A plot on white."""

    title: str
    svg: str

    @property
    def name(self) -> str:
        """The name of its files, without a suffix."""
        return self.title.lower().replace(" ", "-")

    @property
    def url(self) -> str:
        """A data: URL of the SVG."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def draw_figures(plots: list[Plot]) -> list[Figure]:
    """Return the plots as vector pictures."""
    import vl_convert  # here, because the import takes a second

    # A template that a branch names may want to load something, and must not.
    return [
        Figure(plot.title, vl_convert.vegalite_to_svg(plot.spec, allowed_base_urls=[]))
        for plot in plots
    ]


def write_figures(figures: list[Figure], folder: Path) -> None:
    """Write each figure as SVG and as PDF.

    The PDFs are not in the page, because their bytes are not always the same.
    """
    import vl_convert

    for figure in figures:
        write_bytes(folder / f"{figure.name}.svg", figure.svg.encode())
        write_bytes(folder / f"{figure.name}.pdf", vl_convert.svg_to_pdf(figure.svg))
