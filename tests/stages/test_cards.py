"""Data cards: those of the project are valid, and what is wrong with one is said."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages import check, fetch
from stages.datasets.cards import read_card
from stages.storage.errors import InputError
from stages.storage.split_files import read_split
from tests.helpers.cards import SOURCES, card
from tests.helpers.project import DEFAULT, Project

NAMES = sorted(path.stem for path in SOURCES.glob("*.yaml"))
GOOD = (SOURCES / "mnist.yaml").read_text()


@pytest.fixture
def folder(valid_default: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A folder with the parameters and the cards, in which the stages run in this process."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEFAULT / "params.yaml", tmp_path)
    shutil.copytree(SOURCES, tmp_path / "sources")
    return Project(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_its_data_set_is(name: str) -> None:
    of = card(name)
    assert of.title
    assert of.licence
    assert "https://" in of.source or "http://" in of.source
    assert of.info.model_dump().items() <= of.model_dump().items()
    assert of.style == ("light_on_black" if name in ("fashion-mnist", "kmnist") else "strokes")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("title: MNIST\n", "", "title: missing"),
        ("title: MNIST\n", "titel: MNIST\n", "titel: unknown parameter; did you mean title?"),
        ("format: idx", "format: idy", "files.format: "),
        ("  train_labels:", "  train_label:", "files.train_label: unknown parameter"),
        ("md5: f68b3c", "md5: F68b3c", "files.train_images.md5: string should match pattern"),
        ("[1, 28, 28]", "[1, 28]", "shape.2: missing"),
        ("[1, 28, 28]", "[4, 28, 28]", "shape.0: input should be 1 or 3, not 4"),
        ("[1, 28, 28]", "[1, 28, 29]", "card.yaml: images of 28 x 29 pixels are not square"),
        ("train: 60000", "train: 0", "train: input should be greater than 0, not 0"),
        ("train: 60000\n", "", "train: missing"),
        (GOOD[GOOD.index("    md5: ") : GOOD.index("  train_labels")], "", "has no md5; add it"),
        ('["0", "1",', '["1", "1",', "two classes have the same name"),
        ('["0", "1",', "[0, 1,", "classes.0: input should be a valid string, not 0"),
    ],
)
def test_what_is_wrong_with_a_card_is_named(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in GOOD
    path = tmp_path / "card.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_card(path)
    lines = str(caught.value).splitlines()
    assert all(found.startswith(f"{path}: ") for found in lines)
    assert any(line in found for found in lines), lines


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ["fetch.size=32"],
            "sources/mnist-5k.yaml has images of 28 x 28 pixels in grey: set size to 28 and mode",
        ),
        (["fetch.mode=rgb"], "sources/mnist-5k.yaml has images of 28 x 28 pixels in grey"),
        (["fetch.size=7"], ".size: input should be greater than or equal to 8, not 7"),
        (["fetch.size=225"], ".size: input should be less than or equal to 224, not 225"),
        (["fetch.mode=cmyk"], ".mode: input should be 'grey' or 'rgb', not 'cmyk'"),
        (
            ["fetch.test_fraction=0.2"],
            "test_fraction: sources/mnist-5k.yaml has a test split of its own",
        ),
        (
            ["fetch.test_fraction=0"],
            ".test_fraction: should be a fraction above 0 and below 1, or auto, not 0",
        ),
        (
            ["fetch.test_fraction=1"],
            ".test_fraction: should be a fraction above 0 and below 1, or auto, not 1",
        ),
        (["fetch.source=https://example.org"], ".source: should be a path; `dvc import-url URL"),
        (
            ["fetch.source=sources/none.yaml"],
            "source: 'sources/none.yaml': No such file or directory; name a data ",
        ),
        ([f"fetch.source={300 * 'a'}"], "aaa...: File name too long; name a data card of sources/"),
    ],
)
def test_parameters_that_contradict_the_card_are_refused(
    folder: Project, settings: list[str], problem: str
) -> None:
    folder.set_params(*settings)
    for stage in (check, fetch):
        with pytest.raises(InputError) as caught:
            stage.main()
        assert str(caught.value).startswith("params.yaml: fetch")
        assert problem in str(caught.value)
    assert not (folder.path / "data").exists()


def test_a_card_that_is_wrong_is_refused(folder: Project) -> None:
    folder.edit("sources/mnist-5k.yaml", "title:", "titel:")
    for stage in (check, fetch):
        with pytest.raises(InputError, match=r"sources/mnist-5k\.yaml: titel: unknown .* title\?"):
            stage.main()


@pytest.mark.slow
def test_another_shape_goes_through_the_whole_pipeline(small_project: Project) -> None:
    changes = ("fetch.source=sources/digits-8x8.yaml", "fetch.size=8", "prepare.train_size=1000")
    options = [option for change in changes for option in ("-S", change)]
    ran = small_project.ran("exp", "run", *options)
    assert ran == ["check", "fetch", "prepare", "train", "evaluate"]
    shown = small_project.run("dvc", "metrics", "show", "--json").stdout
    assert '"balanced_accuracy"' in shown
    assert small_project.ran("repro") == []


def test_a_source_with_a_null_character_is_refused(folder: Project) -> None:
    folder.edit("params.yaml", "source: sources/mnist-5k.yaml", r'source: "a\0b"')
    for stage in (check, fetch):
        with pytest.raises(InputError, match=r"source: 'a\\x00b': .*null.*; name a data"):
            stage.main()


def own_card(folder: Project, hashes: bool) -> Path:
    """Write IDX files of one's own, dark instead of light, and a card of them."""
    own = folder.path / "data/own"
    own.mkdir(parents=True)
    names = ("train-images", "train-labels", "test-images", "test-labels")
    files = []
    for name in names:
        content = gzip.decompress((folder.path / f"sources/mnist-5k/{name}.gz").read_bytes())
        if name.endswith("images"):
            content = content[:16] + bytes(255 - value for value in content[16:])
        (own / f"{name}.gz").write_bytes(gzip.compress(content))
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        files.append(f"{name}.gz, decompressed_md5: {md5}" if hashes else f"{name}.gz")
    text = (folder.path / "sources/mnist-5k.yaml").read_text().partition("files:")[0]
    keys = (name.replace("-", "_") for name in names)
    text = text.replace("5,000 digits of MNIST", "Own digits") + (
        "files:\n  format: idx\n  addresses: [data/own]\n"
        + "".join(f"  {key}: {{name: {file}}}\n" for key, file in zip(keys, files, strict=True))
    )
    path = folder.path / "sources/own.yaml"
    path.write_text(text)
    return path


def test_own_files_need_hashes_and_are_read_whatever_the_mirror(
    folder: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain MNIST was once read under the title of one's own data."""
    own_card(folder, hashes=False)
    folder.set_params("fetch.source=sources/own.yaml")
    for stage in (check, fetch):
        with pytest.raises(InputError, match="has no md5; add it, so that other data are noticed"):
            stage.main()
    shutil.rmtree(folder.path / "data")
    own_card(folder, hashes=True)
    mirror = folder.path / "mirror"
    shutil.copytree(folder.path / "sources/mnist-5k", mirror)
    monkeypatch.setenv("MNIST_MIRROR", str(mirror))
    fetch.main()
    info, split = read_split(folder.path / "data/raw/train.safetensors")
    assert info.title == "Own digits"
    assert np.median(split["images"]) == 255
    images = folder.path / "data/own/train-images.gz"
    images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-1] + b"x"))
    with pytest.raises(InputError, match=r"train-images\.gz: another content than the official"):
        fetch.main()


@pytest.mark.parametrize(
    "setting", ["style=natural", "range=0..9", "columns=label:x", "skip_broken=1"]
)
def test_parameters_of_pictures_have_no_effect_on_a_card(folder: Project, setting: str) -> None:
    folder.set_params(f"fetch.{setting}")
    name = setting.partition("=")[0]
    with pytest.raises(InputError, match=f"{name}: has no effect on a data card: set this to "):
        check.main()
