"""Tables and arrays of pictures: CSV, Parquet, .npz, IDX, CIFAR."""

import csv
import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from anypictures.idx import Array
from tests.anypictures.test_layouts import tarred, zipped
from tests.helpers.sources import (
    idx,
    images_by_file,
    labels_by_file,
    load,
    noise,
    refusal,
    save,
    split_by_file,
)

COUNT = 24


def write_table(path: Path, rows: Iterable[Sequence[object]], sep: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=sep).writerows(rows)
    return path


def write_pictures(folder: Path) -> dict[str, Array]:
    pixels = {f"images/{i:02}.png": noise() for i in range(COUNT)}
    for name, values in pixels.items():
        save(folder / name, values)
    return pixels


def label_of(name: str) -> str:
    return ("oak", "pine")[int(Path(name).stem) % 2]


HEADERS = [("file", "label"), ("file_name", "class"), ("Path", "Target"), ("image", "labels")]


@pytest.mark.parametrize("packed", ["folder", "zip", "tar"])
@pytest.mark.parametrize("header", HEADERS, ids=str)
def test_a_table_beside_pictures_labels_them(
    tmp_path: Path, packed: str, header: tuple[str, str]
) -> None:
    folder = tmp_path / "data"
    pixels = write_pictures(folder)
    rows = [(name, label_of(name)) for name in pixels]
    write_table(folder / "labels.csv", [header, *rows])
    path = {"folder": lambda f: f, "zip": zipped, "tar": tarred}[packed](folder)
    fetched = load(path)
    assert labels_by_file(fetched) == dict(rows)
    assert all((images_by_file(fetched)[name][0] == pixels[name]).all() for name in pixels)


def test_columns_may_be_named_and_paths_may_be_short(tmp_path: Path) -> None:
    """As in tables of Kaggle: names without a folder, or without an ending; `;` between cells."""
    pixels = write_pictures(tmp_path)
    rows = [(Path(name).stem, label_of(name), "x") for name in pixels]
    write_table(tmp_path / "train.csv", [("image id", "diagnosis", "note"), *rows], ";")
    fetched = load(tmp_path, columns="label:diagnosis picture:image id")
    assert labels_by_file(fetched) == {name: label_of(name) for name in pixels}
    assert refusal(tmp_path, columns="label:none picture:image id") == (
        f"columns: {tmp_path}/train.csv has no column none, but image id, diagnosis, note"
    )


def test_splits_and_groups_of_a_table_are_kept(tmp_path: Path) -> None:
    pixels = write_pictures(tmp_path)
    splits = ["train", "train", "train", "valid", "test", "test"]
    rows = [
        (name, label_of(name), splits[i // 4], f"patient {i // 4}") for i, name in enumerate(pixels)
    ]
    write_table(tmp_path / "metadata.csv", [("file_name", "label", "split", "group"), *rows])
    fetched = load(tmp_path)
    found = split_by_file(fetched)
    assert found == {row[0]: row[2].replace("valid", "val") for row in rows}
    groups = {row.file: row.group for of_split in fetched.rows.values() for row in of_split}
    assert groups == {row[0]: row[3] for row in rows}
    # A group in two splits is refused, with its name; without splits it stays together.
    rows[0] = (rows[0][0], "oak", "test", "patient 0")
    write_table(tmp_path / "metadata.csv", [("file_name", "label", "split", "group"), *rows])
    assert "the group patient 0 is in two splits: images/0" in refusal(tmp_path)
    shorter = [(*row[:2], row[3]) for row in rows]
    write_table(tmp_path / "metadata.csv", [("file_name", "label", "group"), *shorter])
    found = split_by_file(load(tmp_path, test_fraction=0.5))
    assert {*found.values()} == {"train", "test"}
    assert len({(row[2], found[row[0]]) for row in shorter}) == 6


def test_a_table_in_the_folder_of_each_split(tmp_path: Path) -> None:
    """As the library `datasets` of Hugging Face has them."""
    expected = {}
    for split in ("train", "validation", "test"):
        rows = []
        for i in range(8):
            save(tmp_path / split / f"{i}.png", noise())
            rows.append((f"{i}.png", "oak" if i % 2 else "pine"))
            expected[f"{split}/{i}.png"] = "val" if split == "validation" else split
        write_table(tmp_path / split / "metadata.csv", [("file_name", "label"), *rows])
    assert split_by_file(load(tmp_path)) == expected


BAD_ROWS = [
    ((("file", "label"), ("images/00.png", "")), "labels.csv[0]: has no label; fill it in"),
    ((("file", "label"), ("images/00.png", "NaN")), "labels.csv[0]: has no label; fill it in"),
    ((("file", "label"), ("images/99.png", "a")), "labels.csv[0]: images/99.png is not there"),
    ((("file", "label"), ("../x.png", "a")), "labels.csv[0]: ../x.png leads out"),
    ((("file", "label"), ("/etc/passwd", "a")), "labels.csv[0]: /etc/passwd leads out"),
    (
        (("file", "label"), ("images/00.png", "a"), ("00.png", "b")),
        ": images/00.png stands in several rows; keep one",
    ),
    ((("file", "label"),), "labels.csv: has no rows; add some"),
    (
        (("file", "label", "split"), ("images/00.png", "a", "dev")),
        "labels.csv[0]: the split 'dev' is none of train, val and test",
    ),
    (
        (("file", "label"), *((f"images/{i:02}.png", str(i)) for i in range(1))),
        "has pictures of only the class 0",
    ),
]


@pytest.mark.parametrize(("rows", "problem"), BAD_ROWS, ids=[problem for _, problem in BAD_ROWS])
def test_a_bad_table_is_refused(
    tmp_path: Path, rows: tuple[tuple[str, ...], ...], problem: str
) -> None:
    write_pictures(tmp_path)
    write_table(tmp_path / "labels.csv", rows)
    assert problem in refusal(tmp_path)


def test_all_bad_rows_are_named_in_one_run(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    rows = [(f"images/{i}.png", "a") for i in range(50, 70)]
    write_table(tmp_path / "labels.csv", [("file", "label"), *rows])
    assert len(refusal(tmp_path).splitlines()) == 20


def test_two_thousand_labels_are_refused(tmp_path: Path) -> None:
    rows = [(f"{i / 7}", *noise(16)) for i in range(2_000)]
    path = write_table(tmp_path / "x.csv", [("label", *(f"p{i}" for i in range(16))), *rows])
    assert "2,000 classes are more than 1,000; are the labels numbers to predict" in refusal(path)


def test_a_table_alone_cannot_name_pictures(tmp_path: Path) -> None:
    """DVC would have the hash of the table, and not of the pictures."""
    pixels = write_pictures(tmp_path)
    rows = [(name, label_of(name)) for name in pixels]
    path = write_table(tmp_path / "labels.csv", [("file", "label"), *rows])
    assert "name the folder that holds the table and the pictures" in refusal(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_table_of_pixels_as_kaggle_has_the_digits(tmp_path: Path, compressed: bool) -> None:
    images = noise(COUNT, 28, 28)
    rows = [(i % 10, *image.ravel()) for i, image in enumerate(images)]
    path = write_table(
        tmp_path / "train.csv", [("label", *(f"pixel{i}" for i in range(784))), *rows]
    )
    if compressed:
        path = tmp_path / "train.csv.gz"
        path.write_bytes(gzip.compress((tmp_path / "train.csv").read_bytes()))
    fetched = load(path, size=28)
    found = images_by_file(fetched)
    assert len(found) == COUNT
    for i, image in enumerate(images):
        assert (found[f"{path.name}[{i}]"][0] == image).all()
    assert fetched.classes == tuple("0123456789")


def test_a_table_of_pixels_without_a_header(tmp_path: Path) -> None:
    images = noise(COUNT, 8, 8)
    path = write_table(tmp_path / "x.csv", [(i % 2, *im.ravel()) for i, im in enumerate(images)])
    found = images_by_file(load(path))
    assert all((found[f"x.csv[{i}]"][0] == image).all() for i, image in enumerate(images))


def test_a_table_of_texts_of_pixels_as_fer2013_has_faces(tmp_path: Path) -> None:
    images = noise(COUNT, 8, 8)
    usage = ["Training"] * 16 + ["PublicTest"] * 4 + ["PrivateTest"] * 4
    rows = [(i % 2, " ".join(map(str, im.ravel())), usage[i]) for i, im in enumerate(images)]
    path = write_table(tmp_path / "fer.csv", [("emotion", "pixels", "Usage"), *rows])
    assert refusal(path) == (
        f"{path}: has no column label or labels or class or target, but emotion, pixels, Usage; "
        "name it, as by `columns=label:NAME picture:NAME`"
    )
    fetched = load(path, columns="label:emotion")
    found, splits = images_by_file(fetched), split_by_file(fetched)
    for i, image in enumerate(images):
        assert (found[f"fer.csv[{i}]"][0] == image).all()
    assert list(map(splits.get, (f"fer.csv[{i}]" for i in (0, 16, 20)))) == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([300, *[0] * 15], "pixels from 0 to 300; they are whole numbers from 0 to 255"),
        ([-1, *[0] * 15], "pixels from -1 to 2"),
        (["x", *[0] * 15], "pixels that are no whole numbers; mend them"),
        (["", *[0] * 15], "pixels that are no whole numbers; mend them"),
        ([0] * 15, "not a table"),
    ],
)
def test_bad_pixels_are_refused(tmp_path: Path, cells: list[object], problem: str) -> None:
    rows = [(i % 2, *noise(16)) for i in range(6)]
    header = ("label", *(f"p{i}" for i in range(16)))
    path = write_table(
        tmp_path / "x.csv", [header, *rows, (1, *cells, *([9] if len(cells) < 16 else []))]
    )
    if len(cells) < 16:
        path.write_text(path.read_text() + "1," * 40 + "\n")
    assert problem in refusal(path)


def test_a_table_of_pixels_without_rows_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "x.csv", [("label", *(f"p{i}" for i in range(16)))])
    assert refusal(path) == f"{path}: not a table (it has no rows); mend it"


def test_columns_of_pixels_that_are_no_square_are_refused(tmp_path: Path) -> None:
    rows = [(i % 2, *noise(17)) for i in range(6)]
    path = write_table(tmp_path / "x.csv", [("label", *(f"p{i}" for i in range(17))), *rows])
    assert "has no column file or file_name or filename or path, but label, p0" in refusal(path)


def arrays(count: int = COUNT, *shape: int) -> dict[str, Array]:
    shape = shape or (8, 8)
    return {"images": noise(count, *shape), "labels": np.arange(count) % 3}


NPZ = {
    "Keras": ("x_train", "y_train", None, None, "x_test", "y_test"),
    "MedMNIST": (
        *("train_images", "train_labels", "val_images", "val_labels"),
        *("test_images", "test_labels"),
    ),
    "alone": ("images", "labels", None, None, None, None),
    "scikit-learn": ("data", "target", None, None, None, None),
}


@pytest.mark.parametrize("kind", NPZ)
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (8, 8, 1), (3, 8, 8), (64,)], ids=str)
def test_npz_files_of_the_usual_names(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    saved: dict[str, Any] = {}
    expected = {}
    for split, names in zip(
        ("train", "val", "test"), zip(NPZ[kind][::2], NPZ[kind][1::2], strict=True), strict=True
    ):
        if not names[0] or not names[1]:
            continue
        images, labels = noise(COUNT, *shape), np.arange(COUNT, dtype=np.uint8) % 3
        saved |= {names[0]: images, names[1]: labels[:, None] if kind == "MedMNIST" else labels}
        for i in range(COUNT):
            expected[f"{names[0]}[{i}]"] = (split, str(labels[i]), images[i])
    np.savez_compressed(tmp_path / "x.npz", **saved)
    fetched = load(tmp_path / "x.npz", mode="rgb")
    splits, found = split_by_file(fetched), labels_by_file(fetched)
    for name, image in images_by_file(fetched).items():
        split, label, pixels = expected[name]
        assert label == found[name]
        assert split == splits[name] or len(saved) == 2
        if shape == (3, 8, 8):
            assert (image == pixels).all()
        else:
            pixels = pixels.reshape(8, 8, -1).transpose(2, 0, 1)
            assert (image == np.broadcast_to(pixels, (3, 8, 8))).all()
    assert len(found) == len(expected)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path("/tmp/evil-was-here").touch, ()


def test_bad_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"

    def saying(**saved: Any) -> str:
        np.savez(path, **saved)
        return refusal(path).removeprefix(f"{path}: ")

    good = arrays()
    Path("/tmp/evil-was-here").unlink(missing_ok=True)
    objects = np.array([Evil()] * COUNT, dtype=object)
    assert saying(images=good["images"], labels=objects).startswith("labels.npy: no plain array (")
    assert not Path("/tmp/evil-was-here").exists()
    assert saying(images=good["images"], labels=good["labels"][:-1]) == (
        "images has 24 and labels 23; they have to be as many"
    )
    assert saying(images=good["images"], labels=np.zeros((COUNT, 5))).startswith(
        "labels: has the shape (24, 5); a picture has one label here, not several"
    )
    assert saying(images=good["images"], labels=good["labels"] + 0.5) == (
        "labels: has float64; labels are whole numbers or names"
    )
    assert saying(images=noise(COUNT, 8, 8, 8), labels=good["labels"]).startswith(
        "images: has the shape (24, 8, 8, 8); pictures are (N, H, W) or (N, H, W, 3)"
    )
    assert saying(images=noise(COUNT, 50), labels=good["labels"]).startswith("images: has the sh")
    assert saying(images=good["images"]).startswith("images has no partner; add it")
    assert saying(a=good["images"], b=good["labels"]).startswith("has a, b; name the arrays train_")
    broken = np.full((COUNT, 8, 8), np.nan)
    assert saying(images=broken, labels=good["labels"]).startswith("images: has values that are no")
    # A header that claims a terabyte.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1_000, 1_000)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + b"12345")
        archive.writestr("labels.npy", b"")
    assert refusal(path).startswith(f"{path}: images.npy: no plain array")


def test_labels_of_an_array_may_be_texts_or_below_zero(tmp_path: Path) -> None:
    for labels, classes in (
        (np.array(["b", "a", "ä"] * 8), ("a", "b", "ä")),
        (np.array([b"a", b"\xff"] * 12), ("a", "\ufffd")),
        (np.array([-1, 10, 2, -20] * 6), ("-20", "-1", "2", "10")),
    ):
        np.savez(tmp_path / "x.npz", images=arrays()["images"], labels=labels)
        assert load(tmp_path / "x.npz").classes == classes


def test_floats_of_an_array_are_black_to_white(tmp_path: Path) -> None:
    good = arrays()
    np.savez(tmp_path / "x.npz", images=good["images"] / np.float32(255), labels=good["labels"])
    fetched = load(tmp_path / "x.npz")
    assert fetched.appearance["range"] == (0, 1)
    for name, image in images_by_file(fetched).items():
        assert (image[0] == good["images"][int(name[7:-1])]).all()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_pairs_of_idx_files(tmp_path: Path, suffix: str) -> None:
    """Named as MNIST's are, compressed or not, and read as torchvision reads them."""
    folder = tmp_path / "MNIST/raw"
    folder.mkdir(parents=True)
    for name, count in (("train", 40), ("t10k", 20)):
        for kind, values in (
            ("images-idx3-ubyte", noise(count, 28, 28)),
            ("labels-idx1-ubyte", (np.arange(count) % 10).astype(np.uint8)),
        ):
            content = idx(values)
            (folder / f"{name}-{kind}").write_bytes(content)
            (folder / f"{name}-{kind}{suffix}").write_bytes(
                gzip.compress(content) if suffix else content
            )
    oracles = {
        split: datasets.MNIST(tmp_path, train=split == "train") for split in ("train", "test")
    }
    if suffix:
        for path in folder.glob("*ubyte"):
            path.unlink()
    fetched = load(folder, size=28)
    for split, oracle in oracles.items():
        name = {"train": "train", "test": "t10k"}[split]
        file = f"{name}-images-idx3-ubyte{suffix}"
        for i, (image, label) in enumerate(zip(oracle.data, oracle.targets, strict=True)):
            assert (images_by_file(fetched)[f"{file}[{i}]"][0] == image.numpy()).all()
            assert labels_by_file(fetched)[f"{file}[{i}]"] == str(label.item())
    (folder / "classes.txt").write_text("\n".join("abcdefghij"))
    assert load(folder, size=28).classes == tuple("abcdefghij")


@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_in_its_binary_form(tmp_path: Path, hundred: bool) -> None:
    images, labels = noise(COUNT, 3, 32, 32), np.arange(COUNT, dtype=np.uint8) % 10
    before = np.stack([labels * 0, labels], 1) if hundred else labels[:, None]
    rows = np.concatenate([before, images.reshape(COUNT, -1)], 1)
    names = ("train.bin", "test.bin") if hundred else ("data_batch_1.bin", "test_batch.bin")
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / names[0]).write_bytes(rows[:16].tobytes())
    (folder / names[1]).write_bytes(rows[16:].tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"kind {i}" for i in range(10)) + "\n")
    path = tarred(folder, "gz")
    fetched = load(path, size=32, mode="rgb")
    found = images_by_file(fetched)
    assert all((found[f"train_images[{i}]"] == images[i]).all() for i in range(16))
    assert all((found[f"test_images[{i}]"] == images[16 + i]).all() for i in range(8))
    assert fetched.classes[:2] == ("kind 0", "kind 1")
    (folder / names[0]).write_bytes(rows[:16].tobytes()[:-1])
    assert "not in CIFAR's binary form; copy it again" in refusal(folder)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps(Evil()))
    assert "a file of Python's objects, which can run any code; it is never opened" in refusal(path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    assert "data_batch_1: not in the folder of a class" in refusal(folder)
    assert not Path("/tmp/evil-was-here").exists()


def test_parquet_without_pyarrow_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and more")
    assert refusal(path).startswith(f"{path}: a Parquet file, which pyarrow reads; type `pip inst")


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    """Pictures as bytes, names of the labels in the metadata, splits in the names of the files."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    pixels: dict[str, Array] = {}
    about = {"info": {"features": {"label": {"names": ["oak", "pine"], "_type": "ClassLabel"}}}}
    for split in ("train", "validation", "test"):
        rows = []
        for i in range(8):
            pixels[f"data/{split}-00000-of-00001.parquet[{i}]"] = values = noise()
            content = save(tmp_path / "one.png", values).read_bytes()
            rows.append({"image": {"bytes": content, "path": f"{i}.png"}, "label": i % 2})
        table = pyarrow.Table.from_pylist(rows)
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        path = tmp_path / f"set/data/{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    fetched = load(tmp_path / "set")
    found = images_by_file(fetched)
    assert found.keys() == pixels.keys()
    assert all((found[name][0] == pixels[name]).all() for name in pixels)
    assert fetched.classes == ("oak", "pine")
    assert {*split_by_file(fetched).values()} == {"train", "val", "test"}
    of_pixels = {f"pixel{i}": np.arange(12, dtype=np.uint8) * (i % 9) for i in range(64)}
    columns = {"label": ["oak", "elm"] * 6, **of_pixels}
    parquet.write_table(pyarrow.Table.from_pydict(columns), tmp_path / "pixels.parquet")
    images = images_by_file(load(tmp_path / "pixels.parquet"))
    expected = np.stack([*of_pixels.values()], 1).reshape(12, 1, 8, 8)
    assert {file: image.tolist() for file, image in images.items()} == {
        f"pixels.parquet[{i}]": image.tolist() for i, image in enumerate(expected)
    }
    nested = pyarrow.Table.from_pylist([{"image": {"x": [1, 2]}, "label": 0}] * 3)
    parquet.write_table(nested, tmp_path / "nested.parquet")
    assert "nested.parquet[2]: has no picture; write its path" in refusal(
        tmp_path / "nested.parquet"
    )
    several = [{"image": content, "label": [0, 1]}, {"image": [1, 2], "label": 0}]
    for row, problem in zip(several, ("has several labels", "has no picture"), strict=True):
        parquet.write_table(pyarrow.Table.from_pylist([row] * 3), tmp_path / "x.parquet")
        assert f"x.parquet[0]: {problem}" in refusal(tmp_path / "x.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-20])
    assert "a broken Parquet file" in refusal(tmp_path / "cut.parquet")


def test_a_table_of_ids_is_found_beside_its_pictures(tmp_path: Path) -> None:
    """As Kaggle packs competitions: the pictures for a submission have no labels."""
    write_pictures(tmp_path / "train")
    names = sorted(path.stem for path in (tmp_path / "train").rglob("*.png"))
    save(tmp_path / "test/unknown.png", noise())
    rows = [(name, "ab"[i % 2]) for i, name in enumerate(names)]
    write_table(tmp_path / "train.csv", [("id", "label"), *rows])
    dataset = load(tmp_path)
    assert {Path(file).stem: label for file, label in labels_by_file(dataset).items()} == dict(rows)
    assert dataset.remarks[0] == "1 pictures that no table names left out"
    # A column of that name with something else is none of pictures.
    write_table(tmp_path / "train.csv", [("id", "label"), *((f"row {i}", "a") for i in range(9))])
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/train.csv: has no column file or file_name")


def test_a_table_without_a_label_is_named_though_there_are_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "images")
    write_table(tmp_path / "gt.csv", [("image", "melanoma", "nevus"), ("a", "1", "0")])
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path}/gt.csv: has no column label or labels or class or target")
    assert "but image, melanoma, nevus; name it" in said


def test_labels_that_are_fractions_are_refused(tmp_path: Path) -> None:
    rows = [(i / 4, *range(i, i + 16)) for i in range(8)]
    write_table(tmp_path / "x.csv", [("label", *(f"p{i}" for i in range(16))), *rows])
    assert "the labels are fractions, such as 0.25; classes are names" in refusal(
        tmp_path / "x.csv"
    )


def test_one_hot_labels_are_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.eye(3)[np.arange(9) % 3])
    labels = labels_by_file(load(tmp_path / "x.npz"))
    assert labels == {f"images[{i}]": str(i % 3) for i in range(9)}
    np.savez(tmp_path / "y.npz", images=images, labels=np.ones((9, 3)))
    assert "a picture has one label here, not several" in refusal(tmp_path / "y.npz")
