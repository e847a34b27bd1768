"""Write a model card: what the model of a revision is, how good it is, and where its limits are.

The card is Markdown, with the metadata at its top that model hubs read. It is about the workspace
unless a revision is named. Its bytes depend on the results alone.

    python -m tools card
    python -m tools card HEAD~1 --output card.md
"""

import argparse
import csv
import hashlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fairtrial.project.packages import describe_versions
from fairtrial.project.revisions import commit_of_results, read_files
from fairtrial.project.scores import load_scores
from fairtrial.statistics.significance import wilson_interval
from fairtrial.tables import escape_markdown
from stages.datasets.cards import Card
from stages.storage.errors import InputError, printable, shorten
from stages.storage.files import write_bytes
from stages.storage.yaml_reader import parse_yaml

CHECKPOINT = "data/checkpoints/model.safetensors"
COUNTS, METRICS = "metrics/prepare.json", "metrics/evaluate.json"
CLASSES, CALIBRATION = "metrics/classes.csv", "metrics/calibration.csv"
# What a file of another form raises somewhere between its parser and the template.
MALFORMED = (
    *(ArithmeticError, LookupError, RecursionError, TypeError, ValueError),
    *(csv.Error, jinja2.UndefinedError),
)
# The licences that hubs know and data have: https://huggingface.co/docs/hub/repositories-licenses
LICENCES = (
    "apache-2.0 bsd-2-clause bsd-3-clause c-uda cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 "
    "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 gfdl gpl-3.0 mit odbl odc-by pddl "
    "unlicense"
).split()


def load_context(revision: str) -> dict[str, Any]:
    """Return what the files of a revision say of its model, as the template takes it.

    Raises `InputError` if the revision is unknown, if a file is missing or broken, or if the
    results are not those of its parameters, its data card or its checkpoint.
    """
    params = load_scores(revision, "test").params  # refuses results of other parameters
    source = str(params["fetch.source"])
    paths = [METRICS, COUNTS, CLASSES, CALIBRATION]
    if source.endswith(".yaml"):
        paths.append(source)
    if revision == "workspace":  # that of another revision is found by its hash alone
        paths.append(CHECKPOINT)
    *contents, lock, requirements = read_files(revision, *paths, "dvc.lock", "requirements.txt")
    files = dict(zip(paths, contents, strict=True))
    hashes = {
        entry["path"]: str(entry.get("md5"))
        for stage in parse_yaml(lock.decode(), f"{revision}: dvc.lock")["stages"].values()
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]
    }
    for path, content in files.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != hashes.get(path):
            raise InputError(
                f"{revision}: {path} is not the file whose hash dvc.lock has; "
                "`dvc repro` there makes its results again"
            )
    card = None
    if source in files:
        card = Card.model_validate(parse_yaml(files[source].decode(), f"{revision}: {source}"))
    metrics = json.loads(files[METRICS])["evaluate"]
    calibration = rows_of_test(files[CALIBRATION])
    confidences = [int(row["n"]) * float(row["confidence"]) for row in calibration]
    return {
        "params": params,
        "source": source,
        "name": Path(source).stem,
        "title": card.title if card else Path(source).name,
        "card": card,
        "counts": json.loads(files[COUNTS])["prepare"],
        "val": metrics["val"],
        "test": metrics["test"],
        "classes": rows_of_test(files[CLASSES]),
        "calibration": calibration,
        "confidence": sum(confidences) / metrics["test"]["n"],
        "commit": commit_of_results(revision),
        "checkpoint_md5": hashes[CHECKPOINT],
        "packages": describe_versions(requirements, ("torch", "numpy")),
    }


def rows_of_test(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a CSV file that are about the test split."""
    rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return [row for row in rows if row["split"] == "test"]


def render_card(context: dict[str, Any]) -> str:
    """Return a model card as Markdown; all texts in it are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda text: text if isinstance(text, Markup) else escape_markdown(str(text)),
    )
    environment.filters |= {
        "count": lambda number: f"{int(number):,}",
        "identifier": identifier,
        "json": lambda value: json.dumps(value, default=str),
        "hub_licence": hub_licence,
        "percent": percent,
        "shell": lambda text: Markup(printable(shlex.quote(text))),
        "wilson": with_interval,
        # A text in quotes is a text in YAML, too, whatever is in it.
        "yaml": lambda text: Markup(json.dumps(printable(text), ensure_ascii=False)),
    }
    return environment.get_template("card.md.jinja").render(context)


def hub_licence(licence: str) -> dict[str, str]:
    """Return the metadata of a licence; none if it is not stated."""
    if not licence.strip():
        return {}
    if identifier(licence) in LICENCES:
        return {"license": identifier(licence)}
    return {"license": "other", "license_name": identifier(licence) or "see-below"}


def identifier(text: str) -> str:
    """Return a text as hubs spell identifiers: `CC BY 4.0` is `cc-by-4.0`."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def percent(fraction: float | str) -> str:
    """Return a fraction in percent; a class without images has none."""
    return "none" if fraction == "" else f"{100 * float(fraction):.2f}"


def with_interval(fraction: float | str, n: float | str) -> str:
    """Return a fraction of n images in percent, with its 95 % Wilson interval."""
    if fraction == "" or int(n) == 0:
        return "no images"
    low, high = wilson_interval(round(float(fraction) * int(n)), int(n))
    return f"{percent(fraction)} ({percent(low)} to {percent(high)})"


def main(args: argparse.Namespace) -> None:
    try:
        context = load_context(args.revision)
        card = render_card(context)
    except MALFORMED as error:
        raise InputError(
            f"{args.revision}: its results have another form than this version reads ({error!r}); "
            "`dvc repro` there makes them again"
        ) from None
    write_bytes(args.output, card.encode())
    commit = context["commit"] or "none yet, because the results are not committed"
    print(shorten(printable(f"{args.output}: written; the commit that it names: {commit}")))
