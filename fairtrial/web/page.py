"""Assemble the page of a report from its template, plots, tables and model."""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from fairtrial.project.results import CHECKPOINT, Revision, load_predictions, load_results

from fairtrial.project.errors import InputError
from fairtrial.project.revisions import read_files
from fairtrial.project.sweeps import load_chosen
from fairtrial.statistics.comparison import compare, remark_lines
from fairtrial.tables import (
    changed_params_table,
    dataset_title,
    difference_table,
    metrics_table,
    params_table,
    provenance_table,
    to_latex,
)
from fairtrial.web.paper import Figure, draw_figures
from fairtrial.web.plots import (
    MAX_REVISIONS,
    Plot,
    Split,
    calibration,
    differences,
    dvc_plots,
    load_dvc_plots,
    precision_and_recall,
    recall_differences,
)
from fairtrial.web.vega import content_security_policy, vega_bundle

WEB = Path(__file__).parent
SCRIPTS = ("plots.js", "model.js", "canvas.js")  # in the order in which they run
WATCH_SCRIPT = "watch.js"  # of a page that follows its file on the disk
MAX_BYTES = 2_000_000  # of a checkpoint that a page carries
HEADS = {  # what the heads of columns mean
    "points": "the difference of the mean accuracies over seeds, in percentage points",
    "95 % CI": "the 95 % confidence interval of the value before it",
    "p": "how probable a difference at least as large would be, if there were none",
    "seeds won": "the seeds whose model is better than the first revision's with the same seed",
    "only B, only A": "the images that only this model gets right, and only the first revision's",
    "McNemar": "the p-value of McNemar's test of these images",
    "images": "how many images of the split there are",
    "accuracy %": "the share of the images that the model classifies correctly",
    "seeds": "how many models were trained that differ in their seed alone",
    "mean ± sd %": "mean and standard deviation of the accuracy over the seeds",
    "ensemble %": "the accuracy of the mean of the probabilities of all these models",
    "cross-entropy": "the mean negative logarithm of the probability of the right class",
    "calibration error": "the mean distance between confidence and accuracy, over bins",
}


def render_report(
    names: list[str], more_plots: Sequence[Plot] = (), watched: bool = False
) -> tuple[str, list[Figure]]:
    """Return the HTML page of revisions, which compares the first with the others, and its plots.

    The model in the page is that of the last one.

    more_plots: those of a sweep, after the comparison.
    watched: the page follows its file on the disk.

    Raises `InputError` if a revision is unknown or lacks results.
    """
    first, *others = revisions = [load_results(name, "val") for name in names]
    chosen = load_chosen()
    comparisons = compare(first, others, [chosen.get(other.name, 1) for other in others])
    metrics, provenance = metrics_table(names), provenance_table(revisions)
    with tempfile.TemporaryDirectory() as folder:
        plots, pictures, missing = dvc_plots(load_dvc_plots(names, Path(folder)), names)
        model = embed_model(revisions[-1], Path(folder))
    many = len(names) > MAX_REVISIONS
    if many:
        plots = [plot for plot in plots if "facet" not in plot.spec]  # a matrix for each of them
    splits = [
        Split(name, split, of_split, classes)
        for name in names
        for predictions, classes in [load_predictions(name)]
        for split, of_split in predictions.groupby("split", sort=False)
    ]
    for split in dict.fromkeys(one.split for one in splits):
        own = [one for one in splits if one.split == split]
        plots += [calibration(own), recall_differences(own) if many else precision_and_recall(own)]
    on_val, on_test = (
        metrics[metrics["split"] == split].drop(columns="split") for split in ("val", "test")
    )
    settings, params = changed_params_table(revisions), params_table(revisions)
    if many:  # a row for each of them
        settings, params, provenance = map(transpose, (settings, params, provenance))
    tables = [on_val]
    if comparisons:
        tables = [difference_table(first, comparisons), settings, on_val]
        plots = [*filter(None, [differences(first.name, comparisons)]), *plots]
    plots = [*more_plots, *plots]
    plots.sort(key=lambda plot: plot.of_test)  # in the order of the page
    figures = draw_figures(plots)
    page = render_template(
        [*SCRIPTS, *([WATCH_SCRIPT] if watched else [])],
        names=names,
        progress=[],
        title=" and ".join(dict.fromkeys(map(dataset_title, revisions))),
        comparisons=comparisons,
        remarks=remark_lines(comparisons) + missing,
        tables=[table for table in tables if not table.empty],
        test_table=on_test,
        heads=HEADS,
        many=many,
        plots=plots,
        pictures=pictures,
        model=model,
        figures=figures,
        latex=to_latex([*tables, on_test], []),
        provenance=provenance,
        params=params,
    )
    return page, figures


def render_template(scripts: list[str], **values: Any) -> str:
    """Return the page that `report.html` makes of the values, with the scripts of these names."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["middle"] = cut_middle
    library = vega_bundle()
    texts = [(WEB / name).read_text(encoding="utf-8") for name in scripts]
    description = ", ".join(values["names"])
    return environment.get_template("report.html").render(
        policy=content_security_policy([library, *texts], images="data:", csv=True),
        specs=[
            plot.spec | {"description": f"{plot.title}: {description}"} for plot in values["plots"]
        ],
        library=library,
        scripts=texts,
        **values,
    )


def transpose(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that has a column for each revision with a row for each instead."""
    return table.set_index(table.columns[0]).T.reset_index(names="revision")


def cut_middle(text: object, length: int = 32) -> str:
    """Return a text without its middle if it is longer; its end often says more than its middle."""
    text = str(text)
    head = (length - 1) // 2
    return text if len(text) <= length else f"{text[:head]}…{text[-(length - 1 - head) :]}"


def embed_model(revision: Revision, folder: Path) -> dict[str, Any] | str:
    """Return the model of a revision for `model.js`, or a sentence that says why there is none.

    folder: for a temporary file.
    """
    try:
        [content] = read_files(revision.name, CHECKPOINT)
    except InputError as error:
        return f"The page has no model: {error}."
    if len(content) > MAX_BYTES:
        return (
            f"The model of {revision.name} has {len(content):,} bytes, too many for a page; "
            "classify pictures with python -m tools.predict instead."
        )
    # Here, because torch takes a second.
    from stages.learning.checkpoints import read_checkpoint, read_description

    path = folder / Path(CHECKPOINT).name
    path.write_bytes(content)
    try:
        model, info = read_checkpoint(path)
        name, width, _ = read_description(path)
    except InputError as error:
        return f"The page has no model: {str(error).replace(str(path), CHECKPOINT)}."
    if info.style != "strokes":
        return (
            f"The model of {revision.name} was trained on {info.title}, whose images are prepared "
            "otherwise than a drawing; classify pictures with python -m tools.predict."
        )
    return {
        "revision": revision.name,
        "title": info.title,
        "size": info.shape[1],
        "ink_box": info.ink_box,
        "classes": info.classes,
        "name": name,
        "width": width,
        "weights": {
            key: {"shape": tensor.shape, "values": base64.b64encode(tensor.numpy()).decode()}
            for key, tensor in model.state_dict().items()
        },
    }
