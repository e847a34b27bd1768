"""The road of docs/your-pictures.md: other pictures and shapes, with no line of code changed."""

import csv
import gzip
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.project import HAS_PREDICT, HAS_SWEEPS, ROOT, Project
from tests.helpers.shapes import CLASSES, draw_shape, make_shapes
from tests.helpers.sources import idx

PAGE = (ROOT / "docs/your-pictures.md").read_text(encoding="utf-8")


def page_commands() -> list[str]:
    """Return the commands at the top of the page, one a line."""
    [block] = re.findall(r"```sh\n(.*?)```", PAGE.partition("\n## ")[0], re.DOTALL)
    return [line.partition("  #")[0].strip() for line in block.splitlines() if line.strip()]


@pytest.mark.slow
def test_the_road_of_the_page(project: Project) -> None:
    make_shapes(project.path / "data/pictures")
    if not (project.path / "recipes").is_dir():
        pytest.skip("the project has no recipes")
    (project.path / ".venv").mkdir(exist_ok=True)  # what is installed here is used
    (project.path / ".venv/installed").touch()
    with (project.path / "recipes/pictures-small").open("a") as recipe:
        recipe.write("train.epochs=20\n")  # which takes a sixth of the time
    project.run("git", "commit", "-qam", "Shorter")
    for command in page_commands():
        project.run("bash", "-c", command)
    changed = set(project.run("git", "diff", "--name-only", "HEAD").stdout.split())
    assert {path for path in changed if not path.startswith("metrics/")} <= {
        "params.yaml",
        "dvc.lock",
    }
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())["evaluate"]
    # By chance it is 25 %.
    assert metrics["test"]["accuracy"]["low"] > 0.8
    rows = (project.path / "metrics/classes.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows if row.startswith("test,")] == list(CLASSES)
    # The last commit has digits: a page shows the pictures alone.
    assert project.run("python", "-m", "fairtrial", "report").stdout == "report.html: workspace\n"
    both = ["python", "-m", "fairtrial", "report", "HEAD", "workspace"]
    assert "these are two tasks; show them on two pages" in project.run(*both, ok=False).stderr
    project.commit("Shapes")
    # The sweep, the comparison, the report and the prediction of the page work on them.
    best = "workspace"
    if HAS_SWEEPS:
        settings = ["-S", "train.lr=0.005,0.01", "-S", "train.epochs=2"]
        output = project.run("python", "-m", "fairtrial", "sweep", "--workers=1", *settings).stdout
        assert "2 points, 0 of them done" in output
        [best] = re.findall(r"bit for bit as experiment (sweep-\w+):", output)
    assert best in project.run("python", "-m", "fairtrial", "compare", "HEAD", best).stdout
    project.run("python", "-m", "fairtrial", "report", "HEAD", best)
    page = (project.path / "report.html").read_text(encoding="utf-8")
    assert "triangle" in page
    if HAS_PREDICT:
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
    "no picture": ("echo x > data/bad/circle/a.png", "data/bad/circle/a.png: not a picture"),
    "a pipe": ("mkfifo data/bad/circle/a.png", "data/bad/circle/a.png: not a regular file"),
    "a circle of links": (
        "ln -s b.png data/bad/circle/a.png && ln -s a.png data/bad/circle/b.png",
        "data/bad/circle/a.png: cannot be read",
    ),
    "escape codes": (
        "echo x > $'data/bad/circle/\\e]0;PWNED\\a\\n.png'",
        r"data/bad/circle/\x1b]0;PWNED\x07\n.png: not a picture",
    ),
    "test alone": (
        "mkdir -p data/x/test && mv data/bad/* data/x/test && mv data/x/test data/bad",
        "data/bad: test/circle: train has no pictures of this class",
    ),
    "a class of test alone": (
        "mkdir -p data/x/train data/x/test/z && mv data/bad/* data/x/train && "
        "cp metrics/weights.png data/x/test/z && mv data/x/* data/bad",
        "data/bad: test/z: train has no pictures of this class; add some there",
    ),
    "some in splits": (
        "mkdir data/bad/train && mv data/bad/circle data/bad/train",
        "data/bad: some pictures are in a split, such as train/circle/0.png, and some are not",
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


def shapes_in_splits(folder: Path) -> None:
    for seed, (split, count) in enumerate({"train": 16, "valid": 6, "test": 6}.items()):
        make_shapes(folder / split, count, seed=1_000 * seed)


def shapes_in_a_zip(folder: Path) -> None:
    make_shapes(folder / "all of them", 20)
    (folder / "all of them/.DS_Store").write_bytes(b"litter")
    shutil.make_archive(str(folder), "zip", folder)
    shutil.rmtree(folder)


def shapes_with_a_table(folder: Path) -> None:
    """Of 20 artists, who are not divided."""
    make_shapes(folder / "images", 20)
    rows = [f"images/{name}/{i}.png,{name},artist {i}" for name in CLASSES for i in range(20)]
    (folder / "labels.csv").write_text("\n".join(["file,kind,group", *rows]) + "\n")


def shapes_as_arrays(folder: Path) -> None:
    make_shapes(folder, 20)
    pictures = [Image.open(folder / name / f"{i}.png") for name in CLASSES for i in range(20)]
    pixels = np.stack([np.asarray(one.convert("RGB").resize((16, 16))) for one in pictures])
    labels = np.repeat(np.arange(4), 20)
    order = np.random.default_rng(0).permutation(80)
    shutil.rmtree(folder)
    np.savez_compressed(
        folder.with_suffix(".npz"),
        x_train=pixels[order[:60]],
        y_train=labels[order[:60]],
        x_test=pixels[order[60:]],
        y_test=labels[order[60:]],
    )


def shapes_as_a_table_of_pixels(folder: Path) -> None:
    make_shapes(folder, 20)
    lines = ["label," + ",".join(f"pixel{i}" for i in range(256))]
    for name in CLASSES:
        for i in range(20):
            with Image.open(folder / name / f"{i}.png") as picture:
                pixels = np.asarray(picture.convert("L").resize((16, 16))).ravel()
            lines.append(f"{name}," + ",".join(map(str, pixels)))
    shutil.rmtree(folder)
    folder.with_suffix(".csv").write_text("\n".join(lines) + "\n")


def shapes_as_parquet(folder: Path) -> None:
    """As the library `datasets` writes it: the bytes of pictures, and names of the labels."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    make_shapes(folder, 20)
    rows = [
        {"image": {"bytes": (folder / name / f"{i}.png").read_bytes()}, "label": label}
        for label, name in enumerate(CLASSES)
        for i in range(20)
    ]
    about = {"info": {"features": {"label": {"names": list(CLASSES)}}}}
    table = pyarrow.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    shutil.rmtree(folder)
    parquet.write_table(table, folder.with_suffix(".parquet"))


def shapes_as_idx(folder: Path) -> None:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("train", 80), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 4
        pictures = [draw_shape(CLASSES[label], random).convert("L") for label in labels]
        pixels = np.stack([np.asarray(one.resize((16, 16))) for one in pictures])
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))


def shapes_in_a_tar(folder: Path) -> None:
    """With one folder around everything, and the splits in it."""
    shapes_in_splits(folder)
    with tarfile.open(f"{folder}.tar.gz", "w:gz") as tar:
        tar.add(folder, "my shapes")
    shutil.rmtree(folder)


def shapes_as_cifar(folder: Path) -> None:
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in (("data_batch_1", 40), ("data_batch_2", 40), ("test_batch", 20)):
        rows = []
        for label in np.arange(count, dtype=np.uint8) % 4:
            picture = draw_shape(CLASSES[label], random).resize((32, 32))
            rows.append(bytes([label]) + np.asarray(picture).transpose(2, 0, 1).tobytes())
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES))


# What has them, beside `data/shapes`, and the options of `dvc exp run` that it needs.
ROUTES: dict[str, tuple[Callable[[Path], None], str, list[str]]] = {
    "splits": (shapes_in_splits, "data/shapes", ["prepare.val_size=given"]),
    "tar": (shapes_in_a_tar, "data/shapes.tar.gz", ["prepare.val_size=given"]),
    "cifar": (shapes_as_cifar, "data/shapes", ["fetch.size=32"]),
    "zip": (shapes_in_a_zip, "data/shapes.zip", []),
    "table": (shapes_with_a_table, "data/shapes", ["fetch.columns=label:kind"]),
    "npz": (shapes_as_arrays, "data/shapes.npz", []),
    "parquet": (shapes_as_parquet, "data/shapes.parquet", []),
    "pixels": (shapes_as_a_table_of_pixels, "data/shapes.csv", ["fetch.mode=grey"]),
    "idx": (shapes_as_idx, "data/shapes", ["fetch.mode=grey"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_each_layout_goes_from_dvc_add_to_compare_and_predict(
    small_project: Project, route: str, tmp_path: Path
) -> None:
    project, (make, source, options) = small_project, ROUTES[route]
    make(project.path / "data/shapes")
    project.run("dvc", "add", source)
    project.run("git", "commit", "-m", "Our pictures")
    changes = [f"fetch.source={source}", "fetch.size=16", "fetch.mode=rgb"]
    changes += ["prepare.train_size=rest", "prepare.val_size=0.2", *options]
    settings = [option for change in changes for option in ("-S", change)]
    project.run("dvc", "exp", "run", "-n", "first", *settings, "-S", "train.lr=0.001")
    project.commit("first")
    project.run("dvc", "exp", "run", "-n", "other", "-S", "train.lr=0.1")
    compared = project.run("python", "-m", "fairtrial", "compare", "first", "other").stdout
    with (project.path / "metrics/scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    with (project.path / "data/prepared/files.csv").open() as file:
        files = {(row["split"], row["example"]): row for row in csv.DictReader(file)}
    # A mistake has a name: each example is of a file, and of the split that this says.
    assert {(row["split"], row["example"].partition("-")[0]) for row in scores} <= files.keys()
    if route in ("splits", "tar"):
        for (split, _), row in files.items():
            folder = row["file"].removeprefix("my shapes/").partition("/")[0]
            assert folder == ("valid" if split == "val" else split)
    if route == "table":
        assert "groups of examples, design effect" in compared
        splits_of_groups = {(row["group"], row["split"]) for row in files.values()}
        assert len(splits_of_groups) == 20
        assert {row["group"] for row in scores} < {f"artist {i}" for i in range(20)}
    if HAS_PREDICT:
        photo = tmp_path / "photo.png"
        draw_shape("circle", np.random.default_rng(0)).save(photo)
        predicted = project.run("python", "-m", "tools", "predict", str(photo)).stdout
        assert predicted.split(",")[0] in {*CLASSES, *"0123"}


def test_a_validation_split_of_ones_own_is_taken_and_reported(small_project: Project) -> None:
    project = small_project
    shapes_in_splits(project.path / "data/shapes")
    project.set_params(
        *("fetch.source=data/shapes", "fetch.size=8", "fetch.mode=rgb"),
        *("prepare.train_size=rest", "prepare.val_size=0.2"),
    )
    project.run("python", "-m", "stages", "fetch")
    assert "prepare: val_size: the data have a validation split of their own, 24 images" in (
        project.refused("prepare")
    )
    project.set_params("prepare.val_size=given")
    project.run("python", "-m", "stages", "prepare")
    counts = json.loads((project.path / "metrics/prepare.json").read_text())["prepare"]
    assert {split: of["n"] for split, of in counts.items()} == {"train": 64, "val": 24, "test": 24}
    assert counts["val"]["classes"] == dict.fromkeys(CLASSES, 6)
