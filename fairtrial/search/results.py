"""The results of a sweep: a table for programs, one for the terminal, and a chart."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairtrial.project.files import write_bytes
from fairtrial.project.revisions import flatten
from fairtrial.search.goal import Goal
from fairtrial.search.points import Trial
from fairtrial.search.points_file import Rows

if TYPE_CHECKING:
    import pandas as pd

TOP = 20  # trials in the table on the terminal
COLUMNS = 3  # panels in a row of the chart
COLOURS = ["#9aa9bd", "#4f86c6", "#d0701c"]  # visible on white and on black; the last is the best
Spec = dict[str, Any]  # Vega-Lite


def full_table(trials: list[Trial], rows: Rows, goal: Goal) -> "pd.DataFrame":
    """Return the settings and all results of trials, a row a trial in their order.

    `rung` is the number of budgets that it got, and `seconds` are those of workers for all of them.
    """
    import pandas as pd

    lines = []
    for trial in trials:
        row = rows[trial.points[-1].key]
        results = dict(flatten({**row["metrics"], "md5": row["md5"]}))
        lines.append(
            {
                "experiment": trial.points[-1].name,
                **settings_of(trial),
                f"{goal.column}.mean": goal.value(row),
                **results,
                "rung": len(trial.points),
                "seconds": sum(rows[point.key]["seconds"] for point in trial.points),
            }
        )
    return pd.DataFrame(lines)


def best_of_each(trials: list[Trial], name: str) -> list[Trial]:
    """Return the first of the trials with each value of a parameter."""
    first: dict[object, Trial] = {}
    for trial in trials:
        first.setdefault(str(trial.points[-1].values.get(name)), trial)
    return list(first.values())


def top_table(trials: list[Trial], rows: Rows, goal: Goal) -> "pd.DataFrame":
    """Return the settings that differ and all metrics of the first trials, as text."""
    import pandas as pd

    settings = [settings_of(trial) for trial in trials]
    same = {k for k, v in settings[0].items() if all(one.get(k) == v for one in settings)}
    metrics = [goal.metric, *(name for name in goal.contract.metrics if name != goal.metric)]
    lines = []
    for trial in trials[:TOP]:
        row = rows[trial.points[-1].key]
        summaries = row["metrics"][goal.contract.split]
        cells = {name: goal.text(row, name) for name in metrics if name in summaries}
        varied = {k: v for k, v in settings_of(trial).items() if k not in same or len(trials) == 1}
        first = {"experiment": trial.points[-1].name, **varied}
        lines.append({**first, **cells, "seeds": summaries[goal.metric]["replicas"]})
    return pd.DataFrame(lines)


def settings_of(trial: Trial) -> dict[str, str]:
    return dict(override.split("=", 1) for override in trial.overrides)


def write_chart(path: Path, table: "pd.DataFrame", names: list[str], goal: Goal) -> None:
    """Write a picture with the metric against each parameter, as png, svg and pdf.

    path: without a suffix. table: as `full_table` returns it. names: the parameters; those with the
    same value in all trials are left out.
    """
    import vl_convert

    names = [name for name in names if table[name].nunique() > 1] or names[:1]
    panels = [_panel(table, name, names, goal) for name in names]
    independent = {"scale": {"color": "independent", "shape": "independent"}}
    lines = [
        {"hconcat": panels[first : first + COLUMNS], "resolve": independent}
        for first in range(0, len(panels), COLUMNS)
    ]
    svg: str = vl_convert.vegalite_to_svg({"vconcat": lines, "resolve": independent})
    write_bytes(path.with_suffix(".svg"), svg.encode())
    write_bytes(path.with_suffix(".png"), vl_convert.svg_to_png(svg, scale=2))
    write_bytes(path.with_suffix(".pdf"), vl_convert.svg_to_pdf(svg))


def _panel(table: "pd.DataFrame", name: str, names: list[str], goal: Goal) -> Spec:
    """Return a plot of the metric against a parameter; bars are one standard deviation.

    The colour is the rung of a search by halving, or else the other of two parameters.
    """
    import pandas as pd

    value, sd = table[f"{goal.column}.mean"], table[f"{goal.column}.sd"].astype(float).fillna(0)
    rows = pd.DataFrame({"x": table[name], "value": value, "low": value - sd, "high": value + sd})
    x: Spec = {"field": "x", "title": name, "type": "nominal", "axis": {"labelAngle": 0}}
    numbers = pd.to_numeric(table[name], errors="coerce")
    if numbers.notna().all():
        rows["x"] = numbers
        is_log = numbers.min() > 0 and numbers.max() >= 10 * numbers.min()
        scale = {"type": "log" if is_log else "linear", "nice": False, "padding": 15}
        title = f"{name}, log scale" if is_log else name
        x = {"field": "x", "title": title, "type": "quantitative", "axis": {"format": ",~g"}}
        x["scale"] = scale if is_log else {**scale, "zero": False}
        if numbers.nunique() <= 8:  # a tick at each value instead of at round numbers
            x["axis"]["values"] = sorted(numbers.unique().tolist())
    encoding: Spec = {"x": x}
    shape: Spec = {}
    color = {"field": "group", "legend": {"symbolOpacity": 1}}
    if (count := table["rung"].nunique()) > 1:
        rows["group"] = table["rung"]
        colours = {"range": COLOURS[-count:]}
        encoding["color"] = {**color, "title": "rung", "type": "ordinal", "scale": colours}
    elif len(names) == 2:
        [other] = set(names) - {name}
        rows["group"] = table[other]
        domain = {"domain": sorted(table[other].unique())}
        encoding["color"] = {**color, "title": other, "type": "nominal", "scale": domain}
        shape = {"shape": encoding["color"]}  # so that equal points do not hide one another
    y: Spec = {"type": "quantitative", "title": goal.title, "scale": {"zero": False}}
    if goal.contract.metric(goal.metric)[1].unit == "%":
        y["axis"] = {"format": ".1~%"}
    interval = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    point = {"type": "point", "filled": not shape, "size": 50, "opacity": 1}
    return {
        "width": 300,
        "height": 250,
        "data": {"values": rows.to_dict("records")},
        "encoding": encoding,
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.4}, "encoding": interval},
            {"mark": point, "encoding": {"y": {**y, "field": "value"}, **shape}},
        ],
    }
