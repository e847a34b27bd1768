"""Pictures of a sweep: its metric against each parameter, and of a search, how it went."""

from typing import TYPE_CHECKING, Any

from fairtrial.search.goal import Goal

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT = 300, 250  # of a panel, in pixels
COLUMNS = 3
COLOURS = ["#9aa9bd", "#4f86c6", "#d0701c"]  # visible on white and on black; the last is the best
Spec = dict[str, Any]  # Vega-Lite, of a plot without a width


def draw_chart(plots: list[tuple[str, Spec]]) -> dict[str, bytes]:
    """Return a picture with a panel for each plot, as png and, for a paper, as svg and pdf.

    plots: as `sweep_plots` returns them.
    """
    import vl_convert

    panels = [{"width": WIDTH, "height": HEIGHT, **spec} for _, spec in plots]
    independent = {"scale": {"color": "independent", "opacity": "independent"}}
    rows = [
        {"hconcat": panels[first : first + COLUMNS], "resolve": independent}
        for first in range(0, len(panels), COLUMNS)
    ]
    svg: str = vl_convert.vegalite_to_svg({"vconcat": rows, "resolve": independent})
    return {
        "png": vl_convert.svg_to_png(svg, scale=2),
        "svg": svg.encode(),
        "pdf": vl_convert.svg_to_pdf(svg),
    }


def sweep_plots(table: "pd.DataFrame", params: list[str], goal: Goal) -> list[tuple[str, Spec]]:
    """Return a plot of the metric against each parameter; of a search, two more of its course.

    Each has a title. Bars are one standard deviation over the seeds. Parameters with the same
    value in all points are left out.

    table: as `fairtrial.search.rows.full_table` or `fairtrial.search.trials.trials_table` returns
        it.
    """
    params = [name for name in params if table[name].nunique() > 1] or params[:1]
    plots = [(f"Sweep over {name}", _panel(table, name, params, goal)) for name in params]
    if "trial" in table:
        plots.append(("Best of the search so far", _best_so_far(table, goal)))
        if len(params) > 1:
            plots.append(("Parallel coordinates", _parallel_coordinates(table, params, goal)))
    return plots


def _panel(table: "pd.DataFrame", name: str, params: list[str], goal: Goal) -> Spec:
    """Return a plot of the metric against a parameter."""
    rows = table[[]].assign(x=table[name], value=table[goal.column])
    x: Spec = {"field": "x", "title": name, "type": "nominal", "axis": {"labelAngle": 0}}
    if (numbers := _numbers(table[name])) is not None:
        scale = {"type": "log"} if _is_log(numbers) else {"type": "linear", "zero": False}
        x |= {"type": "quantitative", "scale": {**scale, "nice": False, "padding": 15}}
        if numbers.nunique() <= 8:  # a tick at each value instead of at round numbers
            x["axis"] = {"values": sorted(numbers.unique().tolist()), "format": "~g"}
        rows["x"] = numbers
    y = {"type": "quantitative", "scale": {"zero": False}, "title": goal.title}
    point = {"type": "point", "filled": True, "size": 50, "opacity": 1, "color": COLOURS[1]}
    interval = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    layers = [
        {"mark": {"type": "rule", "opacity": 0.4}, "encoding": interval},
        {"mark": point, "encoding": {"y": {**y, "field": "value"}}},
    ]
    sd = table[goal.sd_column].astype(float).fillna(0)
    rows["low"], rows["high"] = rows["value"] - sd, rows["value"] + sd
    encoding = {"x": x}
    if "rung" in table and table["rung"].nunique() > 1:  # of a search by halving
        rows["rung"] = table["rung"]
        encoding["color"] = {
            "field": "rung",
            "title": "rung",
            "type": "ordinal",
            "scale": {"range": COLOURS[-table["rung"].nunique() :]},
            "legend": {"symbolOpacity": 1},
        }
    elif len(params) == 2:
        [other] = (other for other in params if other != name)
        rows["other"] = table[other]
        encoding["color"] = {
            "field": "other",
            "title": other,
            "type": "nominal",
            "legend": {"symbolOpacity": 1},
        }
    return {"data": {"values": rows.to_dict("records")}, "encoding": encoding, "layer": layers}


def _best_so_far(table: "pd.DataFrame", goal: Goal) -> Spec:
    """Return a plot of the trials that reached the last rung, and of the best so far."""
    rows = table[table["full_budget"]].sort_values("total_seconds")
    values = rows[goal.column]
    best = values.cummax() if goal.sign > 0 else values.cummin()
    data = rows[["total_seconds"]].assign(value=values, best=best).to_dict("records")
    y = {"type": "quantitative", "scale": {"zero": False}, "title": goal.title}
    scale = {"domainMin": 0}
    title = "seconds of workers"
    x = {"field": "total_seconds", "type": "quantitative", "title": title, "scale": scale}
    line = {"type": "line", "interpolate": "step-after", "color": COLOURS[1]}
    point = {"type": "point", "filled": True, "size": 50, "color": COLOURS[1]}
    return {
        "data": {"values": data},
        "encoding": {"x": x},
        "layer": [
            {"mark": line, "encoding": {"y": {**y, "field": "best"}}},
            {"mark": point, "encoding": {"y": {**y, "field": "value"}}},
        ],
    }


def _parallel_coordinates(table: "pd.DataFrame", params: list[str], goal: Goal) -> Spec:
    """Return a plot with an axis for each parameter and the metric, and a line for each trial.

    An axis goes from the lowest to the highest value, or through the choices in their order. Trials
    that halving stopped are faint.
    """
    import numpy as np
    import pandas as pd

    parts, ends = [], []
    for name in [*params, goal.column]:
        numbers = _numbers(table[name])
        if numbers is None:
            codes, names = pd.factorize(table[name], sort=True)
            position = pd.Series(codes, table.index) / max(1, len(names) - 1)
            labels = dict(zip(names, np.arange(len(names)) / max(1, len(names) - 1), strict=True))
        else:
            scaled = np.log(numbers) if _is_log(numbers) else numbers
            span = scaled.max() - scaled.min()
            position = (scaled - scaled.min()) / (span or 1)
            labels = {f"{numbers.min():.4g}": 0.0, f"{numbers.max():.4g}": 1.0}
        lines = table[["trial", "full_budget"]].assign(value=table[goal.column])
        axis = goal.title if name == goal.column else name
        parts.append(lines.assign(axis=axis, position=position))
        ends += [{"axis": axis, "position": at, "text": text} for text, at in labels.items()]
    x = {"field": "axis", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}}
    y = {"field": "position", "type": "quantitative", "axis": None}
    color = {
        "field": "value",
        "type": "quantitative",
        "title": goal.title,
        "scale": {"range": COLOURS[:: goal.sign]},
    }
    opacity = {"condition": {"test": "datum.full_budget", "value": 0.9}, "value": 0.25}
    return {
        "width": 2 * WIDTH,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "data": {"values": pd.concat(parts).to_dict("records")},
                "mark": "line",
                "encoding": {"detail": {"field": "trial"}, "color": color, "opacity": opacity},
            },
            {
                "data": {"values": ends},
                "mark": {"type": "text", "dx": 6, "align": "left"},
                "encoding": {"text": {"field": "text"}},
            },
        ],
    }


def _numbers(values: "pd.Series[Any]") -> "pd.Series[float] | None":
    """Return values as numbers, or None if one of them is not a number."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().all() else None


def _is_log(numbers: "pd.Series[float]") -> bool:
    return bool(numbers.min() > 0 and numbers.max() >= 10 * numbers.min())
