"""Assemble the page of a report from its template, plots and tables."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jinja2
import pandas as pd

from fairtrial.project.chosen import load_chosen
from fairtrial.project.contract import DVC_YAML, stage_definitions
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import read_files
from fairtrial.project.scores import Revision, load_scores, splits_of
from fairtrial.project.staleness import LOCK, PARAMS, locked_hashes
from fairtrial.project.yaml_reader import parse_mapping
from fairtrial.rank import rank
from fairtrial.statistics.comparison import Comparison, compare_pairs, remark_lines
from fairtrial.statistics.matching import find_choice, refuse_other_task
from fairtrial.tables import difference_table, params_table, provenance_table, scores_table
from fairtrial.web.dvc_plots import load_dvc_plots
from fairtrial.web.own_plots import VARIABLES, Plot, differences, seeds, to_html

WEB = Path(__file__).parent
MAX_LABEL = 60  # characters of a revision's name and of its settings in a legend
MAX_RANKED = 20  # revisions of which all pairs are compared
SUPERSCRIPTS = str.maketrans("-0123456789", "\u207b⁰¹²³⁴⁵⁶⁷⁸⁹")


class Drawn(NamedTuple):
    plot: Plot
    broad: str  # SVG
    narrow: str  # another for a phone, if it is wide


def render_report(names: list[str]) -> tuple[str, list[Plot]]:
    """Return the HTML page of revisions, which compares the others with the first, and its plots.

    Raises `InputError` if a revision is unknown or lacks results.
    """
    first = load_scores(names[0])
    contract = first.contract
    others = [load_scores(name, contract.split) for name in names[1:]]
    revisions = [first, *others]
    for other in others:
        refuse_other_task(first, other, "show them on two pages")
    chosen = load_chosen()
    choices = [find_choice(first, other, chosen) for other in others]
    name, metric = contract.metric()
    pairs = [(0, position) for position in range(1, len(revisions))]
    by_metric = compare_pairs(revisions, pairs, list(contract.metrics), choices)
    comparisons = by_metric[name]
    provenance = provenance_table(revisions)
    changes = params_table(revisions, only_changed=True)
    commits = provenance.iloc[:1].set_axis(changes.columns, axis=1)
    commits = commits.replace("dvc: commit experiment .*", "(experiment)", regex=True)
    held_out = {
        split: _metric_tables([load_scores(one.name, split) for one in revisions], {})
        for split in _splits(first)
        if split != contract.split
    }
    of_dvc, pictures, missing = load_dvc_plots(legend_labels(names, changes), set(held_out))
    answers = differences(name, metric, first.name, comparisons)
    remarks = remark_lines(comparisons)
    if len(revisions) != 2:
        ranked, letters = revisions, [""] * len(revisions)
        if 1 < len(revisions) <= MAX_RANKED:
            ranked, _, letters = rank(revisions, name)
        answers.append(seeds(name, metric, ranked, letters))
        if any(letters):
            remarks.append("revisions with a common letter (a, b, ...) are not told apart")

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"] = prose

    def drawn(plots: list[Plot], place: str) -> list[Drawn]:
        result = []
        for number, plot in enumerate(plots):
            label, key = f"{plot.title}: {', '.join(names)}", f"{place}{number}"
            try:
                broad = to_html(plot.draw(VARIABLES), key, label)
                narrow = ""
                if plot.narrow:
                    narrow = to_html(plot.draw(VARIABLES, True), f"{key}n", label)
                result.append(Drawn(plot, broad, narrow))
            except InputError as error:
                missing.append(str(error))
        return result

    plots = drawn(of_dvc, "plot")
    shown = drawn(answers, "answer")
    page = environment.get_template("report.html").render(
        names=names,
        name=name,
        split=contract.split,
        data=data_name(first),
        score=scores_table([first], name, metric).iloc[0].tolist(),
        unit=metric.unit and f"\N{NO-BREAK SPACE}{metric.unit}",
        comparisons=comparisons,
        remarks=remarks + missing,
        changes=pd.concat([commits, changes]),
        changed_files=changed_files(revisions),
        tables=_metric_tables(revisions, by_metric),
        held_out=held_out,
        answers=shown,
        plots=plots,
        pictures=pictures,
        provenance=provenance[(provenance.iloc[:, 1:] != "").any(axis=1)],
        params=params_table(revisions),
    )
    return page, [one.plot for one in [*shown, *plots]]


def legend_labels(names: list[str], changes: pd.DataFrame) -> dict[str, str]:
    """Return the name of each revision with the settings in which they differ, as far as these fit.

    changes: the parameters that differ, as `params_table` returns them.
    """
    labels = {}
    for column, name in enumerate(names, start=1):
        rows = changes.itertuples(index=False)
        settings = ", ".join(f"{row[0].rpartition('.')[2]} {row[column]}" for row in rows)
        label = f"{name}: {settings}"
        if len(label) > MAX_LABEL:
            settings = label[:MAX_LABEL].removeprefix(f"{name}: ").rpartition(", ")[0]
            label = f"{name}: {settings}, \u2026"
        labels[name] = label if settings else name
    return labels


def data_name(revision: Revision) -> str:
    """Return what the data are called: the last part of the path that a parameter names.

    The stage that the contract calls `data` depends on that path. Without one, it is the stage.
    """
    stage = revision.contract.data
    if stage is None:
        return ""
    [content] = read_files(revision.name, DVC_YAML)
    for dep in stage_definitions(content, DVC_YAML).get(stage, {}).get("deps", []):
        if found := re.fullmatch(r"\$\{([\w.]+)\}", str(dep)):
            return PurePosixPath(str(revision.params.get(found[1], stage))).stem
    return stage


def changed_files(revisions: list[Revision]) -> dict[str, list[str]]:
    """Return for each of the others what its stages read that is not as for the first.

    That is code and data, and not the parameters or what a stage made.
    """
    hashes: list[dict[str, str | None]] = []
    for revision in revisions:
        definition, lock_file = read_files(revision.name, DVC_YAML, LOCK)
        definitions = stage_definitions(definition, DVC_YAML)
        lock = parse_mapping(lock_file, LOCK)
        read, made = (
            {
                path: md5
                for one in locked_hashes(lock, definitions, key).values()
                for path, md5 in one.items()
            }
            for key in ("deps", "outs")
        )
        hashes.append({path: read[path] for path in read if path not in made and path != PARAMS})
    first = hashes[0]
    return {
        revision.name: changed
        for revision, of_other in zip(revisions[1:], hashes[1:], strict=True)
        if (changed := sorted(dict(set(first.items()) ^ set(of_other.items()))))
    }


def prose(text: object) -> str:
    """Return a text with its powers of ten as one writes them by hand, and not as 1.5e-06."""

    def by_hand(found: re.Match[str]) -> str:
        exponent = str(int(found[2])).translate(SUPERSCRIPTS)
        return f"{found[1]} \u00d7 10{exponent}".replace(" ", "\N{NO-BREAK SPACE}")

    return re.sub(r"\b(\d[\d.]*)e([+-]\d+)\b", by_hand, str(text))


def _splits(revision: Revision) -> list[str]:
    """Return the splits that a revision has scores of."""
    paths = revision.contract.scores
    return splits_of(dict(zip(paths, read_files(revision.name, *paths), strict=True)))


def _metric_tables(
    revisions: list[Revision], by_metric: Mapping[str, list[Comparison]]
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
