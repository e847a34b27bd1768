"""Write a model card: what the model of a revision is, how good it is, and where its limits are.

The card is Markdown. At its top it has the metadata that model hubs read. Its bytes depend on the
results alone.

    python -m tools card
    python -m tools card HEAD~1 --output card.md
"""

import argparse
import hashlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from jinja2 import UndefinedError
from markupsafe import Markup

from fairtrial.project.packages import describe_versions
from fairtrial.project.revisions import commit_of_results, read_files
from fairtrial.project.scores import load_scores
from fairtrial.statistics.significance import wilson_interval
from fairtrial.tables import escape_markdown
from stages.datasets.cards import Card
from stages.storage.errors import InputError, printable, shorten
from stages.storage.files import write_bytes
from stages.storage.tensors import read_metadata
from stages.storage.yaml_reader import parse_yaml

CHECKPOINT = "data/checkpoints/model.safetensors"
COUNTS, METRICS = "metrics/prepare.json", "metrics/evaluate.json"
CLASSES, CALIBRATION = "metrics/classes.csv", "metrics/calibration.csv"
SHOWN = "accuracy", "cross_entropy"  # of the metrics, by the template itself
REMEDY = "`dvc repro` there makes its results again"
# What a file of another form raises somewhere between its parser and the template.
MALFORMED = ArithmeticError, LookupError, RecursionError, TypeError, ValueError, UndefinedError
# The usual licences of data, of those that https://huggingface.co/docs/hub/repositories-licenses
# lists. Any other is `other` to a hub, with its name beside it.
LICENCES = (
    "apache-2.0 bsd-3-clause cc0-1.0 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
    "cc-by-nc-4.0 cc-by-nc-sa-4.0 cdla-permissive-2.0 mit odbl odc-by pddl"
).split()


def load_context(revision: str) -> dict[str, Any]:
    """Return what the files of a revision say of its model, as the template takes it.

    Raises `InputError` if the revision is unknown, if a file is missing or broken, or if the
    results are not those of its parameters, its data card or its checkpoint.
    """
    # Which refuses results of other parameters.
    of_splits = [load_scores(revision, split) for split in ("val", "test")]
    params = of_splits[0].params
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
            raise InputError(f"{revision}: {path} has another hash than in dvc.lock; {REMEDY}")
    if revision == "workspace":
        about = read_metadata(Path(CHECKPOINT))
        if any(about.get(name) != str(params[f"train.{name}"]) for name in ("model", "width")):
            raise InputError(
                f"{CHECKPOINT}: holds another model than params.yaml, though dvc.lock says "
                "otherwise, as after `dvc commit --force`; `dvc repro --force` trains it"
            )
    card = None
    if source in files:
        card = Card.model_validate(parse_yaml(files[source].decode(), f"{revision}: {source}"))
    return {
        "params": params,
        "source": Path(source),
        "card": card,
        "counts": json.loads(files[COUNTS])["prepare"],
        "metrics": json.loads(files[METRICS])["evaluate"],
        # Those that a project has added to the contract in its dvc.yaml.
        "added": {
            f"{name} {metric.unit}".strip(): [
                metric.text(of.scores[name][0].mean()) for of in of_splits
            ]
            for name, metric in of_splits[0].contract.metrics.items()
            if name not in SHOWN
        },
        "classes": rows_of_test(files[CLASSES]),
        "calibration": rows_of_test(files[CALIBRATION]),
        "commit": commit_of_results(revision),
        "checkpoint_md5": hashes[CHECKPOINT],
        "packages": describe_versions(requirements, ("torch", "numpy")),
    }


def rows_of_test(content: bytes) -> Any:
    """Return the rows of a CSV file for test, each a dictionary."""
    # A class may be called 007 or NA; an empty cell is no number.
    options = {"dtype": {"class": str}, "keep_default_na": False, "na_values": [""]}
    table = pd.read_csv(io.BytesIO(content), **options)
    return table[table["split"] == "test"].to_dict("records")


def render_card(context: dict[str, Any]) -> str:
    """Return a model card as Markdown; all texts in it are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=lambda text: text if isinstance(text, Markup) else escape_markdown(str(text)),
    )
    environment.filters |= {
        "count": "{:,}".format,
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
    name = identifier(licence)
    if name in LICENCES:
        return {"license": name}
    return {"license": "other", "license_name": name or "see-below"} if licence.strip() else {}


def identifier(text: str) -> str:
    """Return a text as hubs spell identifiers: `CC BY 4.0` is `cc-by-4.0`."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def percent(fraction: float) -> str:
    """Return a fraction in percent; that of no images is NaN."""
    return f"{100 * fraction:.2f}" if fraction == fraction else "none"


def with_interval(fraction: float, n: int) -> str:
    """Return a fraction of n images in percent, with its 95 % Wilson interval."""
    if n == 0:
        return "no images"
    low, high = wilson_interval(round(fraction * n), n)
    return f"{percent(fraction)} ({percent(low)} to {percent(high)})"


def main(args: argparse.Namespace) -> None:
    try:
        card = render_card(load_context(args.revision))
    except MALFORMED as error:
        problem = f"its results have another form than this version reads ({error!r})"
        raise InputError(f"{args.revision}: {problem}; {REMEDY}") from None
    write_bytes(args.output, card.encode())
    print(shorten(printable(f"{args.output}: describes the model of {args.revision}")))
