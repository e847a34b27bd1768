"""Assemble the page of a report from its template, plots and tables."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from fairtrial.project.revisions import read_files
from fairtrial.project.scores import Revision, load_scores, splits_of
from fairtrial.project.sweeps import load_chosen
from fairtrial.statistics.comparison import Comparison, compare, remark_lines
from fairtrial.tables import (
    difference_table,
    params_table,
    provenance_table,
    scores_table,
    to_latex,
)
from fairtrial.web.paper import Figure, draw_figures
from fairtrial.web.plots import MAX_REVISIONS, Plot, differences, dvc_plots, load_dvc_plots
from fairtrial.web.vega import content_security_policy, vega_bundle

WEB = Path(__file__).parent
HEADS = {  # what the heads of columns mean, by their first word
    "points": "the difference of the means over seeds, in percentage points",
    "difference": "the difference of the means over seeds",
    "95": "the 95 % confidence interval of the value before it",
    "p": "how probable a difference at least as large would be, if there were none",
    "seeds": "how many models were trained that differ in their seed alone",
    "seeds won": "the seeds whose model is better than the first revision's with the same seed",
    "only": "the examples that only this model gets right, and only the first revision's",
    "McNemar": "the p-value of McNemar's test of these examples",
    "examples": "how many examples the split has",
    "mean": "mean and standard deviation over the seeds",
}


def render_report(names: list[str], more_plots: Sequence[Plot] = ()) -> tuple[str, list[Figure]]:
    """Return the HTML page of revisions, which compares the others with the first, and its plots.

    more_plots: those of a sweep, after the comparison.

    Raises `InputError` if a revision is unknown or lacks results.
    """
    first = load_scores(names[0])
    contract = first.contract
    others = [load_scores(name, contract.split) for name in names[1:]]
    revisions = [first, *others]
    chosen = load_chosen()
    best_of = [chosen.get(other.name, 1) for other in others]
    name, metric = contract.metric()
    by_metric = {one: compare(first, others, one, best_of) for one in contract.metrics}
    comparisons = by_metric[name]
    held_out = [name for name in _splits(first) if name != contract.split]
    with tempfile.TemporaryDirectory() as folder:
        parts = load_dvc_plots(names, Path(folder))
        plots, pictures, missing = dvc_plots(parts, names, set(held_out))
    many = len(names) > MAX_REVISIONS
    if many:
        plots = [plot for plot in plots if "facet" not in plot.spec]  # a panel for each of them
    drawn = differences(name, metric, first.name, comparisons)
    plots = sorted([*drawn, *more_plots, *plots], key=lambda plot: plot.held_out)
    tables = _metric_tables(revisions, by_metric)
    provenance, params = provenance_table(revisions), params_table(revisions)
    provenance = provenance[(provenance.iloc[:, 1:] != "").any(axis=1)]
    settings = params_table(revisions, only_changed=True)
    if many:  # a row for each revision
        provenance, params, settings = map(_transpose, (provenance, params, settings))
    tables.insert(1 if others else 0, settings)
    of_held_out = [
        (split, _metric_tables([load_scores(one.name, split) for one in revisions], {}))
        for split in held_out
    ]
    figures = draw_figures(plots)
    shown = [table for table in tables if not table.empty]
    page = render_template(
        names=names,
        title=f"{name} on {contract.split}",
        split=contract.split,
        comparisons=comparisons,
        remarks=remark_lines(comparisons) + missing,
        tables=shown,
        held_out=of_held_out,
        many=many,
        plots=plots,
        pictures=pictures,
        figures=figures,
        latex=to_latex([*shown, *(table for _, some in of_held_out for table in some)], []),
        provenance=provenance,
        params=params,
    )
    return page, figures


def _splits(revision: Revision) -> list[str]:
    """Return the splits that a revision has scores of."""
    paths = revision.contract.scores
    return splits_of(dict(zip(paths, read_files(revision.name, *paths), strict=True)))


def _metric_tables(
    revisions: list[Revision], by_metric: dict[str, list[Comparison]]
) -> list[pd.DataFrame]:
    """Return tables of the scores and, where there are comparisons, of the differences."""
    first = revisions[0]
    tables = []
    for name, metric in first.contract.metrics.items():
        if comparisons := by_metric.get(name):
            table = difference_table(first, comparisons, metric)
            tables.append(table.rename(columns={table.columns[0]: f"{name} against {first.name}"}))
        tables.append(scores_table(revisions, name, metric))
    return tables


def render_template(**values: Any) -> str:
    """Return the page that `report.html` makes of the values.

    The names of the plots' revisions are in `values`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["middle"] = cut_middle
    environment.filters["meaning"] = lambda head: HEADS.get(head) or HEADS.get(head.split(" ")[0])
    library = vega_bundle()
    script = (WEB / "plots.js").read_text(encoding="utf-8")
    description = ", ".join(values["names"])
    return environment.get_template("report.html").render(
        policy=content_security_policy([library, script], images="data:", csv=True),
        specs=[
            plot.spec | {"description": f"{plot.title}: {description}"} for plot in values["plots"]
        ],
        library=library,
        script=script,
        **values,
    )


def _transpose(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that has a column for each revision with a row for each instead."""
    return table.set_index(table.columns[0]).T.reset_index(names="revision")


def cut_middle(text: object, length: int = 32) -> str:
    """Return a text without its middle if it is longer; its end often says more than its middle."""
    text = str(text)
    head = (length - 1) // 2
    return text if len(text) <= length else f"{text[:head]}…{text[-(length - 1 - head) :]}"
