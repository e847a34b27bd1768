"""Show revisions on one page: what ran, how they compare, curves, mistakes, and a digit of yours.

Writes `report.html`, which needs no network and no other file. Without a revision it is about
the workspace against HEAD, or about HEAD alone where the two are the same. The model that
answers in the page is the one of the last revision.

    python -m tools.report
    python -m tools.report HEAD~1 HEAD --output report.html
"""

import argparse
import base64
import io
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from ruamel.yaml import YAML
from scipy import stats

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes
from tools.analysis.revisions import commit, read_files
from tools.cluster.worker import pinned
from tools.compare import PREDICTIONS, Comparison, Revision, compare, figures, read, tables
from tools.plots_page import library

WEB = Path(__file__).parent / "web"
CHECKPOINT = "data/checkpoints/model.safetensors"
LARGEST = 2_000_000  # bytes of a model's weights that a page carries
DIGITS = ("mnist-5k", "mnist", "qmnist")  # whose models know what is drawn
PACKAGES = ("torch", "torchvision", "numpy", "dvc")
RIGHT = "share that is right"  # the axis of an accuracy, a precision or a recall
PICTURES = {  # what the pipeline's own are called, and what they show to who cannot see them
    "metrics/samples.png": ("Training digits", "Some of the training digits with their labels."),
    "metrics/mistakes.png": (
        "Surest mistakes on val",
        "The mistakes on val that the model is surest of: label as prediction, and confidence.",
    ),
    "metrics/weights.png": (
        "Weights of the first layer",
        "The weights that see the pixels: red speaks for a digit or a feature, blue against it.",
    ),
}


Split = tuple[str, str, pd.DataFrame]  # a revision, one of its splits, and the rows of that


class Plot(NamedTuple):
    title: str
    spec: dict[str, Any]  # Vega-Lite

    @property
    def wide(self) -> bool:
        return "facet" in self.spec


class Picture(NamedTuple):
    about: str
    revisions: list[str]
    source: str  # a data: URL


def chosen() -> list[str]:
    """Return HEAD and the workspace, or one of them if they do not differ or HEAD has nothing."""
    files = "params.yaml", "dvc.lock", PREDICTIONS
    current = read_files("workspace", *files)
    try:
        committed = read_files("HEAD", *files)
    except InputError:
        return ["workspace"]
    return ["HEAD"] if committed == current else ["HEAD", "workspace"]


def results(revision: Revision) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return facts about what ran, and the figures of `metrics/evaluate.json`, a row a split."""
    name = revision.name
    files = "metrics/evaluate.json", "metrics/prepare.json", "dvc.lock", "requirements.txt"
    evaluated, prepared, lock, requirements = read_files(name, *files)
    try:
        versions = pinned(requirements.decode())
        images = [f"{facts['n']:,} {split}" for split, facts in json.loads(prepared).items()]
        outs = YAML(typ="safe").load(lock)["stages"]["prepare"]["outs"]
        facts = {
            "commit": commit(name),
            "data set": revision.params["fetch.dataset"],
            "images": ", ".join(images),
            **{f"MD5 of {out['path']}": out["md5"] for out in outs if "data/" in out["path"]},
            "packages": ", ".join(
                f"{package} {versions[package]}" for package in PACKAGES if package in versions
            ),
        }
        rows = [
            {"revision": name, "split": split, **figures(found)}
            for split, found in sorted(json.loads(evaluated).items(), reverse=True)  # val, test
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{name}: its results are not as this version has them ({error!r}); "
            "`dvc repro` there makes them again, or compare with `python -m tools.compare`"
        ) from None
    return facts, rows


def of_dvc(
    names: list[str], folder: Path
) -> tuple[list[Plot], dict[str, list[Picture]], list[str]]:
    """Return the plots of these revisions' dvc.yaml, the pictures by title, and what is missing."""
    command = [sys.executable, "-m", "dvc", "plots", "diff", "--json", "--out", str(folder), *names]
    if len(names) == 1:
        command += names  # of one alone it would be a comparison with the workspace
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"dvc plots diff: {done.stderr.strip()}")
    plots: list[Plot] = []
    pictures: dict[str, list[Picture]] = {title: [] for title, _ in PICTURES.values()}
    missing = []
    for path, parts in json.loads(done.stdout)["data"].items():
        same: dict[bytes, list[str]] = {}
        for part in parts:
            if part["type"] == "image":
                same.setdefault(Path(part["url"]).read_bytes(), []).extend(part["revisions"])
            else:
                plots.append(in_page(part["content"], names))
        title, about = PICTURES.get(path, (path, path))
        for content, revisions in same.items():
            revisions.sort(key=names.index)
            source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
            pictures.setdefault(title, []).append(Picture(about, revisions, source))
        shown = {revision for part in parts for revision in part["revisions"]}
        missing += [f"{name}: has no plot of {path}" for name in names if name not in shown]
    for of_title in pictures.values():
        of_title.sort(key=lambda picture: names.index(picture.revisions[0]))
    return plots, pictures, missing


def in_page(spec: dict[str, Any], names: list[str]) -> Plot:
    """Return a specification of DVC's, its title apart, and its data in a quarter of the room."""
    rows = pd.DataFrame(spec.pop("data")["values"])
    rows = rows.sort_values("rev", key=lambda revisions: revisions.map(names.index), kind="stable")
    title = spec.pop("title")["text"]
    del spec["$schema"]  # of a version that a newer library warns of
    text = json.dumps(spec)
    if '"content": "data"' not in text:  # which shows all columns
        rows = rows[[column for column in rows if f'"{column}"' in text or f".{column}" in text]]
    csv = {"values": rows.to_csv(index=False), "format": {"type": "csv"}}
    return Plot(title, {"data": csv, **without_empty(spec)})


def without_empty(value: Any) -> Any:
    """Return a specification without the encodings {} that DVC leaves, which are warned of."""
    if isinstance(value, dict):
        return {key: without_empty(inner) for key, inner in value.items() if inner != {}}
    return [without_empty(inner) for inner in value] if isinstance(value, list) else value


def per_digit(splits: list[Split]) -> Plot:
    """Plot of each digit how many of its images are found (recall), and how many found are it."""
    rows = []
    for name, split, table in splits:
        right = table["label"] == table["predicted"]
        for measure, column in (("recall", "label"), ("precision", "predicted")):
            for digit, of_digit in right.groupby(table[column]):
                rows.append(
                    {"revision": name, "panel": f"{measure} on {split}", "digit": digit}
                    | share(of_digit)
                )
    x = {"field": "digit", "type": "ordinal", "axis": {"labelAngle": 0}}
    return Plot("Precision and recall", intervals(rows, {"x": x, "xOffset": {"field": "revision"}}))


def reliability(splits: list[Split]) -> Plot:
    """Plot how often the model is right against how sure it is, in ten equal bins."""
    rows = []
    for name, split, table in splits:
        right = table["label"] == table["predicted"]
        tenth = (10 * table["confidence"]).astype(int).clip(upper=9)
        for _, of_bin in right.groupby(tenth):
            confidence = table["confidence"][of_bin.index].mean()
            rows.append(
                {"revision": name, "panel": split, "confidence": confidence} | share(of_bin)
            )
    x = {"field": "confidence", "type": "quantitative", "axis": {"format": "%"}}
    diagonal = {
        "data": {"values": [{"confidence": 0, "share": 0}, {"confidence": 1, "share": 1}]},
        "mark": {"type": "line", "color": "gray", "strokeDash": [4, 4]},
        "encoding": {"x": x, "y": {"field": "share", "type": "quantitative", "title": RIGHT}},
    }
    return Plot("Reliability of the confidences", intervals(rows, {"x": x}, diagonal))


def predictions(names: list[str]) -> Iterator[Split]:
    """Yield what the revisions predict, split by split."""
    for name in names:
        [content] = read_files(name, PREDICTIONS)
        table = pd.read_csv(io.BytesIO(content))
        if "confidence" not in table or not table["confidence"].between(0, 1).all():
            raise InputError(
                f"{name}: {PREDICTIONS} has no confidences from 0 to 1; `dvc repro` there makes it "
                "again"
            )
        for split, of_split in table.groupby("split", sort=False):
            yield name, split, of_split


def share(right: "pd.Series[bool]") -> dict[str, float]:
    hits, n = int(right.sum()), len(right)
    interval = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    return {"share": hits / n, "low": interval.low, "high": interval.high, "images": n}


def intervals(
    rows: list[dict[str, Any]], encoding: dict[str, Any], *under: dict[str, Any]
) -> dict[str, Any]:
    """Return a specification of points with intervals, a colour a revision and a facet a panel."""
    panels = list(dict.fromkeys(row["panel"] for row in rows))  # as they come: val before test
    y = {"type": "quantitative", "title": RIGHT, "axis": {"format": "%"}}
    y["scale"] = {"zero": False}
    tooltip = [{"field": name} for name in ("revision", "panel", "images")]
    tooltip += [{"field": name, "format": ".1%"} for name in ("share", "low", "high")]
    shared = encoding | {
        "color": {
            "field": "revision",
            "sort": None,
            "title": None,
            "legend": {"orient": "top", "symbolSize": 80},
        },
        "tooltip": tooltip,
    }
    return {
        "data": {"values": rows},
        "facet": {"field": "panel", "sort": panels, "title": None},
        "columns": 2,
        "spacing": {"column": 40},
        "spec": {
            "width": 300,
            "height": 220,
            "layer": [
                *under,
                {
                    "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5},
                    "encoding": shared | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 50, "opacity": 1},
                    "encoding": shared | {"y": y | {"field": "share"}},
                },
            ],
        },
    }


def model(last: Revision, folder: Path) -> dict[str, Any] | str:
    """Return the weights of a model for the page to compute with, or why it has none."""
    dataset = last.params.get("fetch.dataset")
    if dataset not in DIGITS:
        return f"The model of {last.name} knows {dataset}, not digits that are drawn."
    try:
        [content] = read_files(last.name, CHECKPOINT)
    except InputError as error:
        return f"The page has no model: {error}."
    if len(content) > LARGEST:
        return (
            f"The model of {last.name} has {len(content):,} bytes, too many for a page; "
            "python -m tools.predict shows what it sees in a picture."
        )
    from stages.learning.checkpoints import (
        read_checkpoint,  # here, since torch takes a second to import
    )

    path = folder / Path(CHECKPOINT).name
    path.write_bytes(content)
    try:
        tensors = read_checkpoint(path).state_dict()
    except InputError as error:
        return f"The page has no model: {str(error).replace(str(path), CHECKPOINT)}."
    weights = {
        name: {"shape": tensor.shape, "values": base64.b64encode(tensor.numpy()).decode()}
        for name, tensor in tensors.items()
    }
    return {"revision": last.name, "name": last.params["train.model"], "weights": weights}


def word(comparison: Comparison) -> str:
    """Return better, worse or same: the colour of a verdict."""
    if comparison.p >= 0.05:
        return "same"
    return "better" if comparison.difference.value > 0 else "worse"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.report", description="Show revisions on one page."
    )
    parser.add_argument("revisions", metavar="REV", nargs="*", help="the first is compared with")
    parser.add_argument("--output", type=Path, default=Path("report.html"))
    asked = parser.parse_args()
    names = list(dict.fromkeys(asked.revisions)) or chosen()
    first, *others = revisions = [read(name, "val") for name in names]
    found = compare(first, others) if others else []
    facts, rows = zip(*map(results, revisions), strict=True)
    verdicts = [(word(one), one.verdict) for one in found]
    changed, _, differences = tables(first, others, found)
    with tempfile.TemporaryDirectory() as folder:
        plots, pictures, missing = of_dvc(names, Path(folder))
        weights = model(revisions[-1], Path(folder))
    splits = list(predictions(names))
    plots += [per_digit(splits), reliability(splits)]
    ran = pd.DataFrame(dict(zip(names, facts, strict=True))).reset_index(names="")
    params = pd.DataFrame({revision.name: revision.params for revision in revisions}, dtype=str)
    template = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html")
    page = template.render(
        names=names,
        verdicts=verdicts,
        remarks=[f"{one.name}: {remark}" for one in found for remark in one.remarks] + missing,
        differences=differences,
        changed=changed,
        figures=pd.DataFrame(itertools.chain(*rows)),
        plots=plots,
        pictures=pictures,
        model=weights,
        ran=ran.fillna(""),
        params=params.fillna("").reset_index(names="parameter", allow_duplicates=True),
        specs=[plot.spec | {"description": f"{plot.title}: {', '.join(names)}"} for plot in plots],
        library=library(),
        script=(WEB / "report.js").read_text(),
    )
    write_bytes(asked.output, page.encode())
    print(f"{asked.output}: {', '.join(names)}")


if __name__ == "__main__":
    run(main)
