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
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup
from pydantic import ValidationError

from fairtrial.project.revisions import commit_of_results, read_files
from fairtrial.project.scores import load_scores
from fairtrial.tables import escape_markdown, refuse_other_versions
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


class CardData(NamedTuple):
    """What a model card is made of."""

    revision: str  # for messages
    info: DatasetInfo
    card: Card | None  # None: the data are pictures without a data card
    params: dict[str, Any]  # by dotted name
    counts: dict[str, Any]  # of COUNTS
    metrics: dict[str, Any]  # of METRICS
    classes: pd.DataFrame  # of CLASSES
    calibration: pd.DataFrame  # of CALIBRATION
    checkpoint_md5: str
    packages: str  # with their versions
    commit: str | None  # None: the results are not committed


def load_data(revision: str) -> CardData:
    """Return what the files of a revision say of its model.

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
    with refuse_other_versions(revision):
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
        try:
            card = None
            if has_card:
                text = contents[source].decode()
                card = Card.model_validate(parse_yaml(text, f"{revision}: {source}"))
            info = card.info if card else info_of_pictures(params, counts)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise InputError(
                f"{revision}: {source}: {place}: {problem['msg'].lower()}; correct it and "
                "`dvc repro`"
            ) from None
        if any({*info.classes} != {*counts[split]["classes"]} for split in SPLITS):
            raise ValueError(f"{COUNTS} has other classes than the data")
        return CardData(
            revision,
            info,
            card,
            params,
            counts,
            json.loads(contents[METRICS])["evaluate"],
            read_table(contents[CLASSES]),
            read_table(contents[CALIBRATION]),
            hashes[CHECKPOINT],
            pinned_packages(requirements.decode()),
            commit_of_results(revision),
        )


def read_table(content: bytes) -> pd.DataFrame:
    """Return the rows of a CSV file for test; a class may be called NA."""
    table = pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values={"precision": [""]})
    return table[table["split"] == "test"]


def info_of_pictures(params: dict[str, Any], counts: dict[str, Any]) -> DatasetInfo:
    """Return what `stages.datasets.pictures` says of pictures."""
    fetch = Fetch(**{name: params[f"fetch.{name}"] for name in Fetch.model_fields})
    classes = tuple(counts["train"]["classes"])
    title = Path(fetch.source).name
    return DatasetInfo(title=title, shape=fetch.shape, classes=classes, style="natural")


def pinned_packages(requirements: str) -> str:
    """Return the versions that a requirements.txt pins of the packages that decide the bits."""
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements, re.MULTILINE))
    return ", ".join(f"{name} {pins[name]}" for name in PACKAGES if name in pins)


def render_card(data: CardData) -> str:
    """Return a model card as Markdown; all texts in it are escaped.

    Raises `InputError` if the results have another form than those of this version.
    """
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
        "interval": lambda one: f"{percent(one['value'])} ({percent(one['low'])} to "
        f"{percent(one['high'])})",
        "mean_sd": lambda one: f"{percent(one['mean'])} ± {percent(one['sd'])}",
    }
    info, card = data.info, data.card
    source = str(data.params["fetch.source"])
    with refuse_other_versions(data.revision):
        of_class = data.classes.set_index("class")
        classes = [
            {
                "name": name,
                **{split: data.counts[split]["classes"][name] for split in SPLITS},
                **of_class.loc[name, ["recall", "precision"]],
            }
            for name in info.classes
        ]
        bins = data.calibration
        metadata = yaml.safe_dump(
            hub_metadata(data), sort_keys=False, allow_unicode=True, width=10_000
        )
        return environment.get_template("card.md.jinja").render(
            metadata=Markup(metadata),
            info=info,
            form=f"{'grey' if info.shape[0] == 1 else 'colour'}, "
            f"{info.shape[1]} x {info.shape[2]} pixels",
            source=card.source.strip() if card else "",
            licence=card.licence.strip() if card else "",
            splits=SPLITS,
            counts=data.counts,
            params=data.params,
            model_description=MODELS.get(str(data.params["train.model"]), "").format(
                data.params["train.width"]
            ),
            val=data.metrics["val"],
            test=data.metrics["test"],
            classes=classes,
            confidence=(bins["n"] * bins["confidence"]).sum() / bins["n"].sum(),
            calibration=bins.to_dict("records"),
            commit=data.commit,
            checkpoint_md5=data.checkpoint_md5,
            pull="" if card else Markup(code(f"dvc pull {printable(shlex.quote(source))}")),
            packages=data.packages,
        )


def hub_metadata(data: CardData) -> dict[str, Any]:
    """Return the metadata for model hubs.

    The fields are those of Hugging Face,
    https://github.com/huggingface/hub-docs/blob/main/modelcard.md
    """
    model, source = str(data.params["train.model"]), Path(data.params["fetch.source"]).stem
    # Hubs call labelled pictures in folders by the name of the loader that reads them.
    dataset = (identifier(source) or "custom") if data.card else "imagefolder"
    accuracy = float(data.metrics["test"]["accuracy"]["value"])
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": printable(data.info.title), "split": "test"},
        "metrics": [{"type": "accuracy", "value": accuracy, "name": "Accuracy"}],
    }
    return {
        **hub_licence(data.card.licence if data.card else ""),
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "safetensors", "dvc", identifier(model)],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [{"name": identifier(f"{source} {model}"), "results": [result]}],
    }


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


def code(text: str) -> str:
    """Return a text as code, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools card", description="Write a model card.")
    parser.add_argument(
        "revision",
        metavar="REV",
        nargs="?",
        default="workspace",
        help="a commit, branch, tag, experiment or `workspace` (default: %(default)s)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("metrics/model-card.md"), help="(%(default)s)"
    )
    args = parser.parse_args()
    data = load_data(args.revision)
    write_bytes(args.output, render_card(data).encode())
    commit = f"commit {data.commit}" if data.commit else "results that no commit has yet"
    print(shorten(printable(f"{args.output}: the model of {commit}")))
