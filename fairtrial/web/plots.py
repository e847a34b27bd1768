"""The plots and pictures of revisions that `dvc.yaml` lists, and the plot of their differences."""

import base64
import json
import mimetypes
import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.scratch import run_captured
from fairtrial.statistics.comparison import Comparison

DVC = sys.executable, "-m", "fairtrial.project.dvc_here"
SECONDS = 60  # for each revision: a matrix of stages that somebody wrote may have no end


class Plot(NamedTuple):
    title: str
    spec: dict[str, Any]  # Vega-Lite
    wide: bool = False  # whether it takes the width of the page
    held_out: bool = False  # whether it is about a split by which nothing is chosen


class Picture(NamedTuple):
    title: str
    revisions: list[str]
    source: str  # a data: URL


def load_dvc_plots(
    names: list[str], held_out: set[str]
) -> tuple[list[Plot], list[list[Picture]], list[str]]:
    """Return the plots that DVC draws of revisions, the pictures of each path, and what is missing.

    A picture that is the same in several revisions is there once.

    held_out: the splits by which nothing is chosen. Raises `InputError` if DVC cannot draw them.
    """
    plots: list[Plot] = []
    pictures: list[list[Picture]] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [*DVC, "plots", "diff", "--json", "--out", folder, *names]
        if len(names) == 1:
            command += names  # with one name DVC would compare it with the workspace
        done = run_captured(command, seconds=SECONDS * len(names))
        if done.returncode != 0:
            raise InputError(f"dvc plots diff: {' '.join(done.stderr.split())}")
        for path, parts in json.loads(done.stdout)["data"].items():
            parts.sort(key=lambda part: names.index(part["revisions"][0]))
            same_path: dict[str, Picture] = {}
            for part in parts:
                if part["type"] != "image":
                    plots += adapt_dvc_plot(part["content"], names, held_out)
                    continue
                kind = mimetypes.guess_type(path)[0] or "image/png"
                content = base64.b64encode(Path(part["url"]).read_bytes()).decode()
                source = f"data:{kind};base64,{content}"
                picture = Picture(Path(path).stem.capitalize(), [], source)
                same_path.setdefault(source, picture).revisions.extend(part["revisions"])
            if same_path:
                pictures.append(list(same_path.values()))
            present = {revision for part in parts for revision in part["revisions"]}
            missing += [f"{name}: has no plot of {path}" for name in names if name not in present]
    return plots, pictures, missing


def adapt_dvc_plot(spec: dict[str, Any], names: list[str], held_out: set[str]) -> list[Plot]:
    """Return a plot of DVC for the page, and one more if it has rows of splits that are held out.

    Its rows are in the order of `names`, and have the columns that it shows.
    """
    rows = sorted(spec.pop("data")["values"], key=lambda row: names.index(row["rev"]))
    title = spec.pop("title")["text"]
    spec.pop("$schema", None)  # of an older version, about which the library would warn
    spec.pop("usermeta", None)  # with which a template of a branch could set the library's options
    text = json.dumps(spec)
    if '"content": "data"' not in text:  # a tooltip of that kind shows all columns
        columns = {column for row in rows for column in row}
        shown = {
            one for one in columns if one == "split" or f'"{one}"' in text or f".{one}" in text
        }
        rows = [{column: row[column] for column in row if column in shown} for row in rows]
    spec = adapt_encodings(spec, names)
    wide = "facet" in spec and len(names) > 1  # a panel for each of them
    plots = []
    for is_held_out in (False, True):
        part = [row for row in rows if (row.get("split") in held_out) == is_held_out]
        splits = dict.fromkeys(row["split"] for row in part if is_held_out)
        suffix = f" on {' and '.join(splits)}" if is_held_out else ""
        if part:
            own = {"data": {"values": part}, **spec}
            plots.append(Plot(f"{title}{suffix}", own, wide, is_held_out))
    return plots


def adapt_encodings(value: Any, names: list[str]) -> Any:
    """Return a spec without empty encodings, about which the library warns, and DVC's colours."""
    if isinstance(value, list):
        return [adapt_encodings(inner, names) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("field") == "rev" and "scale" in value:
        value = {**value, "scale": {"domain": names}}
    items = ((key, adapt_encodings(inner, names)) for key, inner in value.items())
    return {key: inner for key, inner in items if inner != {}}


def differences(name: str, metric: Metric, first: str, comparisons: list[Comparison]) -> list[Plot]:
    """Plot the differences from the first revision, with their 95 % intervals, if they have any."""
    rows = [
        {"revision": one.name, "difference": one.value, "low": one.low, "high": one.high}
        for one in comparisons
        if one.low is not None
    ]
    if not rows:
        return []
    rows.insert(0, {"revision": first, "difference": 0.0, "low": 0.0, "high": 0.0})
    form = "+.2%" if metric.unit == "%" else "+.3~g"
    title, axis = f"{name} minus that of {first}", {"format": form.replace("2", "1")}

    def x(field: str) -> dict[str, Any]:
        return {"field": field, "type": "quantitative", "title": title, "axis": axis}

    fields = ({"field": field, "format": form} for field in ("difference", "low", "high"))
    y = {"field": "revision", "type": "nominal", "sort": None, "title": None}
    rule = {"type": "rule", "strokeWidth": 2, "opacity": 0.5}
    zero = {"type": "rule", "strokeDash": [4, 4], "color": "gray"}
    point = {"type": "point", "filled": True, "size": 50, "opacity": 1}
    spec = {
        "data": {"values": rows},
        "width": 450,
        "height": 40 * len(rows),
        "encoding": {"tooltip": [{"field": "revision"}, *fields]},
        "layer": [
            {"mark": zero, "encoding": {"x": {"datum": 0}}},
            {"mark": rule, "encoding": {"y": y, "x": x("low"), "x2": {"field": "high"}}},
            {"mark": point, "encoding": {"y": y, "x": x("difference")}},
        ],
    }
    return [Plot(f"Differences in {name}", spec, wide=True)]


def write_figures(plots: list[Plot], folder: Path) -> None:
    """Write each plot as SVG and as PDF, for a paper."""
    import vl_convert  # here, because the import takes a second

    names: list[str] = []
    for plot in plots:
        # A title may be anybody's, and several plots may have the same.
        name = re.sub(r"[^\w]+", "-", plot.title.lower()).strip("-")[:100] or "plot"
        names.append(f"{name}-{len(names)}" if name in names else name)
        # A template that a branch names may want to load something, and must not.
        svg: str = vl_convert.vegalite_to_svg(plot.spec, allowed_base_urls=[])
        write_bytes(folder / f"{names[-1]}.svg", svg.encode())
        write_bytes(folder / f"{names[-1]}.pdf", vl_convert.svg_to_pdf(svg))
