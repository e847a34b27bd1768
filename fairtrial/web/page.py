"""Assemble the page of a report from its template, plots and tables."""

from pathlib import Path

import jinja2
import pandas as pd

from fairtrial.project.chosen import load_chosen
from fairtrial.project.revisions import read_files
from fairtrial.project.scores import Revision, load_scores, splits_of
from fairtrial.statistics.comparison import Comparison, compare, remark_lines
from fairtrial.statistics.matching import find_choice
from fairtrial.tables import difference_table, params_table, provenance_table, scores_table
from fairtrial.web.plots import Plot, differences, load_dvc_plots
from fairtrial.web.vega_library import content_security_policy, vega_bundle

WEB = Path(__file__).parent


def render_report(names: list[str]) -> tuple[str, list[Plot]]:
    """Return the HTML page of revisions, which compares the others with the first, and its plots.

    Raises `InputError` if a revision is unknown or lacks results.
    """
    first = load_scores(names[0])
    contract = first.contract
    others = [load_scores(name, contract.split) for name in names[1:]]
    revisions = [first, *others]
    chosen = load_chosen()
    choices = [find_choice(first, other, chosen) for other in others]
    name, metric = contract.metric()
    by_metric = {one: compare(first, others, one, choices) for one in contract.metrics}
    comparisons = by_metric[name]
    tables = _metric_tables(revisions, by_metric)
    tables.insert(1 if others else 0, params_table(revisions, only_changed=True))
    provenance = provenance_table(revisions)
    held_out = {
        split: _metric_tables([load_scores(one.name, split) for one in revisions], {})
        for split in _splits(first)
        if split != contract.split
    }
    of_dvc, pictures, missing = load_dvc_plots(names, set(held_out))
    drawn = differences(name, metric, first.name, comparisons)
    plots = sorted([*drawn, *of_dvc], key=lambda plot: plot.held_out)

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["middle"] = cut_middle
    library, script = vega_bundle(), (WEB / "plots.js").read_text(encoding="utf-8")
    page = environment.get_template("report.html").render(
        names=names,
        title=f"{name} on {contract.split}",
        split=contract.split,
        comparisons=comparisons,
        remarks=remark_lines(comparisons) + missing,
        tables=[table for table in tables if not table.empty],
        held_out=held_out,
        plots=plots,
        pictures=pictures,
        provenance=provenance[(provenance.iloc[:, 1:] != "").any(axis=1)],
        params=params_table(revisions),
        policy=content_security_policy([library, script], images="data:"),
        specs=[plot.spec | {"description": f"{plot.title}: {', '.join(names)}"} for plot in plots],
        library=library,
        script=script,
    )
    return page, plots


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


def cut_middle(text: object, length: int = 32) -> str:
    """Return a text without its middle if it is longer; its end often says more than its middle."""
    text = str(text)
    head = (length - 1) // 2
    return text if len(text) <= length else f"{text[:head]}…{text[-(length - 1 - head) :]}"
