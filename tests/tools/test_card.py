"""The model card: its metadata, its figures, its bytes, and what it refuses."""

import hashlib
import math
import re
import shutil
import statistics
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from stages.datasets.cards import read_card
from tests.helpers.project import ROOT, STAGES, Project
from tests.helpers.shapes import make_shapes
from tools.card import hub_licence

CARD = "metrics/model-card.md"
CHECKPOINT = "data/checkpoints/model.safetensors"

# What a hub allows: https://github.com/huggingface/hub-docs/blob/main/modelcard.md and, of the
# licences, https://huggingface.co/docs/hub/repositories-licenses
FIELDS = {
    *"language license license_name license_link library_name pipeline_tag tags datasets".split(),
    *"metrics base_model model-index".split(),
}
LICENCES = {
    "digits-8x8": "cc-by-4.0",
    "fashion-mnist": "mit",
    "kmnist": "cc-by-sa-4.0",
    "mnist": "cc-by-sa-3.0",
    "mnist-5k": "cc-by-sa-3.0",
    "qmnist": "bsd-3-clause",
}


def write_card(project: Project, *arguments: str) -> str:
    project.run("python", "-m", "tools", "card", *arguments)
    return (project.path / CARD).read_text(encoding="utf-8")


def metadata_of(card: str) -> dict[str, Any]:
    """Return the metadata of a card, as a hub finds them, after a check of each field."""
    match = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert match
    metadata: dict[str, Any] = yaml.safe_load(match[1])
    assert set(metadata) <= FIELDS
    assert metadata["library_name"] == "pytorch"
    assert metadata["pipeline_tag"] == "image-classification"
    for name in ("tags", "datasets", "metrics"):
        assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*", one) for one in metadata[name])
    [model] = metadata["model-index"]
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", model["name"])
    [result] = model["results"]
    assert result["task"]["type"] == metadata["pipeline_tag"]
    assert result["dataset"]["type"] in metadata["datasets"]
    assert isinstance(result["dataset"]["name"], str)
    assert result["dataset"]["split"] == "test"
    [metric] = result["metrics"]
    assert metric["type"] in metadata["metrics"]
    assert 0 <= metric["value"] <= 1
    return metadata


def cells(card: str, name: str) -> list[str]:
    """Return the cells of the only row of a card's tables that begins with `name`."""
    [row] = re.findall(rf"^\| {re.escape(name)} +\|(.*)\|$", card, re.MULTILINE)
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)]


def percent(correct: int, n: int) -> str:
    """Return a share with its Wilson interval, by the formula of Wilson 1927."""
    z, share = statistics.NormalDist().inv_cdf(0.975), correct / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (min(1, max(0, centre + side * half)) for side in (-1, 1))
    return f"{100 * share:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def test_the_figures_are_those_of_the_predictions(project: Project) -> None:
    card = write_card(project)
    scores = pd.read_csv(project.path / "metrics/scores.csv", dtype={"label": str})
    of_splits = [scores[scores["split"] == split] for split in ("val", "test")]
    assert cells(card, "images") == ["500", "2,500"]
    right = [int(of["accuracy.0"].sum()) for of in of_splits]
    assert cells(card, "accuracy, % (95 % CI)") == [
        percent(count, len(of)) for count, of in zip(right, of_splits, strict=True)
    ]
    accuracies = [[of[f"accuracy.{number}"].mean() for number in range(5)] for of in of_splits]
    assert cells(card, "accuracy of 5 seeds, %, mean ± sd") == [
        f"{100 * statistics.mean(own):.2f} ± {100 * statistics.stdev(own):.2f}"
        for own in accuracies
    ]
    table = pd.read_csv(project.path / "metrics/predictions.csv", dtype=str)
    test = table[table["split"] == "test"]
    for digit in "0123456789":
        own, answers = test[test["label"] == digit], test[test["predicted"] == digit]
        hits = int((own["predicted"] == digit).sum())
        precision = f"{100 * hits / len(answers):.2f}"
        assert cells(card, digit) == ["200", "50", "250", percent(hits, 250), precision]
    # The calibration by the logits themselves.
    logits = load_file(project.path / "data/logits/test.safetensors")["logits"][0]
    confidence = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)
    assert f"On test its mean is {100 * confidence.mean():.2f} %" in card
    assert "right more often than its confidence says" in card
    sure = (confidence >= 9 / 15) & (confidence < 10 / 15)
    count, mean = int(sure.sum()), f"{100 * confidence[sure].mean():.2f}"
    hits = int(of_splits[1]["accuracy.0"].to_numpy()[sure].sum())
    assert f"| {mean} | {count} | {percent(hits, count)} |" in card
    [metric] = metadata_of(card)["model-index"][0]["results"][0]["metrics"]
    assert metric["value"] == right[1] / 2_500
    assert re.search(r"correctly \(95 % confidence interval 79\.99 to 83\.03 %\)", card)


def test_data_model_and_all_settings_are_in_it(small_project: Project) -> None:
    card = write_card(small_project)
    metadata = metadata_of(card)
    assert metadata["license"] == "cc-by-sa-3.0"
    assert metadata["datasets"] == ["mnist-5k"]
    assert metadata["model-index"][0]["name"] == "mnist-5k-linear"
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == "5,000 digits of MNIST"
    assert cells(card, "licence") == ["CC BY-SA 3.0"]
    assert "http://yann.lecun.com/exdb/mnist/" in cells(card, "source")[0]
    assert cells(card, "train images") == ["300"]
    assert "a box of 20 x 20 pixels" in card
    assert f"among them torch {version('torch')}, numpy {version('numpy')}." in card
    params = yaml.safe_load((small_project.path / "params.yaml").read_text())
    for section, values in params.items():
        for name, value in values.items():
            assert [yaml.safe_load(cells(card, f"{section}.{name}")[0])] == [value]


@pytest.mark.slow
def test_its_bytes_depend_on_the_results_alone(small_project: Project, tmp_path: Path) -> None:
    card = write_card(small_project)
    commit = small_project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert f"git checkout {commit}\n" in card
    assert str(tmp_path) not in card
    assert write_card(small_project, "HEAD") == card
    # Not on a later commit of something else, such as of the card itself.
    small_project.commit("A model card")
    other = Project(shutil.copytree(small_project.path, tmp_path / "another/folder"))
    other.env |= {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    assert write_card(other) == card
    assert other.status() == ""
    # The pipeline leaves it alone.
    assert other.ran("repro", "--force", "evaluate") == STAGES
    assert other.status() == ""
    other.run("dvc", "exp", "run", "-n", "other", "-S", "train.lr=0.02")
    assert (other.path / CARD).read_text(encoding="utf-8") == card
    # The results of now are not committed; those of the experiment are.
    uncommitted, experiment = write_card(other), write_card(other, "other")
    assert "No commit has these results yet." in uncommitted
    [sha] = other.run("dvc", "exp", "list", "--sha-only").stdout.split()
    assert f"git checkout {sha}\n" in experiment
    assert cells(uncommitted, "train.lr") == cells(experiment, "train.lr") == ["0.02"]
    assert write_card(other, "HEAD") == card


@pytest.mark.slow
def test_its_commands_give_the_same_weights(small_project: Project, tmp_path: Path) -> None:
    card = write_card(small_project)
    small_project.edit("README.md", "# Handwritten", "# Some handwritten")
    small_project.commit("Later")
    small_project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    [block] = re.findall(r"```sh\n(.*?)```", card, re.DOTALL)
    assert "make repro\n" in block
    # make would install the packages again.
    done = clone.run("bash", "-euc", block.replace("make repro", "dvc repro"))
    assert done.stdout.endswith(f"{CHECKPOINT}: OK\n")
    assert clone.status() == ""


@pytest.mark.slow
def test_one_model_has_no_spread(small_project: Project) -> None:
    small_project.set_params("train.model=mlp", "train.width=16", "train.replicas=1")
    small_project.run("dvc", "repro")
    small_project.commit("Another model")
    card = write_card(small_project)
    assert metadata_of(card)["tags"][-1] == "mlp"
    assert "a hidden layer of 16 units" in card
    assert "±" not in card
    assert "ensemble" not in card
    assert "it is unknown how much another seed would change" in card


@pytest.mark.slow
def test_pictures_have_no_licence(small_project: Project) -> None:
    make_shapes(small_project.path / "data/my | pictures", count=12)
    small_project.run("dvc", "add", "data/my | pictures")
    small_project.set_params(
        'fetch.source="data/my',  # the rest follows
        "fetch.size=8",
        "fetch.mode=rgb",
        "prepare.train_size=rest",
        "prepare.val_size=0.25",
        "train.model=cnn",
        "train.width=2",
    )
    small_project.edit("params.yaml", 'source: "data/my ', 'source: "data/my | pictures" ')
    small_project.run("dvc", "repro")
    small_project.commit("Our pictures")
    card = write_card(small_project)
    metadata = metadata_of(card)
    assert "license" not in metadata
    assert metadata["datasets"] == ["imagefolder"]
    assert metadata["model-index"][0]["results"][0]["dataset"]["name"] == "my | pictures"
    assert cells(card, "licence") == cells(card, "source") == ["not stated"]
    assert "licence in the metadata" not in card
    assert cells(card, "title") == [r"my \| pictures"]
    assert cells(card, "form") == ["colour, 8 x 8 pixels, uint8 (3, 8, 8)"]
    assert "```sh\ndvc pull 'data/my | pictures'\n```\n" in card
    assert len(cells(card, "triangle")) == 5


@pytest.mark.slow
def test_texts_of_a_data_card_break_neither_yaml_nor_markdown(small_project: Project) -> None:
    hostile = "---\nlicense: mit\n--- # | <img src=x> [a](b) `c` \x1b[31m\u202e: {{ \"'"
    values = yaml.safe_load((ROOT / "sources/mnist-5k.yaml").read_text())
    values |= {"title": hostile, "source": hostile, "licence": f"Own {hostile}"}
    names = ["a|b", "<i>", "`", "---", "# x", "[y](z)", "*", "7", "\\", "ü"]
    text = yaml.safe_dump({**values, "classes": names})
    (small_project.path / "sources/own.yaml").write_text(text)
    small_project.set_params("fetch.source=sources/own.yaml")
    small_project.run("dvc", "repro")
    small_project.commit("Our own card")
    card = write_card(small_project)
    metadata = metadata_of(card)
    assert metadata["license"] == "other"
    assert metadata["license_name"].startswith("own-license-mit-")
    assert metadata["datasets"] == ["own"]
    text = card.partition("\n---\n")[2]
    assert "\n---" not in text
    assert not re.search(r"(?<!\\)<img|(?<!\\)<i>|(?<!\\)\]\(", text)
    assert not re.search(r"[\x1b\u202e]", card)
    for name in names:
        escaped = re.sub(r"[\\`*\[\]<>|]", r"\\\g<0>", name)
        assert len(cells(card, escaped)) == 5


def test_the_licence_of_each_data_card_has_an_identifier() -> None:
    cards = {path.stem: read_card(path) for path in (ROOT / "sources").glob("*.yaml")}
    licences = {name: hub_licence(card.licence) for name, card in cards.items()}
    assert {name: fields["license"] for name, fields in licences.items()} == LICENCES
    assert hub_licence("非公開") == {"license": "other", "license_name": "see-below"}
    assert hub_licence("  ") == {}


def relock(project: Project, path: str, content: str) -> None:
    """Write a file, and its hash into dvc.lock, as somebody else may have done on a branch."""
    old, new = (project.path / path).read_bytes(), content.encode()
    (project.path / path).write_bytes(new)
    before, after = (hashlib.md5(text, usedforsecurity=False).hexdigest() for text in (old, new))
    lock = project.path / "dvc.lock"
    lock.write_text(lock.read_text().replace(before, after))


def edit_metrics(old: str, new: str) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        text = (project.path / "metrics/evaluate.json").read_text()
        assert re.search(old, text)
        relock(project, "metrics/evaluate.json", re.sub(old, new, text))

    return edit


def shell(command: str) -> Callable[[Project], None]:
    def change(project: Project) -> None:
        project.run("bash", "-euc", command)

    return change


REFUSED = {
    "unknown": (shell("true"), ["nowhere"], "nowhere: no commit, branch, tag or experiment has"),
    "no results": (
        shell("git rm -q --cached metrics/evaluate.json && git commit -qm x"),
        ["HEAD"],
        "HEAD: metrics/evaluate.json is not there; `dvc pull` gets",
    ),
    "parameters": (
        lambda project: project.set_params("train.lr=0.02"),
        [],
        "workspace: params.yaml has another train.lr than its results were made with; `dvc repro`",
    ),
    "data card": (
        shell("sed -i s/5,000/5,001/ sources/mnist-5k.yaml && git commit -qam x"),
        ["HEAD"],
        "HEAD: sources/mnist-5k.yaml has another hash than in dvc.lock; `dvc repro` there",
    ),
    "metrics": (
        shell("sed -i '/calibration/s/0/1/' metrics/evaluate.json"),
        [],
        "workspace: metrics/evaluate.json has another hash than in dvc.lock; `dvc repro`",
    ),
    "checkpoint": (
        shell(f"rm {CHECKPOINT} && cp data/checkpoints/replicas.safetensors {CHECKPOINT}"),
        [],
        f"workspace: {CHECKPOINT} has another hash than in dvc.lock; `dvc repro`",
    ),
    "dvc commit": (
        shell(
            "sed -i 's/  model: linear/  model: mlp/; s/  width: 0/  width: 8/' params.yaml && "
            "dvc commit --force"
        ),
        [],
        f"{CHECKPOINT}: holds another model than params.yaml, though dvc.lock says otherwise",
    ),
    "another form": (
        edit_metrics('"calibration_error"', '"calibration"'),
        [],
        "workspace: its results have another form than this version reads (UndefinedError(",
    ),
    "no number": (
        edit_metrics(r'"value": [\d.]+', '"value": NaN'),
        [],
        "workspace: its results have another form than this version reads (ValueError(",
    ),
    "a huge number": (
        edit_metrics(r'"n": 2500', f'"n": 1{400 * "0"}'),
        [],
        "workspace: its results have another form than this version reads (OverflowError(",
    ),
    "nested": (
        lambda project: relock(project, "metrics/prepare.json", "[" * 100_000),
        [],
        "workspace: its results have another form than this version reads (RecursionError(",
    ),
    "other classes": (
        lambda project: relock(
            project,
            "metrics/prepare.json",
            (project.path / "metrics/prepare.json").read_text().replace('"7"', '"seven"'),
        ),
        [],
        "workspace: its results have another form than this version reads (TypeError(",
    ),
    "output is a folder": (shell("true"), ["--output", "docs"], "docs: is a link, a device, a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_in_a_sentence(small_project: Project, name: str) -> None:
    change, arguments, message = REFUSED[name]
    change(small_project)
    (small_project.path / CARD).write_text("the card before")
    done = small_project.run("python", "-m", "tools", "card", *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert (small_project.path / CARD).read_text() == "the card before"
