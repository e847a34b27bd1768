"""The choice of training and validation images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anypictures.identities import Row, units_of
from stages import prepare
from stages.params.prepare import Prepare
from stages.prepare import split_pool
from stages.storage.errors import InputError
from stages.storage.image_files import read_rows, write_rows
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import Array
from tests.helpers.cards import load
from tests.helpers.project import Project

POOL = load("mnist-5k")["train"]["labels"]


def prepare_params(**changes: object) -> Prepare:
    values = {"sampling": "stratified", "train_size": 2_000, "val_size": 500, "seed": 0}
    return Prepare.model_validate(values | changes)


def unbalanced_labels() -> Array:
    """Return labels uint8 (2835,) of classes of 5 to 1,000 images, in random order."""
    sizes = [5, 10, 20, 40, 80, 160, 320, 500, 700, 1_000]
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10, dtype=np.uint8), sizes))


@pytest.mark.parametrize("sampling", ["first", "random", "stratified"])
@pytest.mark.parametrize("seed", [0, 1])
def test_train_and_val_have_no_image_in_common(sampling: str, seed: int) -> None:
    train, val = split_pool(POOL, prepare_params(sampling=sampling, seed=seed))
    assert len(train) == 2_000
    assert len(val) == 500
    assert sorted([*train, *val]) == list(range(2_500))


def test_first_takes_the_first_images() -> None:
    train, val = split_pool(
        POOL, prepare_params(sampling="first", train_size=100, val_size=50, seed=7)
    )
    assert train.tolist() == list(range(100))
    assert val.tolist() == list(range(100, 150))


@pytest.mark.parametrize("sampling", ["random", "stratified"])
def test_another_train_size_leaves_the_validation_images(sampling: str) -> None:
    small, val_of_small = split_pool(POOL, prepare_params(sampling=sampling, train_size=700))
    large, val_of_large = split_pool(POOL, prepare_params(sampling=sampling, train_size=2_000))
    assert val_of_small.tolist() == val_of_large.tolist()
    assert small.tolist() == large[:700].tolist()


@pytest.mark.parametrize("sampling", ["random", "stratified"])
def test_the_seed_decides_which_images_are_taken(sampling: str) -> None:
    first, again, other = (
        split_pool(POOL, prepare_params(sampling=sampling, seed=seed))[0].tolist()
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_stratified_is_exact_if_the_sizes_allow_it() -> None:
    train, val = split_pool(POOL, prepare_params())
    assert np.bincount(POOL[train]).tolist() == [200] * 10
    assert np.bincount(POOL[val]).tolist() == [50] * 10


@pytest.mark.parametrize("train_size", [1, 13, 500, 2_000])
@pytest.mark.parametrize("seed", range(5))
def test_stratified_is_within_two_images_of_the_proportions(train_size: int, seed: int) -> None:
    labels = unbalanced_labels()
    train, val = split_pool(labels, prepare_params(train_size=train_size, val_size=333, seed=seed))
    proportions = np.bincount(labels) / len(labels)
    for index in (train, val):
        counts = np.bincount(labels[index], minlength=10)
        assert np.abs(counts - proportions * len(index)).max() <= 2


def test_a_pool_that_is_too_small_is_refused() -> None:
    assert prepare_params(train_size=2_000).sizes(2_500) == (2_000, 500)
    with pytest.raises(ValueError, match=r"train_size 2001 \+ val_size 500 is more than the 2500"):
        prepare_params(train_size=2_001).sizes(2_500)


@pytest.mark.parametrize(
    ("train_size", "val_size", "expected"),
    [
        ("rest", 0.2, (80, 20)),
        ("rest", 30, (70, 30)),
        (50, 0.25, (50, 25)),
        ("rest", 0.001, (99, 1)),
    ],
)
def test_sizes_may_be_a_fraction_and_the_rest(
    train_size: int | str, val_size: float, expected: tuple[int, int]
) -> None:
    params = prepare_params(train_size=train_size, val_size=val_size)
    assert params.sizes(100) == expected
    train, val = split_pool(np.arange(100) % 10, params)
    assert (len(train), len(val)) == expected
    assert set(train).isdisjoint(val)


def test_stratified_needs_two_images_of_each_class(
    project: Project, refusal: Callable[[str], str]
) -> None:
    path = project.path / "data/raw/train.safetensors"
    info, pool = read_split(path)
    sevens = np.flatnonzero(pool["labels"] == 7)
    kept = np.setdiff1d(np.arange(len(pool["labels"])), sevens[1:])
    few = {name: tensor[kept] for name, tensor in pool.items()}
    path.unlink()  # it may be a link into DVC's cache
    write_split(path, info, few)
    table = path.with_name("files.csv")
    counts = {"train": len(pool["labels"]), "test": 2_500}
    rows = read_rows(table, counts)
    table.unlink()
    write_rows(table, rows | {"train": [rows["train"][i] for i in kept]})
    project.set_params("prepare.train_size=1000")
    message = (
        "params.yaml: prepare.sampling: stratified needs two images of each class, and the "
        "training pool has 1 of 7; add some, or set it to random"
    )
    assert refusal("prepare") == message
    project.set_params("prepare.sampling=random")
    prepare.main()
    _, train = read_split(project.path / "data/prepared/train.safetensors")
    assert len(train["labels"]) == 1_000


def test_the_stage_refuses_a_pool_that_is_too_small(
    project: Project, refusal: Callable[[str], str]
) -> None:
    project.set_params("prepare.train_size=2001")
    assert refusal("prepare").startswith("params.yaml: prepare: train_size 2001 + val_size")


@pytest.mark.parametrize("sampling", ["first", "random", "stratified"])
def test_copies_and_groups_are_not_divided(sampling: str) -> None:
    """Also with sizes at which a group would be cut."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    groups = random.integers(0, 60, 400)
    rows = [
        Row(str(i), f"{i % 250:04}", f"g{groups[i]}" if i % 3 else "") for i in range(len(labels))
    ]
    units = np.array(units_of(rows))
    params = prepare_params(sampling=sampling, train_size="rest", val_size=0.2)
    train, val = split_pool(labels, params, rows)
    assert {*units[train]}.isdisjoint(units[val])
    assert {*train}.isdisjoint(val)
    if sampling != "first":  # which leaves out nothing, too, but what stands behind
        assert len(train) + len(val) == 400


def test_without_copies_the_rows_change_nothing() -> None:
    rows = [Row(str(i), f"{i:04}") for i in range(len(POOL))]
    for sampling in ("first", "random", "stratified"):
        params = prepare_params(sampling=sampling)
        for plain, with_rows in zip(
            split_pool(POOL, params), split_pool(POOL, params, rows), strict=True
        ):
            assert (plain == with_rows).all()


def test_a_given_validation_split_is_taken() -> None:
    rows = [Row(str(i), f"{i:04}", is_val=i % 5 == 0) for i in range(100)]
    labels = np.arange(100) % 2
    for sampling in ("first", "random", "stratified"):
        params = prepare_params(sampling=sampling, train_size="rest", val_size="given")
        train, val = split_pool(labels, params, rows)
        assert {*val} == {*range(0, 100, 5)}
        assert len(train) == 80
    with pytest.raises(ValueError, match="have a validation split of their own, 20 images: set"):
        split_pool(labels, prepare_params(train_size="rest", val_size=0.2), rows)
    with pytest.raises(ValueError, match="val_size: given, but the data have no validation split"):
        prepare_params(train_size="rest", val_size="given").sizes(100)


def test_a_table_of_files_that_is_not_of_the_splits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "files.csv"
    rows = {"train": [Row("a,b", "1", "g"), Row("c\n", "2", is_val=True)], "test": [Row("d", "3")]}
    write_rows(path, rows)
    counts = {"train": 2, "test": 1}
    assert read_rows(path, counts) == rows | {
        "train": [rows["train"][0], Row("c\\n", "2", is_val=True)]
    }
    for wrong in ({"train": 3, "test": 1}, {"val": 2}):
        with pytest.raises(InputError, match=r"files\.csv: .*`dvc repro` makes it again"):
            read_rows(path, wrong)
    text = path.read_text()
    for content in (text.replace("train,0", "train,1"), "", "\0", "split\ntrain\n"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"files\.csv: "):
            read_rows(path, counts)
