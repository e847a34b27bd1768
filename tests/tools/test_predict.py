"""The command `python -m tools predict`."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samebits import seeded_generator
from stages.learning.models import build_model
from stages.storage.dataset_info import DatasetInfo
from stages.storage.split_files import read_split
from stages.storage.tensors import Array, write_tensors
from tests.helpers.pictures import shifted
from tests.helpers.project import Project
from tests.helpers.sources import png16

RANDOM = np.random.default_rng(0)


def classify(project: Project, *arguments: str | Path) -> str:
    return project.run("python", "-m", "tools", "predict", *map(str, arguments)).stdout


def refusal(project: Project, *arguments: str | Path) -> str:
    command = ["python", "-m", "tools", "predict", *map(str, arguments)]
    done = project.run(*command, ok=False)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.slow
def test_a_cnn_is_right_about_pictures_of_test_digits(
    project: Project, digits: tuple[Array, Array], tmp_path: Path
) -> None:
    """In a folder whose file names give the labels, and in one whose sub-folders do."""
    settings = "model=cnn width=16 optimizer=adam schedule=one_cycle replicas=1"
    for setting in settings.split():
        name, _, value = setting.partition("=")
        project.run("sed", "-i", f"s/^  {name}: [a-z0-9]*/  {name}: {value}/", "params.yaml")
    project.run("dvc", "repro", "train")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        for path in (f"names/{label}-{number}.png", f"folders/{label}/{number}.png"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shifted(image).save(tmp_path / path)
    for folder in ("names", "folders"):
        output = json.loads(classify(project, tmp_path / folder, "--json"))
        assert output["accuracy"]["n"] == len(output["pictures"]) == 200
        correct = [one["label"] == one["predicted"] for one in output["pictures"]]
        assert output["accuracy"]["value"] == np.mean(correct)
        assert np.mean(correct) >= 0.95
        table = classify(project, tmp_path / folder)
        assert f"accuracy {np.mean(correct):.1%} (95 % interval " in table
        assert len(table.splitlines()) == 203  # a header, the pictures, an empty line, accuracy


def test_one_picture_gets_a_digit_and_a_confidence(
    reproduced: Project, digits: tuple[Array, Array], tmp_path: Path
) -> None:
    path = tmp_path / "digit.png"
    shifted(digits[0][0]).save(path)
    [one] = json.loads(classify(reproduced, path, "--json"))["pictures"]
    assert (
        classify(reproduced, path)
        == f"{one['predicted']}, with a confidence of {one['confidence']:.1%}\n"
    )
    assert one["label"] is None
    probabilities = one["probabilities"]
    assert list(probabilities) == list("0123456789")
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert probabilities[one["predicted"]] == one["confidence"] == max(probabilities.values())


def test_bad_pictures_are_all_named(reproduced: Project, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (200, 180, 20)).save(tmp_path / "blank.jpg")
    noise = RANDOM.normal(128, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.new("L", (10_000, 10_000)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "larger.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "cut.png").write_bytes((reproduced.path / "metrics/samples.png").read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("not looked at")
    long = tmp_path / f"{'x' * 400}.png"
    expected = {
        "blank.jpg": "nothing is drawn on it",
        "cut.png": "not a whole picture",
        "empty.png": "not a picture; save it as PNG, JPEG,",
        "large.png": "more than 89,478,485 pixels",
        "larger.png": "more than 89,478,485 pixels",
        "noise.png": "nothing is drawn on it",
        "pipe.png": "is not a regular file",
        "text.png": "not a picture; save it as PNG, JPEG,",
        "zero.png": "is not a regular file",
        "none.png": "cannot be read (No such file or directory); name a picture",
        long.name: "cannot be read (File name too long)",
    }
    lines = refusal(reproduced, tmp_path, tmp_path / "none.png", long).splitlines()
    for line, (name, message) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{tmp_path / name}: {message}")


def test_a_file_without_a_model_is_refused(reproduced: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refusal(reproduced, tmp_path / "empty")
    assert said.startswith(f"{tmp_path / 'empty'}: no picture is in it")
    for checkpoint, message in (
        ("data/checkpoints/replicas.safetensors", "weight is F32 [4, 10, 784] instead of"),
        ("data/logits/val.safetensors", "its metadata do not describe a data set"),
        ("README.md", "not a whole tensor file"),
        ("none", "not found"),
    ):
        said = refusal(reproduced, "metrics/samples.png", "--checkpoint", checkpoint)
        assert said.startswith(f"{checkpoint}: {message}")
        assert len(said.splitlines()) == 1


def test_a_model_without_finite_logits_is_refused(
    reproduced: Project, dataset: DatasetInfo, tmp_path: Path
) -> None:
    text = dataset.model_dump_json()
    weights = {"weight": np.ones((10, 784), np.float32), "bias": np.ones(10, np.float32)}
    weights["bias"][0] = np.nan
    write_tensors(tmp_path / "nan", weights, model="linear", width="0", dataset=text)
    cnn = build_model("cnn", 1, dataset.shape, 10, seeded_generator(0, "weights")).state_dict()
    tensors = {name: tensor.numpy() for name, tensor in cnn.items()}
    tensors["convolutions.0.var"] -= 2  # of which there is no square root
    write_tensors(tmp_path / "negative", tensors, model="cnn", width="1", dataset=text)
    for name, message in (
        ("nan", "bias is not finite, and gives"),
        ("negative", "gives logits that are not finite; lower train.lr"),
    ):
        said = refusal(reproduced, "metrics/samples.png", "--checkpoint", tmp_path / name)
        assert said.startswith(f"{tmp_path / name}: {message}")


def test_a_model_of_things_names_them_and_prepares_their_pictures(
    reproduced: Project, tmp_path: Path
) -> None:
    """In colour, as they are: nothing has to be drawn on an even background."""
    classes = ("Ankle boot", "a leaf", "007")
    info = DatasetInfo(title="things", shape=(3, 8, 8), classes=classes, style="natural")
    # The sum of the red pixels, of the green ones, of the blue ones.
    weight = np.repeat(np.eye(3, dtype=np.float32), 64, 1)
    weights = {"weight": weight, "bias": np.zeros(3, np.float32)}
    text = info.model_dump_json()
    write_tensors(tmp_path / "model", weights, model="linear", width="0", dataset=text)
    for name, colour in (("Ankle boot-1", "red"), ("a leaf", "lime"), ("other", "blue")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.webp", lossless=True)
    arguments = tmp_path, "--checkpoint", tmp_path / "model"
    output = json.loads(classify(reproduced, *arguments, "--json"))
    results = [(one["label"], one["predicted"]) for one in output["pictures"]]
    assert results == [("Ankle boot", "Ankle boot"), ("a leaf", "a leaf"), (None, "007")]
    assert all(list(one["probabilities"]) == list(classes) for one in output["pictures"])
    assert (output["accuracy"]["n"], output["accuracy"]["value"]) == (2, 1)
    row = classify(reproduced, *arguments).splitlines()[1]
    [name, label, predicted, confidence] = re.split("  +", row.strip())
    assert Path(name).name == "Ankle boot-1.webp"
    assert (label, predicted, confidence) == ("Ankle boot", "Ankle boot", "100.0%")


def test_no_name_of_a_picture_reaches_the_terminal_as_it_is(
    reproduced: Project, digits: tuple[Array, Array], tmp_path: Path
) -> None:
    names = ["7\n8 \x1b]0;PWNED\a.png", "[link=http:]x[.png", os.fsdecode(b"\xff\xe2\x80\xae.png")]
    for name in names:
        shifted(digits[0][0]).save(tmp_path / name)
    table = classify(reproduced, tmp_path)
    assert len(table.splitlines()) == 1 + len(names) + 2  # and the accuracy
    assert all(line.isprintable() for line in table.splitlines())
    for escaped in (r"7\n8 \x1b]0;PWNED\x07.png", "[link=http:]x[.png", r"\udcff\u202e.png"):
        assert f"{tmp_path}/{escaped} " in table
    (tmp_path / names[0]).write_bytes(b"")
    message = "not a picture; save it as PNG, JPEG, BMP, GIF, TIFF or WebP"
    done = reproduced.run("python", "-m", "tools", "predict", str(tmp_path), ok=False)
    assert done.stderr == rf"{tmp_path}/7\n8 \x1b]0;PWNED\x07.png: {message}" + "\n"


def test_each_picture_has_its_answer_though_one_is_bad(reproduced: Project, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour in (("a", "red"), ("c", "blue")):
        Image.new("RGB", (9, 9), colour).save(folder / f"{name}.png")
    (folder / "b.png").write_text("no picture")
    model = natural_model(tmp_path / "model")
    seen = tmp_path / "seen.png"
    command = ["python", "-m", "tools", "predict", str(folder), "--checkpoint", str(model)]
    done = reproduced.run(*command, "--json", "--show", str(seen), ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{folder}/b.png: not a picture")
    output = json.loads(done.stdout)
    assert [one["predicted"] for one in output["pictures"]] == ["0", "2"]
    assert output["problems"] == done.stderr.splitlines()
    with Image.open(seen) as sheet:  # the model sees eight pixels, enlarged
        colours = {*map(tuple, np.asarray(sheet.convert("RGB")).reshape(-1, 3).tolist())}
    assert {(255, 0, 0), (0, 0, 255), (255, 255, 255)} <= colours


def test_pictures_of_the_training_are_said_to_be(reproduced: Project, tmp_path: Path) -> None:
    _, train = read_split(reproduced.path / "data/prepared/train.safetensors")
    info = {"shape": (1, 28, 28), "classes": ("a", "b")}
    model = natural_model(tmp_path / "model", **info)
    for number, image in enumerate([train["images"][0, 0], 255 - train["images"][0, 0]]):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / f"a/{number}.png")
    command = ["python", "-m", "tools", "predict", str(tmp_path / "a"), "--checkpoint", str(model)]
    said = "1 of these 2 pictures were in the training: the accuracy says little about others"
    assert said in reproduced.run(*command).stderr


def natural_model(path: Path, **about: object) -> Path:
    """Write a model of three classes, which are the amounts of red, green and blue."""
    info = DatasetInfo.model_validate(
        {"title": "x", "shape": (3, 8, 8), "classes": ("0", "1", "2"), "style": "natural"} | about
    )
    k, pixels = len(info.classes), info.shape[1] * info.shape[2]
    weight = np.resize(np.eye(k, dtype=np.float32).repeat(pixels, 1), (k, info.shape[0] * pixels))
    weights = {"weight": weight, "bias": np.zeros(k, np.float32)}
    write_tensors(path, weights, model="linear", width="0", dataset=info.model_dump_json())
    return path


def test_a_folder_of_numbered_pictures_has_no_labels(reproduced: Project, tmp_path: Path) -> None:
    """1.png, 2.png and so on are no labels, and what a system leaves is no picture."""
    folder = tmp_path / "photos"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    for number in range(1, 6):
        Image.new("RGB", (9, 9), "red").save(folder / f"{number}.png")
    Image.new("RGB", (9, 9), "red").save(folder / ".ipynb_checkpoints/1-checkpoint.png")
    (folder / "._1.png").write_bytes(b"litter")
    model = natural_model(tmp_path / "model")
    output = json.loads(classify(reproduced, folder, "--checkpoint", model, "--json"))
    assert [Path(one["file"]).name for one in output["pictures"]] == [
        f"{number}.png" for number in range(1, 6)
    ]
    assert output["accuracy"] is None
    lines = classify(reproduced, folder, "--checkpoint", model, "--csv").splitlines()
    assert lines[0].startswith("file,label,predicted,confidence,probability 0,probability 1")
    assert len(lines) == 6
    assert [line.split(",")[2] for line in lines[1:]] == ["0"] * 5


def test_pictures_are_prepared_as_those_of_training_were(
    reproduced: Project, tmp_path: Path
) -> None:
    """By its range of deep values, its background, and a warning about another border."""
    (tmp_path / "deep.png").write_bytes(png16(np.full((8, 8, 3), (0, 4_000, 100))))
    model = natural_model(tmp_path / "model", range=(0, 4_095), border=(6, 20))
    command = ["python", "-m", "tools", "predict", str(tmp_path / "deep.png"), "--json"]
    done = reproduced.run(*command, "--checkpoint", str(model))
    assert json.loads(done.stdout)["pictures"][0]["predicted"] == "1"
    assert done.stderr == ""
    done = reproduced.run(*command, "--checkpoint", str(natural_model(tmp_path / "other")))
    assert "deep.png: deeper than 8 bits: 0 is taken for black, 4095 for white" in done.stderr
    Image.new("RGBA", (8, 8), (0, 0, 255, 0)).save(tmp_path / "clear.png")
    command[4] = str(tmp_path / "clear.png")
    black = natural_model(tmp_path / "black", background="black", border=(0, 0))
    assert reproduced.run(*command, "--checkpoint", str(black)).stderr == ""
    warned = reproduced.run(*command, "--checkpoint", str(model)).stderr
    assert "clear.png: its border is of brightness 255 of 255, and in the pictures for" in warned


def test_the_picture_of_a_seven_is_classified_as_one(reproduced: Project) -> None:
    out = reproduced.run("python", "-m", "tools", "predict", "docs/seven.png").stdout
    assert out.startswith("7, with a confidence of ")


def test_a_misspelt_tool_gets_the_nearest_name(reproduced: Project) -> None:
    done = reproduced.run("python", "-m", "tools", "predcit", "docs/seven.png", ok=False)
    assert done.returncode == 2
    assert done.stderr == "python -m tools predcit: unknown tool; did you mean predict?\n"


def test_a_picture_that_is_named_twice_has_two_answers(reproduced: Project, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    model = natural_model(tmp_path / "model")
    twice = [tmp_path / "a.png"] * 2
    output = json.loads(classify(reproduced, *twice, "--checkpoint", model, "--json"))
    assert [one["predicted"] for one in output["pictures"]] == ["0", "0"]
