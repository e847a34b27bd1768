"""Write a model card: what the model of a revision is, how good it is, and where its limits are.

The card is Markdown, with the metadata at its top that model hubs read. It is about the workspace
unless a revision is named. Its bytes depend on the results alone.

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
import yaml
from jinja2 import UndefinedError
from markupsafe import Markup
from pydantic import ValidationError

from fairtrial.project.packages import describe_versions
from fairtrial.project.revisions import commit_of_results, read_files
from fairtrial.project.scores import load_scores
from fairtrial.statistics.significance import wilson_interval
from fairtrial.tables import escape_markdown
from stages.datasets.cards import Card
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError, printable, shorten
from stages.storage.files import write_bytes
from stages.storage.yaml_reader import parse_yaml

CHECKPOINT = "data/checkpoints/model.safetensors"
COUNTS, METRICS = "metrics/prepare.json", "metrics/evaluate.json"
CLASSES, CALIBRATION = "metrics/classes.csv", "metrics/calibration.csv"
SPLITS = "train", "val", "test"
PACKAGES = "torch", "numpy"  # whose versions the card names
NO_NAMES = {"recall": [""], "precision": [""]}  # columns in which an empty cell is no number
MODELS = {  # {} is the width
    "linear": ": multinomial logistic regression, one layer from all pixels to the classes",
    "mlp": ": a hidden layer of {:,} units with ReLU, then one layer to the classes",
    "cnn": ": convolutions of 3 x 3, the first with {:,} channels, then one layer to the classes",
}
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
    source = str(params.get("fetch.source"))
    has_card = source.endswith(".yaml")
    paths = [METRICS, COUNTS, CLASSES, CALIBRATION, *([source] if has_card else [])]
    if revision == "workspace":  # that of another revision is found by its hash alone
        paths.append(CHECKPOINT)
    contents = dict(zip(paths, read_files(revision, *paths), strict=True))
    lock, requirements = read_files(revision, "dvc.lock", "requirements.txt")
    hashes = {
        entry["path"]: str(entry.get("md5"))
        for stage in parse_yaml(lock.decode(), f"{revision}: dvc.lock")["stages"].values()
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]
    }
    for path, content in contents.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != hashes.get(path):
            raise InputError(
                f"{revision}: {path} is not the file whose hash dvc.lock has; "
                "`dvc repro` there makes its results again"
            )
    counts = json.loads(contents[COUNTS])["prepare"]
    metrics = json.loads(contents[METRICS])["evaluate"]
    card, info = None, info_of_pictures(params, counts)
    if has_card:
        card = parse_card(contents[source].decode(), f"{revision}: {source}")
        info = card.info
    if any({*info.classes} != {*counts[split]["classes"]} for split in SPLITS):
        raise ValueError(f"{COUNTS} has other classes than the data")
    of_class = read_table(contents[CLASSES]).set_index("class")
    bins = read_table(contents[CALIBRATION])
    return {
        "metadata": hub_metadata(params, card, info.title, metrics["test"]["accuracy"]),
        "info": info,
        "form": f"{'grey' if info.shape[0] == 1 else 'colour'}, "
        f"{info.shape[1]} x {info.shape[2]} pixels",
        "source": card.source.strip() if card else "",
        "licence": card.licence.strip() if card else "",
        "splits": SPLITS,
        "counts": counts,
        "params": params,
        "model_description": MODELS.get(str(params["train.model"]), "").format(
            params["train.width"]
        ),
        "val": metrics["val"],
        "test": metrics["test"],
        "classes": [
            {
                "name": name,
                **{split: counts[split]["classes"][name] for split in SPLITS},
                **of_class.loc[name, ["recall", "precision"]],
            }
            for name in info.classes
        ],
        "confidence": (bins["n"] * bins["confidence"]).sum() / bins["n"].sum(),
        "calibration": bins.to_dict("records"),
        "commit": commit_of_results(revision),
        "checkpoint_md5": hashes[CHECKPOINT],
        "pull": "" if card else Markup(code(f"dvc pull {printable(shlex.quote(source))}")),
        "packages": describe_versions(requirements, PACKAGES),
    }


def parse_card(text: str, name: str) -> Card:
    """Return a data card; raises `InputError` with the first problem."""
    try:
        return Card.model_validate(parse_yaml(text, name))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{name}: {place}: {problem['msg'].lower()}; correct it and `dvc repro`"
        ) from None


def info_of_pictures(params: dict[str, Any], counts: dict[str, Any]) -> DatasetInfo:
    """Return what `stages.datasets.pictures` says of pictures."""
    fetch = Fetch(**{name: params[f"fetch.{name}"] for name in Fetch.model_fields})
    classes = tuple(sorted(counts["train"]["classes"]))
    title = Path(fetch.source).name
    return DatasetInfo(title=title, shape=fetch.shape, classes=classes, style="natural")


def read_table(content: bytes) -> pd.DataFrame:
    """Return the rows of a CSV file for test; a class may be called NA or 007."""
    text = {"split": str, "class": str}
    table = pd.read_csv(io.BytesIO(content), dtype=text, keep_default_na=False, na_values=NO_NAMES)
    return table[table["split"] == "test"]


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
        "json": lambda value: json.dumps(value, default=str),
        "percent": percent,
        "wilson": with_interval,
        "mean_sd": lambda one: f"{percent(one['mean'])} ± {percent(one['sd'])}",
    }
    return environment.get_template("card.md.jinja").render(context)


def hub_metadata(
    params: dict[str, Any], card: Card | None, title: str, accuracy: dict[str, float]
) -> Markup:
    """Return the metadata for model hubs, as YAML.

    The fields are those of Hugging Face,
    https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    """
    model, source = str(params["train.model"]), Path(params["fetch.source"]).stem
    # Hubs call labelled pictures in folders by the name of the loader that reads them.
    dataset = (identifier(source) or "custom") if card else "imagefolder"
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": printable(title), "split": "test"},
        "metrics": [{"type": "accuracy", "value": float(accuracy["value"]), "name": "Accuracy"}],
    }
    fields = {
        **hub_licence(card.licence if card else ""),
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "safetensors", "dvc", identifier(model)],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [{"name": identifier(f"{source} {model}"), "results": [result]}],
    }
    return Markup(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=10_000))


def hub_licence(licence: str) -> dict[str, str]:
    """Return the fields of a licence; none if it is not stated."""
    if not licence.strip():
        return {}
    if identifier(licence) in LICENCES:
        return {"license": identifier(licence)}
    return {"license": "other", "license_name": identifier(licence) or "see-below"}


def identifier(text: str) -> str:
    """Return a text as hubs spell identifiers: `CC BY 4.0` is `cc-by-4.0`."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def percent(fraction: float | None) -> str:
    """Return a fraction in percent; a class without images has none."""
    return "none" if fraction is None or fraction != fraction else f"{100 * fraction:.2f}"


def with_interval(fraction: float | None, n: int) -> str:
    """Return a fraction of n images in percent, with its 95 % Wilson interval."""
    if not n or fraction is None:
        return "no images"
    low, high = map(percent, wilson_interval(round(fraction * n), n))
    return f"{percent(fraction)} ({low} to {high})"


def code(text: str) -> str:
    """Return a text as code, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"


def main(args: argparse.Namespace) -> None:
    try:
        context = load_context(args.revision)
        card = render_card(context)
    except (
        ArithmeticError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        UndefinedError,
    ) as e:
        raise InputError(
            f"{args.revision}: its results have another form than this version reads ({e!r}); "
            "`dvc repro` there makes them again"
        ) from None
    write_bytes(args.output, card.encode())
    commit = f"commit {context['commit']}" if context["commit"] else "results not committed yet"
    print(shorten(printable(f"{args.output}: the model of {commit}")))
