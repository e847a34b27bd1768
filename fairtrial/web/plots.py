"""Plots and pictures of revisions: those that `dvc.yaml` defines, and two of our own."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pandas as pd

from fairtrial.project.errors import InputError
from fairtrial.statistics.comparison import Comparison
from fairtrial.statistics.significance import wilson_interval

PICTURES = {  # titles of the pipeline's own pictures, and a text for those who cannot see them
    "metrics/samples.png": ("Training images", "Some of the training images with their labels."),
    "metrics/mistakes.png": (
        "Most confident mistakes on val",
        "The misclassified images of val with the highest confidence, each with its label, the "
        "prediction and the confidence.",
    ),
    "metrics/weights.png": (
        "Weights of the first layer",
        "The weights of the layer that sees the pixels, an image a class or filter: positive "
        "weights are red, negative ones blue.",
    ),
}

REPLICAS = "metrics/replicas.csv"  # what the seed decides; for each plot its column there
BANDS = {"metrics/accuracy.csv": "val_accuracy", "metrics/history.csv": "val_loss"}

MAX_CLASSES = 30  # in a plot with a place for each class
MAX_REVISIONS = 6  # in a plot with a place for each of them
LONGER = 5  # times the shortest training, from which on iterations are on a logarithmic axis


class Split(NamedTuple):
    """The predictions of a revision on one of its splits."""

    revision: str
    split: str
    predictions: pd.DataFrame  # as `fairtrial.project.results.parse_predictions` returns them
    classes: list[str]  # in their order


class Plot(NamedTuple):
    title: str
    spec: dict[str, Any]  # Vega-Lite
    wide: bool = False  # whether it takes the width of the page
    of_test: bool = False


class Picture(NamedTuple):
    description: str
    revisions: list[str]
    source: str  # a data: URL


def load_dvc_plots(names: list[str], folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what DVC draws of revisions: for each path of `dvc.yaml` a list of plots and images.

    folder: for temporary files of DVC. Raises `InputError` if DVC knows no such revision. It knows
    those that have no results yet, and experiments that run in folders of their own.
    """
    command = [sys.executable, "-m", "dvc", "plots", "diff", "--json", "--out", str(folder), *names]
    if len(names) == 1:
        command += names  # with one name DVC would compare it with the workspace
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode != 0:
        raise InputError(f"dvc plots diff: {' '.join(result.stderr.split())}")
    parts_of_path: dict[str, list[dict[str, Any]]] = json.loads(result.stdout)["data"]
    return parts_of_path


def dvc_plots(
    parts_of_path: dict[str, list[dict[str, Any]]], names: list[str]
) -> tuple[list[Plot], dict[str, list[Picture]], list[str]]:
    """Return the plots that `dvc.yaml` defines, pictures by title, and remarks on missing ones.

    parts_of_path: as `load_dvc_plots` returns it for the revisions `names`.
    """
    plots: list[Plot] = []
    pictures: dict[str, list[Picture]] = {title: [] for title, _ in PICTURES.values()}
    missing = []
    replicas = rows_of_replicas(parts_of_path)
    for path, parts in parts_of_path.items():
        revisions_by_content: dict[bytes, list[str]] = {}
        for part in parts:
            if part["type"] == "image":
                content = Path(part["url"]).read_bytes()
                revisions_by_content.setdefault(content, []).extend(part["revisions"])
            elif path != REPLICAS:
                if path in BANDS:
                    add_band(part["content"], replicas, BANDS[path], names)
                plots += adapt_dvc_plot(part["content"], names)
        title, description = PICTURES.get(path, (path, path))
        for content, revisions in revisions_by_content.items():
            revisions.sort(key=names.index)
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            pictures.setdefault(title, []).append(Picture(description, revisions, source))
        present = {revision for part in parts for revision in part["revisions"]}
        missing += [f"{name}: has no plot of {path}" for name in names if name not in present]
    for same_title in pictures.values():
        same_title.sort(key=lambda picture: names.index(picture.revisions[0]))
    return plots, pictures, missing


def rows_of_replicas(parts_of_path: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Return the rows of `REPLICAS` as text, with their revisions in the column rev."""
    parts = parts_of_path.get(REPLICAS, [])
    return pd.DataFrame([row for part in parts for row in part["content"]["data"]["values"]])


def add_band(spec: dict[str, Any], replicas: pd.DataFrame, column: str, names: list[str]) -> None:
    """Draw behind the curves of a DVC plot what the seed decides: all replicas on val.

    It is their mean, and a band from the lowest to the highest, where there are several.

    replicas: as `rows_of_replicas` returns them. column: their values.
    """
    curves = pd.DataFrame(spec["data"]["values"])
    keys = ["rev", "iteration", "batch_size", "lr"]
    if not (
        {*keys, column} <= set(replicas)
        and {*keys} <= set(curves)
        and {"layer", "encoding", "transform"} <= set(spec)
    ):
        return  # of another version, or of a template of the user's own
    values = replicas[["iteration", column]].apply(pd.to_numeric, errors="coerce")
    bands = replicas.assign(**values).dropna().groupby(keys)[column]
    rows = bands.agg(low="min", mean="mean", high="max", seeds="count").reset_index()
    rows = rows[rows["seeds"] > 1]
    if rows.empty:
        return
    y = spec["encoding"]["y"]
    # Of the other revisions a point, which is not seen: colours are given in the order of the data.
    others = curves[~curves["rev"].isin(rows["rev"])].drop_duplicates("rev")
    point = dict.fromkeys(("low", "mean", "high"), others[y["field"]])
    rows = pd.concat([rows, others[keys].assign(**point)])
    rows = rows.sort_values("rev", key=lambda revisions: revisions.map(names.index), kind="stable")
    rows["split"] = "val, mean of seeds"
    y["title"] += " (band: lowest to highest seed on val)"
    band = {
        "data": {"values": rows.to_csv(index=False), "format": {"type": "csv"}},
        "transform": spec["transform"],
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.25},
                "encoding": {"y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {
                "mark": "line",
                "encoding": {
                    "y": y | {"field": "mean"},
                    "strokeDash": {"field": "curve", "type": "nominal"},
                },
            },
        ],
    }
    spec["layer"].insert(0, band)


def adapt_dvc_plot(spec: dict[str, Any], names: list[str]) -> list[Plot]:
    """Return a plot of DVC for the page, and if it has rows of test, one of these.

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
    form: dict[str, Any] = {"type": "csv"}
    if names_of_classes := [column for column in ("label", "predicted") if column in rows]:
        form["parse"] = dict.fromkeys(names_of_classes, "string")  # 007 is no number
    spec = remove_empty(spec)
    if "iteration" in rows:
        spread_iterations(spec, rows)
    of_test = rows["split"] == "test" if "split" in rows else pd.Series(False, rows.index)
    plots = []
    for part, suffix in ((rows[~of_test], ""), (rows[of_test], " on test")):
        if not part.empty:
            data = {"values": part.to_csv(index=False), "format": form}
            own = {"data": data, **spec}
            wide = "facet" in spec and len(names) > 1  # a panel for each of them
            plots.append(Plot(f"{title}{suffix}", own, wide, bool(suffix)))
    return plots


def spread_iterations(spec: dict[str, Any], rows: pd.DataFrame) -> None:
    """Give a plot over iterations a logarithmic axis, if one training is much longer than another.

    Otherwise the short one would be a stroke at the left.
    """
    lengths = rows.groupby("rev")["iteration"].max()
    if lengths.max() >= LONGER * lengths.min():
        spec["encoding"]["x"] |= {
            "scale": {"type": "log", "nice": False},
            "axis": {"labelOverlap": "greedy", "labelSeparation": 10},
        }


def remove_empty(value: Any) -> Any:
    """Return a spec without the empty encodings that DVC leaves, about which Vega-Lite warns."""
    if isinstance(value, dict):
        return {key: remove_empty(inner) for key, inner in value.items() if inner != {}}
    return [remove_empty(inner) for inner in value] if isinstance(value, list) else value


def precision_and_recall(splits: list[Split]) -> Plot:
    """Plot the recall and the precision of each class on one split, with 95 % intervals.

    Of more than `MAX_CLASSES` classes it shows those with the lowest recall.
    """
    rows: list[dict[str, Any]] = []
    recalls: dict[str, list[float]] = {}
    for revision, split, predictions, _ in splits:
        correct = predictions["label"] == predictions["predicted"]
        for measure, column in (("recall", "label"), ("precision", "predicted")):
            for name, group in correct.groupby(predictions[column]):
                row = {"revision": revision, "panel": f"{measure} on {split}", "class": name}
                rows.append(row | proportion(group))
                if measure == "recall":
                    recalls.setdefault(str(name), []).append(rows[-1]["proportion"])
    classes = list(dict.fromkeys(name for split in splits for name in split.classes))
    title = "Precision and recall"
    if len(classes) > MAX_CLASSES:
        present = [name for name in classes if name in recalls]
        lowest = sorted(present, key=lambda name: fmean(recalls[name]))[:MAX_CLASSES]
        classes = [name for name in classes if name in lowest]
        rows = [row for row in rows if row["class"] in lowest]
        title = f"{title} of the {MAX_CLASSES} classes with the lowest recall"
    # Short names stand side by side; long ones would cover each other.
    angle = 0 if sum(map(len, classes)) <= MAX_CLASSES else -90
    axis = {"labelAngle": angle, "labelLimit": 100, "labelOverlap": False}
    x = {"field": "class", "type": "ordinal", "sort": classes, "axis": axis}
    revisions = list(dict.fromkeys(split.revision for split in splits))
    encoding = {"x": x, "xOffset": {"field": "revision", "sort": revisions}}
    return split_plot(title, splits, interval_spec(rows, encoding, "proportion"))


def recall_differences(splits: list[Split]) -> Plot:
    """Plot for each revision but the first how its recall of each class differs from the first's.

    splits: of one split, with the classes of the first.
    """
    recalls = {
        split.revision: (split.predictions["label"] == split.predictions["predicted"])
        .groupby(split.predictions["label"])
        .mean()
        for split in splits
    }
    first, *others = recalls
    rows = [
        {"revision": name, "class": label, "points": recalls[name][label] - recall}
        for name in others
        for label, recall in recalls[first].items()
        if label in recalls[name]
    ]
    # Of other data there may be no class in common, and of the same results no difference.
    largest = max((abs(row["points"]) for row in rows), default=0) or 1
    spec = {
        "data": {"values": rows},
        "width": 450,
        "height": 22 * len(others),
        "mark": "rect",
        "encoding": {
            "x": {
                "field": "class",
                "type": "ordinal",
                "sort": splits[0].classes,
                "axis": {"labelAngle": 0, "labelLimit": 100},
            },
            "y": {"field": "revision", "type": "nominal", "sort": None, "title": None},
            "color": {
                "field": "points",
                "type": "quantitative",
                "title": None,
                "scale": {"scheme": "redblue", "domain": [-largest, largest]},
                "legend": {"format": "+.0%", "gradientLength": 200, "symbolSize": 100},
            },
            "tooltip": [
                {"field": "revision"},
                {"field": "class"},
                {"field": "points", "format": "+.1%"},
            ],
        },
    }
    return split_plot(f"Recall minus that of {first}", splits, spec)


def split_plot(title: str, splits: list[Split], spec: dict[str, Any]) -> Plot:
    """Return a wide plot of predictions on one split, whose title names it if it is test."""
    of_test = splits[0].split == "test"
    return Plot(f"{title} on test" if of_test else title, spec, wide=True, of_test=of_test)


def calibration(splits: list[Split]) -> Plot:
    """Plot the accuracy on one split against the mean confidence, in ten bins of equal width."""
    rows = []
    for revision, split, predictions, _ in splits:
        correct = predictions["label"] == predictions["predicted"]
        bins = (10 * predictions["confidence"]).astype(int).clip(upper=9)
        for _, group in correct.groupby(bins):
            confidence = predictions["confidence"][group.index].mean()
            rows.append(
                {"revision": revision, "panel": split, "confidence": confidence} | proportion(group)
            )
    x = {"field": "confidence", "type": "quantitative", "axis": {"format": "%"}}
    y = {"field": "proportion", "type": "quantitative", "title": "accuracy"}
    diagonal = {
        "data": {"values": [{"confidence": end, "proportion": end} for end in (0, 1)]},
        "mark": {"type": "line", "color": "gray", "strokeDash": [4, 4]},
        "encoding": {"x": x, "y": y},
    }
    spec = interval_spec(rows, {"x": x}, "accuracy", diagonal)
    return split_plot("Calibration", splits, spec)._replace(wide=len(splits) > 1)


def differences(first: str, comparisons: list[Comparison]) -> Plot | None:
    """Plot the differences from the first revision, with their 95 % intervals, if they have any."""
    rows = [
        {"revision": one.name, "points": one.value, "low": one.low, "high": one.high}
        for one in comparisons
        if one.low is not None
    ]
    if not rows:
        return None
    rows.insert(0, {"revision": first, "points": 0.0, "low": 0.0, "high": 0.0})
    axis = {"format": "+.1%"}
    x = {"type": "quantitative", "title": f"accuracy minus that of {first}", "axis": axis}
    y = {"field": "revision", "type": "nominal", "sort": None, "title": None}
    tooltip = [{"field": "revision"}]
    tooltip += [{"field": name, "format": "+.2%"} for name in ("points", "low", "high")]
    shared = {"y": y, "tooltip": tooltip}
    spec = {
        "data": {"values": rows},
        "width": 450,
        "height": 40 * len(rows),
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [4, 4], "color": "gray"},
                "encoding": {"x": {"datum": 0}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
                "encoding": shared | {"x": x | {"field": "low"}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                "encoding": shared | {"x": x | {"field": "points"}},
            },
        ],
    }
    return Plot("Differences", spec, wide=True)


def proportion(correct: "pd.Series[bool]") -> dict[str, float]:
    """Return the proportion of correct images, its 95 % Wilson interval, and their number."""
    hits, n = int(correct.sum()), len(correct)
    low, high = wilson_interval(hits, n)
    return {"proportion": hits / n, "low": low, "high": high, "images": n}


def interval_spec(
    rows: list[dict[str, Any]], encoding: dict[str, Any], title: str, *below: dict[str, Any]
) -> dict[str, Any]:
    """Return a Vega-Lite spec of points with intervals, a colour a revision and a facet a panel.

    encoding: of the x axis. title: of the y axis. below: layers under the points.
    """
    panels = list(dict.fromkeys(row["panel"] for row in rows))  # in their order: val before test
    y = {"type": "quantitative", "title": title, "axis": {"format": "%"}, "scale": {"zero": False}}
    tooltip = [{"field": name} for name in ("revision", "panel", "images")]
    tooltip += [{"field": name, "format": ".1%"} for name in ("proportion", "low", "high")]
    shared = encoding | {
        "color": {
            "field": "revision",
            "sort": None,
            "title": None,
            "legend": {"orient": "top", "symbolSize": 80},
        },
        "tooltip": tooltip,
    }
    interval = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    return {
        "data": {"values": rows},
        "facet": {"field": "panel", "sort": panels, "title": None},
        "columns": 2,
        "spacing": {"column": 40},
        "spec": {
            "width": 300,
            "height": 220,
            "layer": [
                *below,
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
                    "encoding": shared | interval,
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                    "encoding": shared | {"y": y | {"field": "proportion"}},
                },
            ],
        },
    }
