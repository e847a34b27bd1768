"""Assemble the page of a report from its template, plots, tables and model."""

import base64
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from stages.storage.errors import InputError
from tools.analysis.comparison import compare, remark_lines
from tools.analysis.results import Revision, load_predictions, load_results
from tools.analysis.revisions import read_files
from tools.analysis.tables import (
    changed_params_table,
    dataset_title,
    difference_table,
    metrics_table,
    params_table,
    provenance_table,
    to_latex,
)
from tools.search.rows import load_chosen
from tools.web.paper import Figure, draw_figures
from tools.web.plots import Split, calibration, differences, dvc_plots, precision_and_recall
from tools.web.vega import content_security_policy, vega_bundle

WEB = Path(__file__).parent
SCRIPTS = ("plots.js", "model.js", "canvas.js")  # in the order in which they run
CHECKPOINT = "data/checkpoints/model.safetensors"
MAX_BYTES = 2_000_000  # of a checkpoint that a page carries


def render_report(names: list[str]) -> tuple[str, list[Figure]]:
    """Return the HTML page of revisions, which compares the first with the others, and its plots.

    The model in the page is that of the last one. Raises `InputError` if a revision is unknown
    or lacks results.
    """
    first, *others = revisions = [load_results(name, "val") for name in names]
    chosen = load_chosen()
    comparisons = compare(first, others, [chosen.get(other.name, 1) for other in others])
    metrics, provenance = metrics_table(names), provenance_table(revisions)
    with tempfile.TemporaryDirectory() as folder:
        plots, pictures, missing = dvc_plots(names, Path(folder))
        model = embed_model(revisions[-1], Path(folder))
    splits = [
        Split(name, split, of_split, classes)
        for name in names
        for predictions, classes in [load_predictions(name)]
        for split, of_split in predictions.groupby("split", sort=False)
    ]
    plots += [precision_and_recall(splits), calibration(splits)]
    tables = [metrics]
    if comparisons:
        tables = [difference_table(first, comparisons), changed_params_table(revisions), metrics]
        plots = [*filter(None, [differences(first.name, comparisons)]), *plots]
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html")
    figures = draw_figures(plots)
    library = vega_bundle()
    scripts = [(WEB / name).read_text(encoding="utf-8") for name in SCRIPTS]
    page = template.render(
        policy=content_security_policy([library, *scripts], images="data:", csv=True),
        names=names,
        title=" and ".join(dict.fromkeys(map(dataset_title, revisions))),
        comparisons=comparisons,
        remarks=remark_lines(comparisons) + missing,
        tables=[table for table in tables if not table.empty],
        plots=plots,
        pictures=pictures,
        model=model,
        figures=figures,
        latex=to_latex(tables, []),
        provenance=provenance,
        params=params_table(revisions),
        specs=[plot.spec | {"description": f"{plot.title}: {', '.join(names)}"} for plot in plots],
        library=library,
        scripts=scripts,
    )
    return page, figures


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
