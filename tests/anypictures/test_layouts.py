"""Folders and archives of pictures as people have them: splits, litter, links, copies, names."""

import io
import os
import shutil
import subprocess
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from anypictures import dataset as module
from anypictures.containers import Tar
from anypictures.identities import Row, units_of
from anypictures.idx import Array
from anypictures.options import parse_columns, parse_range
from tests.helpers.sources import (
    images_by_file,
    labels_by_file,
    load,
    noise,
    refusal,
    save,
    split_by_file,
    two_classes,
)


def zipped(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def tarred(folder: Path, compression: str = "") -> Path:
    path = folder.with_suffix(f".tar{compression and '.'}{compression}")
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.add(folder, ".")
    return path


PACKERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda folder: folder,
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda folder: tarred(folder, "gz"),
    "tar.xz": lambda folder: tarred(folder, "xz"),
    "zip called .tar": lambda folder: zipped(folder).rename(folder.with_suffix(".tar")),
}


def check(path: Path, pixels: dict[str, Array]) -> None:
    """The pictures are those of `pixels`, each in the folder of its class."""
    images = images_by_file(fetched := load(path))
    assert images.keys() == pixels.keys()
    for file, values in pixels.items():
        assert (images[file][0] == values).all()
    assert labels_by_file(fetched) == {file: file.split("/")[-2] for file in pixels}


@pytest.mark.parametrize("packer", PACKERS)
def test_pictures_are_read_from_what_has_them(tmp_path: Path, packer: str) -> None:
    pixels = two_classes(tmp_path / "data")
    check(PACKERS[packer](tmp_path / "data"), pixels)


@pytest.mark.parametrize("packer", ["folder", "zip", "tar"])
def test_one_folder_around_everything_is_looked_through(tmp_path: Path, packer: str) -> None:
    pixels = two_classes(tmp_path / "data/archive/My pictures")
    path = PACKERS[packer](tmp_path / "data")
    check(path, {f"archive/My pictures/{name}": values for name, values in pixels.items()})
    assert "the classes are in archive/My pictures/" in load(path).remarks


def test_folders_within_a_class_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    two_classes(tmp_path)
    for name in ("a/monday/1.png", "a/tuesday/x/1.png", "b/1/2/3/4.png"):
        save(tmp_path / name, noise())
    oracle = ImageFolder(tmp_path)
    fetched = load(tmp_path)
    assert list(fetched.classes) == oracle.classes
    assert labels_by_file(fetched) == {
        str(Path(name).relative_to(tmp_path)): oracle.classes[label]
        for name, label in oracle.samples
    }


@pytest.mark.parametrize("packer", ["folder", "zip"])
def test_what_operating_systems_leave_is_left_out_and_counted(tmp_path: Path, packer: str) -> None:
    data = tmp_path / "data"
    pixels = two_classes(data)
    for name in (
        *("__MACOSX/a/._1.png", ".DS_Store", "a/.DS_Store", "a/._1.png", "b/Thumbs.db"),
        *("desktop.ini", "a/.ipynb_checkpoints/1-checkpoint.png"),
    ):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(b"litter")
    for name in ("README.md", "metadata.csv", "a/notes.txt"):
        (data / name).write_text("author,year\nme,2026\n")
    path = PACKERS[packer](data)
    check(path, pixels)
    remarks = load(path).remarks
    assert "7 hidden files and files of operating systems left out" in remarks
    assert any(line.startswith("3 documents, such as ") for line in remarks)


NAMES = [
    *(("Training", "Testing", None), ("train", "test", None), ("TRAIN", "Test", None)),
    *(("train", "test", "valid"), ("train", "test", "val"), ("training", "testing", "validation")),
]


@pytest.mark.parametrize("names", NAMES, ids=str)
@pytest.mark.parametrize("is_below", [False, True])
def test_splits_have_their_usual_names(
    tmp_path: Path, names: tuple[str, str, str | None], is_below: bool
) -> None:
    """SPLIT/CLASS/NAME, or CLASS/SPLIT/NAME."""
    expected = {}
    for split, name in zip(("train", "test", "val"), names, strict=True):
        for class_name in ("cat", "dog") if name else ():
            for i in range(4):
                parts = (class_name, str(name)) if is_below else (str(name), class_name)
                file = "/".join((*parts, f"{i}.png"))
                save(tmp_path / file, noise())
                expected[file] = split
    fetched = load(tmp_path)
    assert split_by_file(fetched) == expected
    assert fetched.classes == ("cat", "dog")


def test_validation_without_test_leaves_the_test_split_to_the_hash(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        two_classes(tmp_path / split, 20)
    splits = split_by_file(load(tmp_path))
    assert {splits[file] for file in splits if file.startswith("valid")} == {"val"}
    assert {splits[file] for file in splits if file.startswith("train")} == {"train", "test"}


def test_pictures_of_no_class_are_all_named(tmp_path: Path) -> None:
    two_classes(tmp_path)
    for i in range(3):
        save(tmp_path / f"{i}.png", noise())
    lines = refusal(tmp_path).splitlines()
    assert lines == [
        f"{tmp_path}/{i}.png: not in the folder of a class; move it to CLASS/, or remove it"
        for i in range(3)
    ]
    other = tmp_path / "other"
    for split in ("Training", "Testing"):
        save(other / split / "1.png", noise())
    assert refusal(other).splitlines() == [
        f"{other}/{split}/1.png: not in the folder of a class; move it to {split}/CLASS/, or "
        "remove it"
        for split in ("Testing", "Training")
    ]


def test_copies_are_in_one_split_and_are_counted(tmp_path: Path) -> None:
    """Also in other bytes, and under another name."""
    for name in ("a", "b"):
        for i in range(40):
            pixels = noise()
            for level in (1, 9):
                save(tmp_path / f"{name}/{i}-{level}.png", pixels, compress_level=level)
    fetched = load(tmp_path)
    splits = split_by_file(fetched)
    assert fetched.found["copies"] == 80
    assert {*splits.values()} == {"train", "test"}
    for file, split in splits.items():
        assert split == splits[file.replace("-1", "-9")]


def test_all_pictures_in_two_classes_are_named_in_one_run(tmp_path: Path) -> None:
    pixels = two_classes(tmp_path)
    for i in range(5):
        save(tmp_path / f"b/copy-{i}.png", pixels[f"a/{i}.png"], compress_level=1)
    lines = refusal(tmp_path).splitlines()
    assert len(lines) == 5
    for i in range(5):
        assert any(
            line.startswith(
                f"{tmp_path}: the same picture is in two classes: a/{i}.png (a), b/copy-{i}.png (b)"
            )
            for line in lines
        )
    fetched = load(tmp_path, skip_broken=10)
    assert len(fetched.found["broken"]) == 10
    assert len(labels_by_file(fetched)) == 15


def test_copies_in_two_splits_are_named_and_those_of_test_may_stay(tmp_path: Path) -> None:
    train = two_classes(tmp_path / "train")
    two_classes(tmp_path / "test")
    for i in range(3):
        save(tmp_path / f"test/a/copy-{i}.png", train[f"a/{i}.png"])
    assert len(refusal(tmp_path).splitlines()) == 3
    splits = split_by_file(load(tmp_path, skip_broken=3))
    assert all(f"train/a/{i}.png" not in splits for i in range(3))
    assert sum(split == "test" for split in splits.values()) == 23


def test_broken_files_may_be_left_out_and_are_listed(tmp_path: Path) -> None:
    two_classes(tmp_path)
    (tmp_path / "a/cut.png").write_bytes((tmp_path / "a/1.png").read_bytes()[:60])
    (tmp_path / "b/text.png").write_text("no picture")
    lines = refusal(tmp_path, skip_broken=1).splitlines()
    assert [line.split(": ")[1].split(" (")[0] for line in lines] == [
        "not a whole picture",
        "not a picture; save it as PNG, JPEG, BMP, GIF, TIFF or WebP",
    ]
    fetched = load(tmp_path, skip_broken=2)
    assert {*fetched.found["broken"]} == {"a/cut.png", "b/text.png"}
    assert len(labels_by_file(fetched)) == 20


def test_links_of_folders_are_refused_and_those_of_dvc_are_followed(tmp_path: Path) -> None:
    """DVC does not follow links of folders, so that its hash would leave their pictures out."""
    data = tmp_path / "data"
    pixels = two_classes(data)
    two_classes(tmp_path / "elsewhere")
    (data / "c").symlink_to(tmp_path / "elsewhere/a")
    assert refusal(data) == (
        f"{data}/c: a link to a folder, which DVC does not track; move or copy the folder to its "
        "place"
    )
    (data / "c").unlink()
    # As DVC makes them where cache.type is symlink.
    cache = tmp_path / "cache/files/md5/0a"
    cache.mkdir(parents=True)
    (data / "a/1.png").rename(cache / ("1" * 30))
    (data / "a/1.png").symlink_to(cache / ("1" * 30))
    check(data, pixels)
    (data / "a/1.png").unlink()
    (data / "a/1.png").symlink_to(tmp_path / "elsewhere/a/1.png")
    assert "a/1.png: a link out of " in refusal(data)


def test_a_tar_file_is_read_as_tar_unpacks_it(tmp_path: Path) -> None:
    """Of two members of one name the last counts, and hard links are followed."""
    data, path = tmp_path / "data", tmp_path / "data.tar"
    pixels = two_classes(data)
    subprocess.run(["tar", "cf", path, "-C", data, "."], check=True)
    pixels["a/1.png"] = noise()
    save(data / "a/1.png", pixels["a/1.png"])
    os.utime(data / "a/1.png", (2**31, 2**31))
    (data / "a/linked.png").hardlink_to(data / "a/2.png")
    subprocess.run(["tar", "uf", path, "-C", data, "."], check=True)
    pixels["a/linked.png"] = pixels["a/2.png"]
    check(path, pixels)
    assert any("replaced by later ones of the same name" in line for line in load(path).remarks)
    with tarfile.open(path, "w") as tar:
        tar.add(data / "a", "a")  # the link, and what it links to, in one file
        tar.add(data / "b", "b")
    check(path, pixels)


def tar_of(path: Path, *members: tarfile.TarInfo) -> Path:
    content = io.BytesIO()
    noise_picture = save(path.with_suffix(".png"), noise()).read_bytes()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for member in members:
            member.size = len(noise_picture) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(noise_picture))
    path.write_bytes(content.getvalue())
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (tar_member("../a/1.png"), "../a/1.png: leads out of the archive"),
        (tar_member("/etc/a/1.png"), "/etc/a/1.png: leads out of the archive"),
        (tar_member("a/1.png", tarfile.SYMTYPE, "/etc/passwd"), "a/1.png is a link"),
        (tar_member("a/1.png", tarfile.LNKTYPE, "b/none.png"), "a/1.png is a link"),
        (tar_member("a/1.png", tarfile.FIFOTYPE), "a/1.png is not a plain file"),
        (tar_member("a/1.png", tarfile.CHRTYPE), "a/1.png is not a plain file"),
    ],
)
def test_a_hostile_tar_file_is_refused(
    tmp_path: Path, member: tarfile.TarInfo, problem: str
) -> None:
    path = tar_of(tmp_path / "x.tar", tar_member("b/1.png"), member)
    assert refusal(path).startswith(f"{path}: {problem}")


def test_a_hostile_zip_file_is_refused(tmp_path: Path) -> None:
    picture = save(tmp_path / "1.png", noise()).read_bytes()
    path = tmp_path / "x.zip"

    def written(name: str, content: bytes = picture, mode: int = 0o100644) -> str:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
        return refusal(path)

    assert written("../a/1.png") == (
        f"{path}: ../a/1.png: leads out of the archive; make the archive anew"
    )
    assert "a/1.png: a link; put the file in its place" in written("a/1.png", mode=0o120777)
    assert written("a\\..\\..\\1.png").startswith(f"{path}: a/../../1.png: leads out")
    written("a/1.png")
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of encryption, here and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert refusal(path) == f"{path}: a/1.png: needs a password; unpack it and name the folder"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(11):
            archive.writestr(f"a/{i}.png", bytes(100_000_000))
    assert "would be more than 200 times as large unpacked" in refusal(path)
    path.write_bytes(path.read_bytes()[:-30])
    assert "a broken zip file" in refusal(path)


def test_a_bomb_in_a_compressed_tar_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anypictures.containers.ALWAYS_ALLOWED", 1_000_000)
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("a/1.png")
        member.size = 20_000_000
        tar.addfile(member, io.BytesIO(bytes(20_000_000)))
    assert "would be more than 200 times as large unpacked" in refusal(path)
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:5_000])
    assert "cannot be unpacked" in refusal(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"Rar!\x1a\x07", "a RAR archive; unpack it, and name the folder"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it, and name the folder"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save its arrays as .npz"),
        (b"\x93NUMPY\x01\0", "one array; save images and labels together as .npz"),
        (b"\x80\x04\x95", "a file of Python's objects, which can run any code; it is never opened"),
        (b"\0\0\x08\x03", "one IDX file; name the folder that has the images and the labels"),
        (b"\x89PNG\r\n\x1a\n", "one picture; name the folder of all of them"),
        (b"", "an empty file; name a folder"),
        (b"\xfe\xff\0\1", "nothing known; name a folder"),
    ],
)
def test_a_source_is_recognised_by_its_first_bytes(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "pictures.tar"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: {sentence}")
    assert path.read_bytes() == content  # and it is as it was


def test_no_message_has_a_command_that_writes_to_a_file() -> None:
    """One did, and overwrote the archive of whoever typed it."""
    for path in Path(module.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "--create" not in text
        assert "--file" not in text


def test_names_of_classes(tmp_path: Path) -> None:
    """A Mac writes é as two characters, others as one: it is one class."""
    for form in ("NFC", "NFD"):
        for i in range(3):
            save(tmp_path / unicodedata.normalize(form, "café") / f"{form}{i}.png", noise())
    two_classes(tmp_path)
    assert load(tmp_path).classes == ("a", "b", "café")
    for name in ("Cat", "cat"):
        save(tmp_path / name / "1.png", noise())
    assert (
        "the classes 'Cat' and 'cat' differ in capitals or spaces alone" in load(tmp_path).remarks
    )
    for name in ("a\u00a0b", "soft\u00adhyphen", "line\nbreak", "x" * 101):
        save(tmp_path / name / "1.png", noise())
    lines = refusal(tmp_path).splitlines()
    assert [line.removeprefix(f"{tmp_path}: ") for line in lines] == [
        "the class 'a\\xa0b' has characters that cannot be printed (U+00A0); rename it",
        "the class 'line\\nbreak' has characters that cannot be printed (U+000A); rename it",
        "the class 'soft\\xadhyphen' has characters that cannot be printed (U+00AD); rename it",
        "the class xxxxxxxxxxxxxxxxxxxx... has a name of 101 characters; shorten it",
    ]


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    for name in range(11):
        save(tmp_path / str(name) / "1.png", noise())
    assert load(tmp_path).classes == tuple(map(str, range(11)))


def test_what_groups_and_copies_link_is_one_unit() -> None:
    rows = [
        *(Row("1", "aa", "p"), Row("2", "bb", "p"), Row("3", "bb", "q"), Row("4", "cc", "q")),
        *(Row("5", "dd"), Row("6", "dd"), Row("7", "ee"), Row("8", "ff", "r")),
    ]
    units = units_of(rows)
    assert units == ["group p"] * 4 + ["dd", "dd", "ee", "group r"]
    assert units_of(rows[::-1]) == units[::-1]


def test_a_picture_that_comes_while_others_are_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise dvc.lock would have the hash of a folder with it, and the tensors lack it."""
    two_classes(tmp_path)
    before = module.conflicts

    def late(*arguments: object) -> dict[int, str]:
        save(tmp_path / "a/late.png", noise())
        return before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "conflicts", late)
    assert "pictures came or went while they were read" in refusal(tmp_path)


def test_images_that_need_too_much_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_classes(tmp_path)
    monkeypatch.setattr(os, "sysconf", lambda name: 10)
    assert refusal(tmp_path).startswith("size: 20 images of 8 x 8 pixels take")


def test_a_million_members_take_bounded_memory(tmp_path: Path) -> None:
    """Here a thousandth of them: what is kept of a member is its name and its place."""
    path = tar_of(tmp_path / "x.tar", *(tar_member(f"a/{i}.png") for i in range(1_000)))
    with path.open("rb") as file:
        tar = Tar(path, file)
        assert len(tar.names) == 1_000
        assert len(tar.read("a/999.png", 10_000)) == tar.places["a/999.png"][1]
        assert not [name for name in vars(tar) if "info" in name]


@pytest.mark.parametrize(
    ("check", "text", "problem"),
    [
        (parse_range, "4095", "should be auto, dtype or LOW..HIGH"),
        (parse_range, "5..1", "should be auto, dtype or LOW..HIGH"),
        (parse_columns, "diagnosis", "should be auto, or ROLE:COLUMN"),
        (parse_columns, "label:", "should be auto, or ROLE:COLUMN"),
    ],
)
def test_options_are_checked(check: Callable[[str], object], text: str, problem: str) -> None:
    assert check("auto") in (None, {})
    with pytest.raises(ValueError, match=problem):
        check(text)


def test_options_are_parsed() -> None:
    assert parse_range("-1.5..1e3") == (-1.5, 1_000)
    columns = {"label": "diagnosis", "picture": "image id"}
    assert parse_columns("label:diagnosis picture:image id") == columns


def test_an_archive_in_another_is_no_picture(tmp_path: Path) -> None:
    two_classes(tmp_path / "x")
    (tmp_path / "x/a/more.zip").write_bytes(b"PK")
    assert refusal(tmp_path / "x") == (
        f"{tmp_path}/x/a/more.zip: an archive in another; unpack it, and name its folder"
    )
