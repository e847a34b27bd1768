"""The road of docs/your-pictures.md: other pictures and shapes, with no line of code changed."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from stages.datasets import folders
from stages.datasets.folders import load_pictures
from stages.params.fetch import Fetch
from stages.storage.errors import InputError
from tests.helpers.project import ROOT, Project
from tests.helpers.shapes import CLASSES, make_shapes

PAGE = (ROOT / "docs/your-pictures.md").read_text(encoding="utf-8")


def page_commands() -> list[str]:
    """Return the commands at the top of the page, one a line."""
    [block] = re.findall(r"```sh\n(.*?)```", PAGE.partition("\n## ")[0], re.DOTALL)
    return [line.partition("  #")[0].strip() for line in block.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_road_of_the_page(project: Project) -> None:
    make_shapes(project.path / "data/pictures")
    for command in page_commands():
        project.run("bash", "-c", command)
    changed = set(project.run("git", "diff", "--name-only", "HEAD").stdout.split())
    assert {path for path in changed if not path.startswith("metrics/")} <= {
        "params.yaml",
        "dvc.lock",
    }
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())["evaluate"]
    # By chance it is 25 %.
    assert metrics["test"]["accuracy"]["low"] > 0.5
    rows = (project.path / "metrics/classes.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows if row.startswith("test,")] == list(CLASSES)
    project.commit("Shapes")
    # The sweep, the comparison, the report and the prediction of the page work on them.
    settings = ["-S", "train.lr=0.005,0.01", "-S", "train.epochs=2"]
    output = project.run("python", "-m", "fairtrial", "sweep", "--workers=1", *settings).stdout
    assert "2 points, 0 of them done" in output
    [best] = re.findall(r"bit for bit as experiment (sweep-\w+):", output)
    assert best in project.run("python", "-m", "fairtrial", "compare", "HEAD", best).stdout
    project.run("python", "-m", "fairtrial", "report", "HEAD", best)
    page = (project.path / "report.html").read_text(encoding="utf-8")
    assert "triangle" in page
    picture = "data/pictures/circle/0.png"
    prediction = project.run("python", "-m", "tools", "predict", picture).stdout
    assert prediction.split(",")[0] in CLASSES


@pytest.mark.slow
def test_adding_a_picture_moves_no_other_one(project: Project) -> None:
    folder = project.path / "data/pictures"
    make_shapes(folder, count=20)
    project.set_params("fetch.source=data/pictures", "fetch.size=16", "fetch.mode=rgb")

    project.run("python", "-m", "stages", "fetch")
    before = raw_images(project, "test")
    make_shapes(project.path / "data/more", count=5, seed=1)
    for path in sorted((project.path / "data/more").glob("*/*.png")):
        shutil.copy(path, folder / path.parent.name / f"new-{path.name}")
    project.run("python", "-m", "stages", "fetch")
    after = raw_images(project, "test")
    assert before < after
    assert before.isdisjoint(raw_images(project, "train"))


@pytest.mark.slow
def test_another_size_is_another_run(project: Project) -> None:
    from safetensors.numpy import load_file

    make_shapes(project.path / "data/pictures", count=10)
    project.set_params("fetch.source=data/pictures", "fetch.mode=rgb")
    for size in (16, 24, 16):
        project.set_params(f"fetch.size={size}")
        project.run("dvc", "repro", "fetch")
        images = load_file(project.path / "data/raw/test.safetensors")["images"]
        assert images.shape[1:] == (3, size, size)


def raw_images(project: Project, split: str) -> set[bytes]:
    from safetensors.numpy import load_file

    images = load_file(project.path / f"data/raw/{split}.safetensors")["images"]
    return {image.tobytes() for image in images}


def test_a_tar_file_and_explicit_splits_give_the_same_tensors(
    small_project: Project, tmp_path: Path
) -> None:
    project = small_project
    for split, count, seed in (("train", 8, 0), ("test", 3, 1)):
        make_shapes(project.path / "data/shapes" / split, count, seed)
    with tarfile.open(project.path / "data/shapes.tar", "w") as tar:
        tar.add(project.path / "data/shapes", ".")
    project.set_params("fetch.source=data/shapes", "fetch.size=8", "fetch.mode=rgb")
    project.run("python", "-m", "stages", "fetch")
    images = {split: raw_images(project, split) for split in ("train", "test")}
    assert (len(images["train"]), len(images["test"])) == (32, 12)
    project.set_params("fetch.source=data/shapes.tar")
    project.run("python", "-m", "stages", "fetch")
    assert {split: raw_images(project, split) for split in ("train", "test")} == images


BAD = {
    "nothing": ("", "data/bad: has no pictures"),
    "one class": ("rm -r data/bad/c* data/bad/s*", "data/bad: has pictures of only the class tri"),
    "an empty class": ("mkdir data/bad/empty", "data/bad/empty: has no pictures"),
    "a nested level": ("mkdir data/bad/circle/x", "data/bad/circle/x: has no pictures"),
    "a stray file": ("touch data/bad/notes.txt", "data/bad/notes.txt: not in the folder of a clas"),
    "no picture": ("echo x > data/bad/circle/a.png", "data/bad/circle/a.png: not a picture"),
    "cut short": (
        "head -c 150 data/bad/circle/0.png > data/bad/circle/a.png",
        "data/bad/circle/a.png: not a whole picture",
    ),
    "a pipe": ("mkfifo data/bad/circle/a.png", "data/bad/circle/a.png: not a regular file"),
    "a link outside": (
        "cp docs/seven.png .. && ln -s ../../../../seven.png data/bad/circle/a.png",
        "data/bad/circle/a.png: a link out of data/bad",
    ),
    "a circle of links": (
        "ln -s b.png data/bad/circle/a.png && ln -s a.png data/bad/circle/b.png",
        "data/bad/circle/a.png: cannot be read",
    ),
    "escape codes": (
        "echo x > $'data/bad/circle/\\e]0;PWNED\\a\\n.png'",
        r"data/bad/circle/\x1b]0;PWNED\x07\n.png: not a picture",
    ),
    "two classes": (
        "cp data/bad/circle/0.png data/bad/cross/a.png",
        "are the same picture; remove the one",
    ),
    "train alone": (
        "mkdir -p data/x/train && mv data/bad/* data/x/train && mv data/x/train data/bad",
        "data/bad has no pictures for test; add more",
    ),
    "a third split": (
        "mkdir data/x && mv data/bad/* data/x && for split in train test val; do cp -r data/x "
        "data/bad/$split; done",
        "data/bad/val/circle/0.png: not in the folder of a class; move it to CLASS/, or to train",
    ),
    "a class of test alone": (
        "mkdir -p data/x/train data/x/test/z && mv data/bad/* data/x/train && cp docs/seven.png "
        "data/x/test/z && mv data/x/* data/bad",
        "data/bad/test/z: no class of this name has pictures in data/bad/train",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_refused(small_project: Project, name: str) -> None:
    project = small_project
    command, message = BAD[name]
    (project.path / "data/bad").mkdir()
    if name != "nothing":
        (project.path / "data/bad").rmdir()
        make_shapes(project.path / "data/bad", count=2)
        project.run("bash", "-c", command)
    project.set_params("fetch.source=data/bad", "fetch.size=16", "fetch.mode=rgb")
    before = (project.path / "data/raw/train.safetensors").read_bytes()
    error = project.refused("fetch")
    assert message in error
    assert "\x1b" not in error
    assert (project.path / "data/raw/train.safetensors").read_bytes() == before


def test_a_picture_that_comes_while_others_are_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise dvc.lock would have the hash of a folder with it, and the tensors lack it."""
    make_shapes(tmp_path / "shapes", count=3)
    params = Fetch(source="shapes", size=8, mode="grey", test_fraction="auto")
    load_pictures(tmp_path / "shapes", params)
    # The last of what happens between the two looks at the folder.
    monkeypatch.setattr(
        folders, "report_copies", lambda *_: make_shapes(tmp_path / "shapes", count=1, seed=9)
    )
    with pytest.raises(InputError, match=r"shapes: pictures came or went while they were read"):
        load_pictures(tmp_path / "shapes", params)


def test_many_pixels_and_few_of_a_class_are_refused(small_project: Project) -> None:
    project = small_project
    make_shapes(project.path / "data/bad", count=3)
    Image.new("1", (10_000, 10_000)).save(project.path / "data/bad/circle/large.png")
    project.set_params("fetch.source=data/bad", "fetch.size=16", "fetch.mode=rgb")
    assert "large.png: more than" in project.refused("fetch")
    (project.path / "data/bad/circle/large.png").unlink()
    for number in range(1, 3):
        (project.path / f"data/bad/circle/{number}.png").unlink()
    project.run("python", "-m", "stages", "fetch")
    project.set_params("prepare.train_size=rest", "prepare.val_size=0.2")
    assert "stratified needs two images of each class" in project.refused("prepare")
