"""Pictures of a sweep: its metric against each parameter, and of a search, how it went."""

from typing import TYPE_CHECKING, Any

from fairtrial.search.goal import Goal

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT = 300, 250  # of a panel, in pixels
COLUMNS = 3
COLOURS = ["#9aa9bd", "#4f86c6", "#d0701c"]  # visible on white and on black; the last is the best
POINT = {"type": "point", "filled": True, "size": 50, "color": COLOURS[1]}
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
        if table["full_budget"].sum() > 1:
            plots.append(("Best of the search so far", _best_so_far(table, goal)))
        if len(params) > 1:
            plots.append(("Parallel coordinates", _parallel_coordinates(table, params, goal)))
    return plots


def _quantity(field: str, title: str, **more: Any) -> Spec:
    """Return the encoding of a number."""
    return {
        "field": field,
        "type": "quantitative",
        "title": title,
        "scale": {"zero": False},
        **more,
    }


def _panel(table: "pd.DataFrame", name: str, params: list[str], goal: Goal) -> Spec:
    """Return a plot of the metric against a parameter."""
    value, sd = table[goal.column], table[goal.sd_column].astype(float).fillna(0)
    rows = table[[]].assign(x=table[name], value=value, low=value - sd, high=value + sd)
    x: Spec = {"field": "x", "title": name, "type": "nominal", "axis": {"labelAngle": 0}}
    if (numbers := _numbers(table[name])) is not None:
        scale = {"type": "log"} if _is_log(numbers) else {"type": "linear", "zero": False}
        x = _quantity("x", name, scale={**scale, "nice": False, "padding": 15})
        if numbers.nunique() <= 8:  # a tick at each value instead of at round numbers
            x["axis"] = {"values": sorted(numbers.unique().tolist()), "format": "~g"}
        rows["x"] = numbers
    encoding = {"x": x}
    color: Spec = {"field": "group", "legend": {"symbolOpacity": 1}}
    if "rung" in table and table["rung"].nunique() > 1:  # of a search by halving
        rows["group"] = table["rung"]
        colours = {"range": COLOURS[-table["rung"].nunique() :]}
        encoding["color"] = {**color, "title": "rung", "type": "ordinal", "scale": colours}
    elif len(params) == 2:
        [other] = (other for other in params if other != name)
        rows["group"] = table[other]
        encoding["color"] = {**color, "title": other, "type": "nominal"}
    interval = {"y": _quantity("low", goal.title), "y2": {"field": "high"}}
    point = {**POINT, "opacity": 1}
    layer = [
        {"mark": {"type": "rule", "opacity": 0.4}, "encoding": interval},
        {"mark": point, "encoding": {"y": _quantity("value", goal.title)}},
    ]
    return {"data": {"values": rows.to_dict("records")}, "encoding": encoding, "layer": layer}


def _best_so_far(table: "pd.DataFrame", goal: Goal) -> Spec:
    """Return a plot of the trials that reached the last rung, and of the best so far."""
    rows = table[table["full_budget"]].sort_values("total_seconds")
    values = rows[goal.column]
    best = values.cummax() if goal.sign > 0 else values.cummin()
    data = rows[["total_seconds"]].assign(value=values, best=best).to_dict("records")
    line = {"type": "line", "interpolate": "step-after", "color": COLOURS[1]}
    x = _quantity("total_seconds", "seconds of workers", scale={"domainMin": 0})
    layer = [
        {"mark": line, "encoding": {"y": _quantity("best", goal.title)}},
        {"mark": POINT, "encoding": {"y": _quantity("value", goal.title)}},
    ]
    return {"data": {"values": data}, "encoding": {"x": x}, "layer": layer}


def _parallel_coordinates(table: "pd.DataFrame", params: list[str], goal: Goal) -> Spec:
    """Return a plot with an axis for each parameter and the metric, and a line for each trial.

    An axis goes from the lowest to the highest value, or through the choices in their order. Trials
    that halving stopped are faint.
    """
    import numpy as np
    import pandas as pd

    lines, ends = [], []
    trials = table[["trial", "full_budget"]].assign(value=table[goal.column])
    for name in [*params, goal.column]:
        axis = goal.title if name == goal.column else name
        numbers = _numbers(table[name])
        if numbers is None:
            codes, names = pd.factorize(table[name], sort=True)
            scale = max(1, len(names) - 1)
            position = pd.Series(codes, table.index) / scale
            labels = {text: at / scale for at, text in enumerate(names)}
        else:
            scaled = np.log(numbers) if _is_log(numbers) else numbers
            position = (scaled - scaled.min()) / ((scaled.max() - scaled.min()) or 1)
            labels = {f"{numbers.min():.4g}": 0.0, f"{numbers.max():.4g}": 1.0}
        lines.append(trials.assign(axis=axis, position=position))
        ends += [{"axis": axis, "position": at, "text": text} for text, at in labels.items()]
    x = {"field": "axis", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}}
    opacity = {"condition": {"test": "datum.full_budget", "value": 0.9}, "value": 0.25}
    color = _quantity("value", goal.title, scale={"range": COLOURS[:: goal.sign]})
    line = {"detail": {"field": "trial"}, "color": color, "opacity": opacity}
    text = {"type": "text", "dx": 6, "align": "left"}
    layer = [
        {"data": {"values": pd.concat(lines).to_dict("records")}, "mark": "line", "encoding": line},
        {"data": {"values": ends}, "mark": text, "encoding": {"text": {"field": "text"}}},
    ]
    encoding = {"x": x, "y": {"field": "position", "type": "quantitative", "axis": None}}
    return {"width": 2 * WIDTH, "encoding": encoding, "layer": layer}


def _numbers(values: "pd.Series[Any]") -> "pd.Series[float] | None":
    """Return values as numbers, or None if one of them is not a number."""
    import pandas as pd

    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().all() else None


def _is_log(numbers: "pd.Series[float]") -> bool:
    return bool(numbers.min() > 0 and numbers.max() >= 10 * numbers.min())
