"""A picture of a sweep: its metric against each of its parameters."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def draw_chart(table: "pd.DataFrame", params: list[str], metric: str) -> dict[str, bytes]:
    """Return a picture with a panel a parameter, and bars of one standard deviation over the seeds.

    Parameters with the same value in all points are left out. It is there as png and, for a paper,
    as svg and pdf.

    table: as `tools.search.rows.full_table` returns it.
    """
    import pandas as pd
    import vl_convert

    params = [name for name in params if table[name].nunique() > 1] or params[:1]
    fields = {name: f"param {index}" for index, name in enumerate(params)}  # names without dots
    rows = table[params].rename(columns=fields)
    rows["value"] = table[metric]
    if metric.endswith(".replicas.mean"):
        sd = table[metric.removesuffix("mean") + "sd"].astype(float).fillna(0)
        rows["low"], rows["high"] = rows["value"] - sd, rows["value"] + sd
    panels = []
    for name, field in fields.items():
        x: dict[str, Any] = {"field": field, "title": name, "type": "nominal"}
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().all():
            is_log = numbers.min() > 0 and numbers.max() >= 10 * numbers.min()
            scale = {
                "type": "log" if is_log else "linear",
                "zero": False,
                "nice": False,
                "padding": 15,
            }
            x |= {"type": "quantitative", "scale": scale}
            if numbers.nunique() <= 8:  # a tick at each value instead of at round numbers
                x["axis"] = {"values": sorted(numbers.unique().tolist()), "format": "~g"}
            rows[field] = numbers
        y = {"type": "quantitative", "scale": {"zero": False}, "title": metric}
        point = {"type": "point", "filled": True, "size": 50, "opacity": 1}
        layers = [{"mark": point, "encoding": {"y": {**y, "field": "value"}}}]
        if "low" in rows:
            interval = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
            layers.insert(0, {"mark": {"type": "rule", "opacity": 0.4}, "encoding": interval})
        encoding = {"x": x}
        if len(params) == 2:
            [other] = (other for other in params if other != name)
            encoding["color"] = {
                "field": fields[other],
                "title": other,
                "type": "nominal",
                "legend": {"symbolOpacity": 1},
            }
        panels.append({"width": 300, "height": 250, "encoding": encoding, "layer": layers})
    spec = {
        "data": {"values": rows.to_dict("records")},
        "hconcat": panels,
        "resolve": {"scale": {"color": "independent"}},
    }
    svg: str = vl_convert.vegalite_to_svg(spec)
    return {
        "png": vl_convert.svg_to_png(svg, scale=2),
        "svg": svg.encode(),
        "pdf": vl_convert.svg_to_pdf(svg),
    }
