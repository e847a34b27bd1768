"""Pictures of digits, as somebody's telephone or scanner makes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.storage.tensors import PREPARED, Array, read_split
from tests.helpers.project import Project
from tools.predict import as_mnist, label_of, read_picture

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits(reproduced: Project) -> tuple[Array, Array]:
    """Two hundred images of test, uint8 (200, 28, 28), and their labels."""
    split = read_split(reproduced.path / "data/prepared/test.safetensors", PREPARED)
    return split["images"][:200, 0], split["labels"][:200]


def shifted(image: Array) -> Image.Image:
    """Return a digit blown up to 200 x 200, dark on light, somewhere on a larger sheet."""
    sheet = Image.new("L", (260, 260), "white")
    big = Image.fromarray(255 - image).resize((200, 200), Image.Resampling.BICUBIC)
    sheet.paste(big, (int(RANDOM.integers(61)), int(RANDOM.integers(61))))
    return sheet


def on_green(image: Array) -> Image.Image:
    """Return a red digit, small and stretched, on green: as bright as its background."""
    share = image[..., None] / 255
    colours = (1 - share) * (40, 140, 40) + share * (200, 60, 40)
    return Image.fromarray(colours.astype(np.uint8)).resize((90, 110))


def on_nothing(image: Array) -> Image.Image:
    """Return a white digit on a transparent background."""
    return Image.fromarray(np.dstack([np.full((28, 28, 3), 255, np.uint8), image]))


def photographed(image: Array) -> Image.Image:
    """Return blue ink on paper that is lit from a side, with the noise of a camera."""
    ink = np.asarray(Image.fromarray(image).resize((560, 560)), float)[..., None] / 255
    ink = np.pad(ink, ((100, 60), (40, 120), (0, 0)))
    light = 160 + 50 * np.linspace(0, 1, ink.shape[1])[None, :, None] + np.zeros(3)
    seen = (1 - ink) * light + ink * (40, 60, 140)
    seen += RANDOM.normal(0, 6, ink.shape)
    return Image.fromarray(seen.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("make", [shifted, on_green, on_nothing, photographed])
def test_a_picture_becomes_what_mnist_has(
    digits: tuple[Array, Array], tmp_path: Path, make: Callable[[Array], Image.Image]
) -> None:
    """MNIST's own digits come back from it, their strokes not far from where they were."""
    suffix = ".jpg" if make is photographed else ".png"
    for image in digits[0][:20]:
        make(image).save(tmp_path / f"digit{suffix}")
        found = as_mnist(read_picture(tmp_path / f"digit{suffix}"))
        assert found.dtype == np.uint8
        assert found.max() == 255
        rows, columns = (np.flatnonzero(found.any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) == 19  # a box of 20 x 20
        centre = [(np.arange(28) @ found.sum(axis)) / found.sum() for axis in (1, 0)]
        assert np.abs(np.array(centre) - 14).max() <= 0.51
        if make is not on_green:  # which stretches them
            moved = [np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
            assert max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in moved) > 0.8


def test_a_grey_of_sixteen_bits_and_a_turned_photo_are_seen_right(
    digits: tuple[Array, Array], tmp_path: Path
) -> None:
    image = digits[0][0]
    plain, deep, turned = (tmp_path / f"{name}.png" for name in ("plain", "deep", "turned"))
    Image.fromarray(image).save(plain)
    Image.fromarray(image.astype(np.uint16) * 200).save(deep)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it clockwise to see it
    Image.fromarray(np.rot90(image).copy()).save(turned, exif=exif)
    expected = as_mnist(read_picture(plain)).astype(int)
    for path in (deep, turned):
        assert np.abs(as_mnist(read_picture(path)) - expected).max() <= 2


def test_specks_are_not_part_of_the_digit(digits: tuple[Array, Array], tmp_path: Path) -> None:
    clean = shifted(digits[0][0])
    speckled = clean.copy()
    speckled.putpixel((3, 3), 0)
    speckled.putpixel((255, 250), 0)
    clean.save(tmp_path / "clean.png")
    speckled.save(tmp_path / "speckled.png")
    one, other = (as_mnist(read_picture(tmp_path / f"{n}.png")) for n in ("clean", "speckled"))
    assert np.array_equal(one, other)


def test_a_cnn_is_right_about_pictures_of_test_digits(
    project: Project, digits: tuple[Array, Array], tmp_path: Path
) -> None:
    """In a folder whose file names give the labels, and in one whose sub-folders do."""
    settings = "model=cnn width=16 precision=float32 optimizer=adam schedule=one_cycle replicas=1"
    for setting in settings.split():
        name, _, value = setting.partition("=")
        project.run("sed", "-i", f"s/^  {name}: [a-z0-9]*/  {name}: {value}/", "params.yaml")
    project.run("dvc", "repro", "train")
    for number, (image, label) in enumerate(zip(*digits, strict=True)):
        for path in (f"names/{label}-{number}.png", f"folders/{label}/{number}.png"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            shifted(image).save(tmp_path / path)
    for folder in ("names", "folders"):
        command = ["python", "-m", "tools.predict", str(tmp_path / folder)]
        said = json.loads(project.run(*command, "--json").stdout)
        assert said["accuracy"]["n"] == len(said["pictures"]) == 200
        right = [one["label"] == one["predicted"] for one in said["pictures"]]
        assert said["accuracy"]["value"] == np.mean(right)
        assert np.mean(right) >= 0.95
        table = project.run(*command).stdout
        assert f"accuracy {np.mean(right):.1%} (95 % interval " in table
        assert len(table.splitlines()) == 204


def test_one_picture_gets_a_digit_and_a_confidence(
    reproduced: Project, digits: tuple[Array, Array], tmp_path: Path
) -> None:
    path = tmp_path / "digit.png"
    shifted(digits[0][0]).save(path)
    out = reproduced.run("python", "-m", "tools.predict", str(path)).stdout
    [one] = json.loads(reproduced.run("python", "-m", "tools.predict", str(path), "--json").stdout)[
        "pictures"
    ]
    assert out == f"{one['predicted']}, with a confidence of {one['confidence']:.1%}\n"
    assert one["label"] is None
    assert sum(one["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert one["probabilities"][one["predicted"]] == one["confidence"] == max(one["probabilities"])


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("7.png", 7),
        ("7-b.png", 7),
        ("3/x.png", 3),
        ("3/7.png", 3),
        ("17.png", None),
        ("b7.png", None),
    ],
)
def test_labels_stand_in_names(path: str, label: int | None) -> None:
    assert label_of(Path("photos", path)) == label


def test_bad_pictures_are_all_named(reproduced: Project, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (200, 180, 20)).save(tmp_path / "blank.jpg")
    noise = RANDOM.normal(128, 8, (300, 300)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.new("L", (10_000, 10_000)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "larger.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes((reproduced.path / "metrics/samples.png").read_bytes()[:300])
    (tmp_path / "notes.txt").write_text("not looked at")
    long = tmp_path / f"{'x' * 400}.png"
    names = [str(tmp_path), str(tmp_path / "none.png"), str(long)]
    done = reproduced.run("python", "-m", "tools.predict", *names, ok=False)
    assert done.returncode == 2
    assert done.stdout == ""
    expected = {
        "blank.jpg": "nothing is drawn on it",
        "cut.png": "not a whole picture",
        "empty.png": "not a PNG or JPEG",
        "large.png": "more than 89,478,485 pixels",
        "larger.png": "more than 89,478,485 pixels",
        "noise.png": "nothing is drawn on it",
        "text.png": "not a PNG or JPEG",
        "none.png": "not found",
        long.name: "cannot be read (File name too long)",
    }
    lines = done.stderr.splitlines()
    assert len(lines) == len(expected)
    for line, (name, message) in zip(lines, expected.items(), strict=True):
        assert line.startswith(f"{tmp_path / name}: {message}")


def test_what_is_no_model_of_ours_is_refused(reproduced: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = reproduced.run("python", "-m", "tools.predict", str(tmp_path / "empty"), ok=False)
    assert done.stderr.startswith(f"{tmp_path / 'empty'}: no picture is in it")
    for checkpoint, message in (
        ("data/checkpoints/replicas.safetensors", "weight is F32 [4, 10, 784] instead of"),
        ("data/logits/val.safetensors", "holds no model"),
        ("README.md", "not a whole tensor file"),
        ("none", "not found"),
    ):
        command = [
            "python",
            "-m",
            "tools.predict",
            "metrics/samples.png",
            "--checkpoint",
            checkpoint,
        ]
        done = reproduced.run(*command, ok=False)
        assert done.returncode == 2
        assert done.stderr.startswith(f"{checkpoint}: {message}")
        assert len(done.stderr.splitlines()) == 1
