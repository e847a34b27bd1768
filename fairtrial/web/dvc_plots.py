"""The plots and pictures of revisions that `dvc.yaml` lists."""

import base64
import json
import mimetypes
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairtrial.project.errors import InputError
from fairtrial.project.scratch import run_captured
from fairtrial.web.own_plots import HEIGHT, PANEL_WIDTH, WIDTH, Plot, Spec

DVC = sys.executable, "-m", "fairtrial.project.dvc_here"
SECONDS = 60  # for each revision: a matrix of stages that somebody wrote may have no end
THINNEST = 1.5  # of the lines of revisions
MAX_LEGEND, LONG = 40, 4  # characters of a legend in a line; and of a label that is turned


class Picture(NamedTuple):
    title: str
    revisions: list[str]
    source: str  # a data: URL
    is_drawing: bool = False  # in shades of grey, so that it may become light on dark
    is_wide: bool = False  # wider than half of a page


def load_dvc_plots(
    labels: Mapping[str, str], held_out: set[str]
) -> tuple[list[Plot], list[list[Picture]], list[str]]:
    """Return the plots that DVC draws of revisions, the pictures of each path, and what is missing.

    A picture that is the same in several revisions is there once.

    labels: of the revisions, for legends. held_out: the splits by which nothing is chosen. Raises
    `InputError` if DVC cannot draw them.
    """
    names = list(labels)
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
                    plots += adapt_dvc_plot(part["content"], labels, held_out)
                    continue
                kind = mimetypes.guess_type(path)[0] or "image/png"
                content = Path(part["url"]).read_bytes()
                source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
                title = Path(path).stem.capitalize()
                picture = Picture(title, [], source, *_read_png(content))
                same_path.setdefault(source, picture).revisions.extend(part["revisions"])
            if same_path:
                pictures.append(list(same_path.values()))
            present = {revision for part in parts for revision in part["revisions"]}
            missing += [f"{name}: has no plot of {path}" for name in names if name not in present]
    return plots, pictures, missing


def _read_png(content: bytes) -> tuple[bool, bool]:
    """Return whether a file is a PNG without colours, and whether it is a wide one.

    Its header has both: https://www.w3.org/TR/png/#11IHDR.
    """
    is_png = content.startswith(b"\x89PNG")
    width = int.from_bytes(content[16:20], "big")
    return is_png and content[25:26] in (b"\0", b"\4"), is_png and width > 1.5 * WIDTH


def adapt_dvc_plot(spec: Spec, labels: Mapping[str, str], held_out: set[str]) -> list[Plot]:
    """Return a plot of DVC for the page, and one more if it has rows of splits that are held out.

    Its rows are in the order of the revisions, and have the columns that it shows.

    labels: of the revisions, for the legend.
    """
    names = list(labels)
    rows = sorted(spec.pop("data")["values"], key=lambda row: names.index(row["rev"]))
    title = spec.pop("title")["text"]
    spec.pop("$schema", None)  # of an older version, about which the library would warn
    text = json.dumps(spec)
    if '"content": "data"' not in text:  # a tooltip of that kind shows all columns
        columns = {column for row in rows for column in row}
        shown = {
            one for one in columns if one == "split" or f'"{one}"' in text or f".{one}" in text
        }
        rows = [{column: row[column] for column in row if column in shown} for row in rows]
    long = {column for row in rows for column in row if len(str(row[column])) > LONG}
    spec = adapt_encodings(spec, labels, long)
    plots = []
    for is_held_out in (False, True):
        part = [row for row in rows if (row.get("split") in held_out) == is_held_out]
        splits = dict.fromkeys(row["split"] for row in part if is_held_out)
        suffix = f" on {' and '.join(splits)}" if is_held_out else ""
        if part:
            is_wide = "field" in spec.get("facet", ()) and len(names) > 1  # a panel for each
            own = {"data": {"values": part}, **_sized(spec, part), "columns": 2}
            narrow = {"columns": 1} if is_wide else None
            plots.append(Plot(f"{title}{suffix}", own, narrow, is_held_out))
    return plots


def adapt_encodings(value: Any, labels: Mapping[str, str], long: set[str]) -> Any:
    """Return a spec as a page shows it, which does not move.

    It lacks empty encodings, about which the library warns, DVC's colours, and zooming, for which
    the library would clip it. The lines of each revision have a width of their own, so that equal
    ones do not hide one another.

    long: the columns with values that would not fit beside each other; they are turned.
    """
    if isinstance(value, list):
        kept = (one for one in value if not (isinstance(one, dict) and one.get("bind") == "scales"))
        return [adapt_encodings(inner, labels, long) for inner in kept]
    if not isinstance(value, dict):
        return value
    if value.get("field") == "rev" and "scale" in value:
        text: Spec = {"labelExpr": f"({json.dumps(labels)})[datum.label]"}
        if sum(map(len, labels.values())) > MAX_LEGEND:
            text["columns"] = 1
        value = {"legend": text, **value, "scale": {"domain": list(labels)}}
    if value.get("field") in long and value.get("axis", {}).get("labelAngle") == 0:
        value = {**value, "axis": {"labelAngle": -45, "labelLimit": 90}}
    items = ((key, adapt_encodings(inner, labels, long)) for key, inner in value.items())
    spec = {key: inner for key, inner in items if inner != {}}
    mark = spec.get("mark")
    is_line = mark == "line" or (isinstance(mark, dict) and mark.get("type") == "line")
    if is_line and "data" not in spec:  # of its own, such as a diagonal
        widths = np.linspace(THINNEST + min(len(labels) - 1, 3), THINNEST, len(labels)).tolist()
        scale = {"domain": list(labels), "range": widths}
        width = {"field": "rev", "type": "nominal", "legend": None, "scale": scale}
        spec["encoding"] = {"strokeWidth": width, **spec.get("encoding", {})}
    return spec


def _sized(spec: Spec, rows: list[dict[str, Any]]) -> Spec:
    """Return a spec with the size of a card; how many panels it has depends on the rows."""
    if "spec" not in spec:
        fit = {"type": "fit-x", "contains": "padding"}
        return {**spec, "width": WIDTH, "height": HEIGHT, "autosize": fit}
    facet = spec.get("facet", {})
    column = facet.get("column", {}).get("field") if "field" not in facet else None
    panels = 1 if column is None else len({row.get(column) for row in rows})
    width = spec["spec"].get("width")
    if isinstance(width, int | float):
        width = min(width, PANEL_WIDTH / panels)
    return {**spec, "spec": {**spec["spec"], "width": width}}
