"""Draw plots: as SVG in a page, in colours that the page chooses, and as files for a paper."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.scores import Revision
from fairtrial.statistics.comparison import Comparison

Spec = dict[str, Any]  # Vega-Lite

WIDTH, HEIGHT = 400, 220  # of a plot in units of 1/96 inch; a page scales it to the width of a card
PANEL_WIDTH = 320  # of several in one plot
FONT_SIZE = 12
COLOURS = {  # on paper; the page has a variable of each name, and other values where it is dark
    "text": "#1c2330",
    "muted": "#5b6577",
    "grid": "#e6e9ef",
    "cell": "#6ea8e8",  # dark text is readable on it
    "better": "#1d7a46",
    "worse": "#b3362b",
    "revision-0": "#2f6fb5",
    "revision-1": "#d0701c",
    "revision-2": "#1d8a52",
    "revision-3": "#b8437c",
    "revision-4": "#7356c4",
    "revision-5": "#8f7a10",
    "revision-6": "#0f8490",
    "revision-7": "#80552b",
    "revision-8": "#c8332b",
    "revision-9": "#5f6b7d",
}
VARIABLES = {name: f"var(--{name})" for name in COLOURS}
SVG = "http://www.w3.org/2000/svg"
# Characters that XML cannot have, and that a table may.
NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ElementTree.register_namespace("", SVG)


class Plot(NamedTuple):
    title: str
    spec: Spec
    narrow: Spec | None = None  # what differs in it on a phone, if it is as wide as two others
    held_out: bool = False  # whether it is about a split by which nothing is chosen

    def draw(self, colours: Mapping[str, str], is_narrow: bool = False) -> str:
        """Return the plot as SVG; raises `InputError` if it is no plot that can be drawn."""
        import vl_convert  # here, because the import takes a second

        spec = {**self.spec, **(self.narrow or {})} if is_narrow else self.spec
        try:
            # A template that a branch names may want to load something, and must not.
            svg: str = vl_convert.vegalite_to_svg(spec, config=style(colours), allowed_base_urls=[])
        except ValueError as error:
            reason = " ".join(str(error).split("\n    at ")[0].split())
            raise InputError(f"the plot {self.title} cannot be drawn ({reason})") from None
        return NOT_XML.sub("", svg)


def style(colours: Mapping[str, str]) -> Spec:
    """Return how all plots look: a configuration of Vega-Lite."""
    muted = colours["muted"]
    label = {
        "labelColor": muted,
        "titleColor": muted,
        "labelFontSize": FONT_SIZE,
        "titleFontSize": FONT_SIZE,
        "titleFontWeight": "normal",
    }
    lines = dict.fromkeys(("gridColor", "domainColor", "tickColor"), colours["grid"])
    return {
        "background": None,
        "padding": {"left": 5, "top": 5, "right": 12, "bottom": 5},  # for half a label
        "font": "sans-serif",  # which every system has
        "view": {"stroke": None},
        "axis": {**label, **lines, "labelFlush": False, "labelLimit": 150, "titleLimit": WIDTH},
        "axisQuantitative": {"tickCount": 6},
        "header": {**label, "labelColor": colours["text"]},
        "legend": {
            **label,
            "labelColor": colours["text"],
            "labelLimit": WIDTH - 40,
            "orient": "top",
            "title": None,
            "symbolOpacity": 1,
            "symbolSize": 200,
            "symbolStrokeWidth": 2.5,
            "symbolBaseFillColor": muted,
            "symbolBaseStrokeColor": muted,
            "layout": {"top": {"direction": "vertical", "anchor": "start"}},
        },
        "text": {"color": colours["text"], "fontSize": FONT_SIZE},
        "rule": {"color": muted},
        "rect": {"color": colours["cell"]},
        "range": {
            "category": [colours[name] for name in colours if name.startswith("revision")],
            "outcome": [colours["better"], colours["worse"], muted],
        },
    }


def to_html(svg: str, key: str, label: str) -> str:
    """Return SVG for a page, with a name for who does not see it, and a tip at each mark.

    key: different for each plot of the page, and put before its identities.
    """
    root = ElementTree.fromstring(svg)
    for element in list(root.iter()):
        tip = element.attrib.pop("aria-label", None)
        if tip and element.attrib.get("role") == "graphics-symbol":
            ElementTree.SubElement(element, f"{{{SVG}}}title").text = tip
        for name, value in list(element.attrib.items()):
            if name == "role" or name.startswith("aria-"):
                del element.attrib[name]
            elif name == "id":
                element.set(name, f"{key}-{value}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{key}-"))
    root.attrib |= {"role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def write_figures(plots: list[Plot], folder: Path) -> None:
    """Write each plot as SVG and as PDF, for a paper."""
    import vl_convert  # here, because the import takes a second

    names: list[str] = []
    for plot in plots:
        # A title may be anybody's, and several plots may have the same.
        name = re.sub(r"[^\w]+", "-", plot.title.lower()).strip("-")[:100] or "plot"
        names.append(f"{name}-{len(names)}" if name in names else name)
        svg = plot.draw(COLOURS)
        write_bytes(folder / f"{names[-1]}.svg", svg.encode())
        write_bytes(folder / f"{names[-1]}.pdf", vl_convert.svg_to_pdf(svg))


def differences(name: str, metric: Metric, first: str, comparisons: list[Comparison]) -> list[Plot]:
    """Plot the differences from the first revision, with their 95 % intervals, if they have any."""
    rows = []
    for one in comparisons:
        if one.low is not None and one.high is not None:
            numbers = one.value, one.low, one.high
            middle, low, high = (metric.text(number, "+.2f", "+.4g") for number in numbers)
            row = dict(zip(("value", "low", "high"), _shown(numbers, metric), strict=True))
            about = {"revision": one.name, "outcome": one.outcome}
            rows.append({**about, **row, "text": f"{middle} ({low} to {high})"})
    if not rows:
        return []
    unit = f" in{metric.points}" if metric.points else ""
    title = f"{name} minus that of {first}{unit}; {metric.better} is better"
    color = {
        "field": "outcome",
        "type": "nominal",
        "scale": {"domain": ["better", "worse", "undecided"], "range": "outcome"},
        "legend": None,
    }
    x: Spec = {"type": "quantitative", "title": title, "scale": {"padding": 12}}
    value = {**x, "field": "value"}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeDash": [4, 4]},
            "encoding": {"x": {**x, "datum": 0}, "y": None, "color": None},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 2.5},
            "encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {"x": value},
        },
        {
            "mark": {"type": "text", "dy": -12},
            "encoding": {"x": value, "text": {"field": "text"}, "color": None},
        },
    ]
    return [_plot_rows(f"Differences in {name}", rows, layers, {"color": color})]


def seeds(name: str, metric: Metric, revisions: list[Revision], letters: list[str]) -> Plot:
    """Plot the mean score of each seed, and that of all, a row for each revision.

    letters: of each revision; those that share one are not told apart.
    """
    rows = []
    for revision, of_revision in zip(revisions, letters, strict=True):
        label = f"{revision.name}  {of_revision}".strip()
        for number in _shown(revision.scores[name].mean(1).tolist(), metric):
            rows.append({"revision": label, "value": number})
    title = f"{name}{f' {metric.unit}'.rstrip()} on {revisions[0].split}; {metric.better} is better"
    x = {"type": "quantitative", "title": title, "scale": {"zero": False, "padding": 12}}
    layers = [
        {"mark": {"type": "point", "size": 60}, "encoding": {"x": {**x, "field": "value"}}},
        {
            "mark": {"type": "tick", "thickness": 3, "size": 20},
            "encoding": {"x": {**x, "field": "value", "aggregate": "mean"}},
        },
    ]
    return _plot_rows(f"{name} of each seed", rows, layers, {})


def _shown(values: Sequence[float], metric: Metric) -> list[float]:
    return [100 * value if metric.unit == "%" else value for value in values]


def _plot_rows(title: str, rows: list[Spec], layers: list[Spec], encoding: Spec) -> Plot:
    """Return a plot with a row for each revision."""
    y = {
        "field": "revision",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": WIDTH / 2, "ticks": False, "domain": False, "grid": True},
    }
    spec = {
        "data": {"values": rows},
        "width": 2 * WIDTH,
        "height": {"step": 38},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "encoding": {"y": y, **encoding},
        "layer": layers,
    }
    return Plot(title, spec, narrow={"width": WIDTH})
