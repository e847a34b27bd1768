"""Model cards: Markdown about the model of a revision, with the metadata that model hubs read.

The fields of the metadata are those of Hugging Face,
https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from pydantic import ValidationError

from stages.datasets.cards import Card
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError, printable
from stages.storage.yaml_reader import parse_yaml
from fairtrial.project.results import CHECKPOINT, METRICS, PREDICTIONS, load_predictions, load_results
from fairtrial.project.revisions import commit_of_results, read_files
from fairtrial.statistics.significance import wilson_interval
from fairtrial.tables import (
    PACKAGES,
    escape_markdown,
    refuse_other_versions,
    to_markdown,
)
from fairtrial.cluster.worker import pinned_versions

COUNTS = "metrics/prepare.json"
SPLITS = "train", "val", "test"
MAX_LISTED = 30  # classes in a cell; if there are more, the table by class alone has them
CI = "% (95 % CI)"
MODELS = {  # {} is the width
    "linear": "multinomial logistic regression, one layer from all pixels to the classes",
    "mlp": "a hidden layer of {:,} units with ReLU, then one layer to the classes",
    "cnn": "convolutions of 3 x 3, of which the first has {:,} channels, then one layer to the "
    "classes",
}
# Those that data have, of the licences that hubs know:
# https://huggingface.co/docs/hub/repositories-licenses
LICENCES = (
    "apache-2.0 bsd-2-clause bsd-3-clause c-uda cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 "
    "cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 "
    "cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 gfdl gpl-3.0 mit odbl odc-by pddl "
    "unlicense"
).split()


class Facts(NamedTuple):
    """What a model card is made of."""

    revision: str  # for messages
    info: DatasetInfo
    card: Card | None  # None: the data are pictures without a data card
    params: dict[str, Any]  # by dotted name
    counts: dict[str, Any]  # metrics/prepare.json
    metrics: dict[str, Any]  # metrics/evaluate.json
    predictions: pd.DataFrame  # as `parse_predictions` returns them
    checkpoint_md5: str
    packages: str  # with their versions
    commit: str | None  # None: the results are not committed


def load_facts(revision: str) -> Facts:
    """Return what the files of a revision say of its model.

    Raises `InputError` if the revision is unknown, if a file is missing or broken, or if the
    results are not those of its parameters, its data card or its checkpoint.
    """
    params = load_results(revision, "test").params  # refuses results of other parameters
    source = str(params.get("fetch.source"))
    paths = [METRICS, COUNTS, PREDICTIONS]
    if has_card := source.endswith(".yaml"):
        paths.append(source)
    if revision == "workspace":  # that of another revision is found by its hash alone
        paths.append(CHECKPOINT)
    contents = dict(zip(paths, read_files(revision, *paths), strict=True))
    lock, requirements = read_files(revision, "dvc.lock", "requirements.txt")
    with refuse_other_versions(revision):
        hashes = _hashes(parse_yaml(lock.decode(), f"{revision}: dvc.lock"))
        for path, content in contents.items():
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != hashes[path]:
                raise InputError(
                    f"{revision}: {path} is not the file whose hash dvc.lock has; "
                    "`dvc repro` there makes its results again"
                )
        metrics, counts = (json.loads(contents[path]) for path in (METRICS, COUNTS))
        try:
            card = None
            if has_card:
                text = contents[source].decode()
                card = Card.model_validate(parse_yaml(text, f"{revision}: {source}"))
            info = card.info if card else _info_of_pictures(params, counts)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, problem["loc"]))
            raise InputError(
                f"{revision}: {source}: {place}: {problem['msg'].lower()}; correct it and "
                "`dvc repro`"
            ) from None
        if any({*info.classes} != {*counts[split]["classes"]} for split in SPLITS):
            raise ValueError(f"{COUNTS} has other classes than the data")
        versions = pinned_versions(requirements.decode())
        return Facts(
            revision,
            info,
            card,
            params,
            counts,
            metrics,
            load_predictions(revision)[0],
            hashes[CHECKPOINT],
            ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions),
            commit_of_results(revision),
        )


def _hashes(lock: dict[str, Any]) -> dict[str, str]:
    """Return the MD5 that dvc.lock has of each file."""
    entries = [
        entry
        for stage in lock["stages"].values()
        for entry in [*stage.get("deps", []), *stage.get("outs", [])]
    ]
    return {entry["path"]: str(entry.get("md5")) for entry in entries}


def _info_of_pictures(params: dict[str, Any], counts: dict[str, Any]) -> DatasetInfo:
    """Return what `stages.datasets.pictures` says of pictures, whose classes are sorted."""
    fetch = Fetch(**{name: params[f"fetch.{name}"] for name in Fetch.model_fields})
    classes = tuple(sorted(counts["train"]["classes"]))
    title = Path(fetch.source).name
    return DatasetInfo(title=title, shape=fetch.shape, classes=classes, style="natural")


def render_card(facts: Facts) -> str:
    """Return a model card as Markdown.

    Raises `InputError` if the results have another form than those of this version.
    """
    with refuse_other_versions(facts.revision):
        metadata = yaml.safe_dump(
            hub_metadata(facts), sort_keys=False, allow_unicode=True, width=10_000
        )
        parts = [
            f"---\n{metadata}---",
            f"# Image classifier: {escape_markdown(facts.info.title)}",
            _summary(facts),
            *_data(facts),
            *_model(facts),
            *_accuracy(facts),
            *_calibration(facts),
            *_reproduction(facts),
            *_limits(facts),
        ]
    return "\n\n".join(parts) + "\n"


def hub_metadata(facts: Facts) -> dict[str, Any]:
    """Return the metadata for model hubs."""
    model, source = str(facts.params["train.model"]), Path(facts.params["fetch.source"]).stem
    # Hubs call labelled pictures in folders by the name of the loader that reads them.
    dataset = (_identifier(source) or "custom") if facts.card else "imagefolder"
    accuracy = float(facts.metrics["test"]["accuracy"]["value"])
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": printable(facts.info.title), "split": "test"},
        "metrics": [{"type": "accuracy", "value": accuracy, "name": "Accuracy"}],
    }
    return {
        **_hub_licence(facts.card.licence if facts.card else ""),
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["pytorch", "safetensors", "dvc", _identifier(model)],
        "datasets": [dataset],
        "metrics": ["accuracy"],
        "model-index": [{"name": _identifier(f"{source} {model}"), "results": [result]}],
    }


def _hub_licence(licence: str) -> dict[str, str]:
    """Return the fields of a licence; none if it is not stated."""
    if not licence.strip():
        return {}
    identifier = _identifier(licence)
    if identifier in LICENCES:
        return {"license": identifier}
    return {"license": "other", "license_name": identifier or "see-below"}


def _identifier(text: str) -> str:
    """Return a text as hubs spell identifiers: `CC BY 4.0` is `cc-by-4.0`."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _summary(facts: Facts) -> str:
    accuracy, n = facts.metrics["test"]["accuracy"]["value"], facts.metrics["test"]["n"]
    low, high = map(_percent, wilson_interval(accuracy * n, n))
    return (
        f"This model assigns an image ({_form(facts.info)}) to one of "
        f"{len(facts.info.classes):,} classes. It classifies {_percent(accuracy)} % of {n:,} test "
        f"images correctly (95 % confidence interval {low} to {high} %)."
    )


def _data(facts: Facts) -> list[str]:
    info, card = facts.info, facts.card
    listed = f": {', '.join(info.classes)}" if len(info.classes) <= MAX_LISTED else ""
    source, licence = (card.source.strip(), card.licence.strip()) if card else ("", "")
    rows = [
        ("title", info.title),
        ("source", source or "not stated"),
        ("licence", licence or "not stated"),
        ("form", f"{_form(info)}, uint8 {info.shape}"),
        ("classes", f"{len(info.classes):,}{listed}"),
        *((f"{split} images", f"{facts.counts[split]['n']:,}") for split in SPLITS),
    ]
    parts = [
        "## Data",
        _table(("property", "value"), rows),
        "The model was trained on the train images. The val images are for choosing settings, and "
        "the test images for measuring the result.",
    ]
    if licence:
        parts.append(
            "The licence in the metadata of this card is that of the data. No other is stated for "
            "the weights."
        )
    return parts


def _model(facts: Facts) -> list[str]:
    model = str(facts.params["train.model"])
    description = MODELS.get(model, "").format(facts.params["train.width"])
    rows = [
        (name, value if isinstance(value, str) else json.dumps(value, default=str))
        for name, value in facts.params.items()
    ]
    return [
        "## Model and settings",
        f"The model is {escape_markdown(model)}{description and ': '}{description}. These are all "
        "settings of the run; `params.yaml` says what each of them means.",
        _table(("parameter", "value"), rows),
    ]


def _accuracy(facts: Facts) -> list[str]:
    splits, test = [facts.metrics["val"], facts.metrics["test"]], facts.metrics["test"]
    rows = [
        ("images", *(f"{split['n']:,}" for split in splits)),
        (
            f"accuracy, {CI}",
            *(_with_interval(split["accuracy"]["value"], split["n"]) for split in splits),
        ),
        ("balanced accuracy, %", *(_percent(split["balanced_accuracy"]) for split in splits)),
        ("cross-entropy", *(f"{split['cross_entropy']:.4f}" for split in splits)),
    ]
    replicas = test["replicas"]["n"]
    if replicas > 1:
        of_seeds = [split["replicas"] for split in splits]
        rows += [
            (
                f"accuracy of {replicas} seeds, %, mean ± sd",
                *(f"{_percent(one['mean'])} ± {_percent(one['sd'])}" for one in of_seeds),
            ),
            (
                f"accuracy of their ensemble, {CI}",
                *(_with_interval(split["ensemble"], split["n"]) for split in splits),
            ),
        ]
        seeds = (
            f"The model is the first of {replicas} that were trained with the same settings and "
            "other seeds. The standard deviation (sd) of their accuracies shows what the seed "
            "changes. Their ensemble predicts by the mean of their probabilities."
        )
    else:
        seeds = "One model was trained, so it is unknown how much another seed would change."
    columns = ["class", *(f"{split} images" for split in SPLITS), f"recall, {CI}", "precision, %"]
    of_classes = [
        (
            name,
            *(f"{facts.counts[split]['classes'][name]:,}" for split in SPLITS),
            _with_interval(test["recall"][name], facts.counts["test"]["classes"][name]),
            _percent(test["precision"][name]),
        )
        for name in facts.info.classes
    ]
    return [
        "## Accuracy",
        _table(("metric", "val", "test"), rows),
        "The 95 % confidence intervals (CI) are Wilson's. They allow for the choice of the images, "
        "and not for the seed of the training. The balanced accuracy is the mean of the recalls of "
        "the classes. The cross-entropy is the mean of -ln(p), where p is the probability of the "
        "right class.",
        seeds,
        "By class, on test: the recall is the share of the images of a class that the model "
        "assigns to it, and the precision is the share of the images assigned to a class that are "
        "of it.",
        _table(columns, of_classes),
    ]


def _calibration(facts: Facts) -> list[str]:
    test, table = facts.metrics["test"], facts.predictions
    table = table[table["split"] == "test"]
    mean, accuracy = float(table["confidence"].mean()), test["accuracy"]["value"]
    low, high = wilson_interval(accuracy * test["n"], test["n"])
    if mean < low:
        verdict = "On average the model is right more often than its confidence says."
    elif mean > high:
        verdict = "On average the model is right less often than its confidence says."
    else:
        verdict = (
            "The mean is within the 95 % confidence interval of the accuracy, so that no "
            "difference is shown."
        )
    correct = table["label"] == table["predicted"]
    bins = (10 * table["confidence"]).astype(int).clip(upper=9)
    rows = [
        (
            f"{10 * number} to {10 * number + 10}",
            f"{len(group):,}",
            _percent(table["confidence"][group.index].mean()),
            _with_interval(group.mean(), len(group)),
        )
        for number, group in correct.groupby(bins)
    ]
    return [
        "## Calibration",
        "The confidence is the probability that the model gives to its prediction. On test its "
        f"mean is {_percent(mean)} %, and the accuracy is {_percent(accuracy)} %. {verdict} The "
        "expected calibration error is the mean distance between the two in "
        f"{facts.params['evaluate.calibration_bins']:,} bins of the confidence, which is "
        f"{test['calibration_error']:.4f}. In ten bins:",
        _table(("confidence, %", "test images", "mean confidence, %", f"accuracy, {CI}"), rows),
    ]


def _reproduction(facts: Facts) -> list[str]:
    if facts.commit:
        where = "In a clone of the project that has this commit, under Linux:"
        commands = [f"git checkout {facts.commit}", "make repro"]
    else:
        where = (
            "No commit has these results yet. Commit them and write this card again, and it names "
            "the commit. Until then, in the folder that has them:"
        )
        commands = ["make repro"]
    commands.append(f'echo "{facts.checkpoint_md5}  {CHECKPOINT}" | md5sum --check')
    parts = ["## How to reproduce it", where, "\n".join(["```sh", *commands, "```"])]
    if not facts.card:
        source = printable(shlex.quote(str(facts.params["fetch.source"])))
        parts.append(
            "`make repro` needs the pictures. If they were shared by DVC, "
            f"{_code(f'dvc pull {source}')} brings them."
        )
    if facts.params["train.device"] != "cpu":
        bits = "The model was trained on a GPU, and where else its bits come out was not tested."
    elif facts.params["train.precision"] == "exact":
        bits = (
            "This is so on any x86-64 CPU with AVX2 and on 64-bit ARM, with any number of threads."
        )
    else:
        bits = (
            "This is so only on the same kind of CPU with the same number of threads, because "
            "`train.precision` is `float32`. On others the results of single operations differ in "
            "their last digits, and training amplifies the differences."
        )
    parts.append(
        f"The last command says OK if the weights are the same to the bit. {bits} The MD5 is that "
        "of `dvc.lock`, which has those of all data and results. The packages have to be those of "
        f"`requirements.txt`, among them {escape_markdown(facts.packages)}."
    )
    return parts


def _limits(facts: Facts) -> list[str]:
    info, size = facts.info, facts.info.shape[1]
    if info.ink_box:
        preparation = (
            "The drawing is cut out of its even background, becomes light on black, is scaled to "
            f"fit a box of {info.ink_box} x {info.ink_box} pixels, and is moved so that its centre "
            "of mass is the middle of the image."
        )
    else:
        preparation = (
            f"The picture is scaled to fit {size} x {size} pixels with its aspect kept, and the "
            "rest of the square gets the median colour of its border."
        )
        if info.style == "light_on_black":
            preparation += " A picture with a light border is then inverted."
    trained, tested = (facts.counts[split]["n"] for split in ("train", "test"))
    lines = [
        f"The model was trained on {trained:,} images, and tested on {tested:,} others of the same "
        "data set. It was not tested on pictures of another origin, and may be worse on them.",
        "It has no answer for “none of these”. Shown something that belongs to none of its "
        f"{len(info.classes):,} classes, it still names one of them, perhaps with a high "
        "confidence.",
        f"It needs images in the form of its training images. {preparation} "
        "`python -m tools.predict FILE` does this to a picture before it classifies it.",
        "If the settings were chosen by the accuracy on val, that accuracy is too high on average. "
        "If they were chosen by that on test, so is that on test.",
        "It is the result of an experiment. Nobody has examined whether it is fit for a particular "
        "purpose.",
    ]
    return ["## Limits", "\n".join(f"- {line}" for line in lines)]


def _form(info: DatasetInfo) -> str:
    channels, height, width = info.shape
    return f"{'grey' if channels == 1 else 'colour'}, {height} x {width} pixels"


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    return to_markdown([pd.DataFrame(rows, columns=list(columns))], []).strip()


def _with_interval(share: float | None, n: int) -> str:
    """Return a share of n images in percent, with its 95 % interval; None is one of no images."""
    if share is None:
        return "no images"
    low, high = map(_percent, wilson_interval(share * n, n))
    return f"{_percent(share)} ({low} to {high})"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2f}"


def _code(text: str) -> str:
    """Return a text as code, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"
