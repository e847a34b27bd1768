"""The plots and images of revisions that `dvc.yaml` lists, and the plot of their differences."""

import base64
import json
import mimetypes
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fairtrial.project.contract import DVC_YAML, Metric, stage_definitions
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import read_files
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.statistics.comparison import Comparison

MAX_REVISIONS = 6  # in a plot with a panel for each of them

Parts = dict[str, list[dict[str, Any]]]  # for each path of `dvc.yaml`, its plots and images


class Plot(NamedTuple):
    title: str
    spec: dict[str, Any]  # Vega-Lite
    wide: bool = False  # whether it takes the width of the page
    held_out: bool = False  # whether it is about a split by which nothing is chosen


class Picture(NamedTuple):
    title: str
    revisions: list[str]
    source: str  # a data: URL


def load_dvc_plots(names: list[str], folder: Path) -> Parts:
    """Return what DVC draws of revisions.

    folder: for temporary files of DVC. Raises `InputError` if DVC does not know a revision. It
    knows those that have no results yet, and experiments that run in folders of their own.
    """
    command = [sys.executable, "-m", "dvc", "plots", "diff", "--json", "--out", str(folder), *names]
    if len(names) == 1:
        command += names  # with one name DVC would compare it with the workspace
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc plots diff: {' '.join(result.stderr.split())}")
    parts: Parts = json.loads(result.stdout)["data"]
    return parts


def dvc_plots(
    parts_of_path: Parts, names: list[str], held_out: set[str]
) -> tuple[list[Plot], list[list[Picture]], list[str]]:
    """Return the plots that `dvc.yaml` lists, the pictures of each path, and what is missing.

    parts_of_path: as `load_dvc_plots` returns it for the revisions `names`.
    held_out: the splits by which nothing is chosen.
    """
    plots: list[Plot] = []
    pictures: list[list[Picture]] = []
    missing = []
    options = plot_options(names[-1])
    for path, parts in parts_of_path.items():
        revisions_by_content: dict[bytes, list[str]] = {}
        for part in parts:
            if part["type"] == "image":
                content = Path(part["url"]).read_bytes()
                revisions_by_content.setdefault(content, []).extend(part["revisions"])
            else:
                plots += adapt_dvc_plot(part["content"], names, held_out)
        same_path = []
        for content, revisions in revisions_by_content.items():
            revisions.sort(key=names.index)
            kind = mimetypes.guess_type(path)[0] or "image/png"
            source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
            title = str(options.get(path, {}).get("title", Path(path).stem.capitalize()))
            same_path.append(Picture(title, revisions, source))
        if same_path:
            pictures.append(sorted(same_path, key=lambda one: names.index(one.revisions[0])))
        present = {revision for part in parts for revision in part["revisions"]}
        missing += [f"{name}: has no plot of {path}" for name in names if name not in present]
    return plots, pictures, missing


def plot_options(revision: str) -> dict[str, dict[str, Any]]:
    """Return the options of the plots that the `dvc.yaml` of a revision lists, by path or name."""
    [content] = read_files(revision, DVC_YAML)
    stages = stage_definitions(content, f"{revision}: {DVC_YAML}").values()
    top = parse_yaml(content, DVC_YAML).get("plots") or []
    entries = [*top, *(entry for stage in stages for entry in stage.get("plots") or [])]
    return {
        str(name): options or {}
        for entry in entries
        if isinstance(entry, dict)
        for name, options in entry.items()
    }


def adapt_dvc_plot(spec: dict[str, Any], names: list[str], held_out: set[str]) -> list[Plot]:
    """Return a plot of DVC for the page, and one more if it has rows of splits that are held out.

    Its data are in the order of `names`, and CSV, which takes a quarter of the space of DVC's JSON.
    """
    rows = pd.DataFrame(spec.pop("data")["values"])
    rows = rows.sort_values("rev", key=lambda revisions: revisions.map(names.index), kind="stable")
    title = spec.pop("title")["text"]
    spec.pop("$schema", None)  # of an older version, about which the library would warn
    spec.pop("usermeta", None)  # with which a template of a branch could set the library's options
    text = json.dumps(spec)
    if '"content": "data"' not in text:  # a tooltip of that kind shows all columns
        rows = rows[[column for column in rows if f'"{column}"' in text or f".{column}" in text]]
    nominal: set[str] = set()
    spec = adapt_encodings(spec, names, nominal)
    form = {"type": "csv", "parse": {name: column_type(rows[name], nominal) for name in rows}}
    is_held_out = rows["split"].isin(held_out) if "split" in rows else pd.Series(False, rows.index)
    plots = []
    for part, suffix in ((rows[~is_held_out], ""), (rows[is_held_out], " held out")):
        if not part.empty:
            suffix = suffix and f" on {' and '.join(part['split'].unique())}"
            own = {"data": {"values": part.to_csv(index=False), "format": form}, **spec}
            wide = "facet" in spec and len(names) > 1  # a panel for each of them
            plots.append(Plot(f"{title}{suffix}", own, wide, bool(suffix)))
    return plots


def column_type(values: "pd.Series[Any]", nominal: set[str]) -> str:
    """Return what the page takes the values of a column for: number or string."""
    is_number = pd.to_numeric(values[values != ""], errors="coerce").notna().all()
    return "number" if is_number and values.name not in nominal else "string"


def adapt_encodings(value: Any, names: list[str], nominal: set[str]) -> Any:
    """Return a spec without empty encodings, about which the library warns, and DVC's colours.

    nominal: gets the fields with names instead of numbers, such as a class called 007.
    """
    if isinstance(value, list):
        return [adapt_encodings(inner, names, nominal) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") in ("nominal", "ordinal") and isinstance(value.get("field"), str):
        nominal.add(value["field"])
    if value.get("field") == "rev" and "scale" in value:
        value = {**value, "scale": {"domain": names}}
    items = ((key, adapt_encodings(inner, names, nominal)) for key, inner in value.items())
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
