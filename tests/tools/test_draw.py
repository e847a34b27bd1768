"""The page to draw on, in a real browser."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from stages.learning.checkpoints import read_checkpoint, write_checkpoint
from stages.learning.models import build_model, predict
from stages.storage.split_files import read_split
from tests.helpers.browser import ShowPage, needs_browser
from tests.helpers.project import Project
from tests.helpers.training import WIDTHS
from tools.draw import DRAWN

pytestmark = needs_browser
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def drawn(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the page."""
    folder = tmp_path_factory.mktemp("drawn") / "project"
    project = Project(shutil.copytree(reproduced.path, folder))
    assert project.run("python", "-m", "tools", "draw").stdout.startswith("draw.html: open it;")
    return project


def circle(steps: int = 40) -> list[tuple[float, float]]:
    angles = [2 * math.pi * step / steps for step in range(steps + 1)]
    return [(140 + 65 * math.sin(angle), 140 - 95 * math.cos(angle)) for angle in angles]


def line(steps: int = 10) -> list[tuple[float, float]]:
    return [(150 - 2 * step, 40 + 20 * step) for step in range(steps + 1)]


@pytest.mark.parametrize(("strokes", "digit"), [(circle(), "0"), (line(), "1")])
@pytest.mark.parametrize("touch", [False, True])
def test_a_drawn_digit_is_classified(
    drawn: Project,
    show_page: ShowPage,
    strokes: list[tuple[float, float]],
    digit: str,
    touch: bool,
) -> None:
    page = show_page(drawn.path / "draw.html", has_touch=touch)
    canvas = page.locator("#canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    points = [(box["x"] + x, box["y"] + y) for x, y in strokes]
    if touch:
        session = page.context.new_cdp_session(page)
        for number, (x, y) in enumerate(points):
            kind = "touchMove" if number else "touchStart"
            at = {"type": kind, "touchPoints": [{"x": x, "y": y}]}
            session.send("Input.dispatchTouchEvent", at)
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    else:
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
        page.mouse.move(box["x"] + 5, box["y"] + 270)  # draws nothing more
    probabilities = [
        float(text[:-2])
        for text in page.locator("#probabilities td:last-child").all_text_contents()
    ]
    assert sum(probabilities) == pytest.approx(100, abs=0.5)
    assert probabilities[int(digit)] == max(probabilities)
    assert (page.locator("#prediction").text_content() or "").startswith(f"{digit}, ")
    pixels = (
        "document.getElementById('model-input').getContext('2d').getImageData(0, 0, 28, 28).data"
    )
    values = page.evaluate(f"Array.from({pixels})")
    image = np.array(values).reshape(28, 28, 4)[..., 0]
    assert image.max() == 255
    rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) == 19
    assert np.abs((np.arange(28) @ image.sum(1)) / image.sum() - 14) <= 0.51
    page.locator("#clear").click()
    assert set(page.locator("#probabilities td:last-child").all_text_contents()) == {"–"}  # noqa: RUF001


def test_a_picture_is_classified_without_a_pointer(
    drawn: Project, show_page: ShowPage, tmp_path: Path
) -> None:
    """As the model classifies it, dark on light and light on dark, and whatever its size is."""
    model, _ = read_checkpoint(drawn.path / "data/checkpoints/model.safetensors")
    images = read_split(drawn.path / "data/prepared/test.safetensors")[1]["images"][:8]
    expected = predict(model, torch.from_numpy(images)).argmax(1).tolist()
    page = show_page(drawn.path / "draw.html")
    found = []
    for number, [image] in enumerate(images):
        picture = Image.fromarray(image if number % 2 else 255 - image)
        picture = ImageOps.expand(picture, 9, 255 * (1 - number % 2))
        path = tmp_path / f"{number}.png"
        picture.resize((70 * (number + 1), 90 * (number + 1))).save(path)
        page.set_input_files("#file", path)
        page.locator("#prediction:not(:empty)").wait_for()
        found.append(int((page.locator("#prediction").text_content() or "")[0]))
        page.locator("#clear").click()
        assert page.locator("#prediction").text_content() == ""
    assert found == expected
    path = tmp_path / "note.txt"
    path.write_text("no picture")
    page.set_input_files("#file", path)
    page.locator("text=this file is no picture").wait_for()
    Image.new("L", (20, 20), 99).save(tmp_path / "empty.png")
    page.set_input_files("#file", tmp_path / "empty.png")
    page.locator("text=nothing is drawn in this file").wait_for()


@pytest.mark.parametrize("name", DRAWN)
def test_the_page_computes_the_logits_of_a_checkpoint(
    small_project: Project, show_page: ShowPage, name: str
) -> None:
    path = small_project.path / "data/checkpoints/model.safetensors"
    info = read_checkpoint(path)[1]
    model = build_model(name, WIDTHS[name], info.shape, 10, torch.Generator().manual_seed(0))
    for buffer in model.buffers():  # of batch normalization; other than at the start
        buffer += 0.25
    write_checkpoint(path, model, name, WIDTHS[name], info)
    small_project.run("python", "-m", "tools", "draw")
    _, test = read_split(small_project.path / "data/prepared/test.safetensors")
    images = test["images"][:50]
    page = show_page(small_project.path / "draw.html")
    result = page.evaluate("images => images.map(logits)", images.reshape(50, -1).tolist())
    expected = predict(model, torch.from_numpy(images)).numpy()
    assert np.abs(np.array(result) - expected).max() < 1e-4
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", DRAWN)
def test_the_page_computes_models_of_any_size(
    drawn: Project, show_page: ShowPage, name: str
) -> None:
    """Also where max pooling leaves out a row, and where no convolution comes last."""
    page = show_page(drawn.path / "draw.html")
    generator = torch.Generator().manual_seed(0)
    for size in (8, 9, 11, 13, 20, 29, 32):
        model = build_model(name, WIDTHS[name], (1, size, size), 4, generator)
        for tensor in model.state_dict().values():
            tensor.add_(torch.rand(tensor.shape, generator=generator) / 10)
        weights = {
            key: {"shape": list(tensor.shape), "values": tensor.flatten().tolist()}
            for key, tensor in model.state_dict().items()
        }
        images = RANDOM.integers(0, 256, (5, 1, size, size), np.uint8)
        about = {"name": name, "width": WIDTHS[name], "size": size, "classes": list("abcd")}
        result = page.evaluate(
            """({ about, tensors, images }) => {
                Object.assign(model, about);
                Object.keys(weights).forEach((name) => delete weights[name]);
                Object.assign(weights, tensors);
                return [findProblem(), images.map(logits)];
            }""",
            {"about": about, "tensors": weights, "images": images.reshape(5, -1).tolist()},
        )
        assert result[0] is None
        expected = predict(model, torch.from_numpy(images)).numpy()
        assert np.abs(np.array(result[1]) - expected).max() < 1e-4


def test_a_drawing_is_brought_to_the_size_of_the_data(drawn: Project, show_page: ShowPage) -> None:
    page = show_page(drawn.path / "draw.html")
    ink = np.zeros((60, 60), int)
    ink[20:50, 30:40] = 255
    for size, box in ((8, 8), (16, 10), (28, 20)):
        image = np.array(
            page.evaluate(f"ink => toStrokes(ink, 60, {size}, {box})", ink.ravel().tolist())
        )
        rows, columns = (np.flatnonzero(image.reshape(size, size).any(axis)) for axis in (1, 0))
        assert image.max() == 255
        assert np.ptp(rows) + 1 == box
        assert np.ptp(columns) + 1 == round(box / 3)
        assert abs(rows.mean() - size / 2) <= 0.5  # a centre between two pixels is a tie


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name": "linear"', '"name": "resnet"', "This page cannot compute a model resnet: "),
        ('"bias": {', '"offset": {', "to it bias is 10, and in the checkpoint missing. "),
        ('"shape": [10, 784]', '"shape": [784, 10]', "to it weight is 10 \u00d7 784, and "),
    ],
)
def test_a_page_says_that_it_cannot_compute_a_model(
    drawn: Project, show_page: ShowPage, old: str, new: str, message: str
) -> None:
    """Such as one that somebody has added to the models."""
    text = (drawn.path / "draw.html").read_text()
    assert text.count(old) == 1
    path = drawn.path / "other/draw.html"
    path.parent.mkdir()
    path.write_text(text.replace(old, new))
    page = show_page(path)
    assert message in (page.locator("main").text_content() or "")
    assert page.locator("#canvas").count() == 0
    shutil.rmtree(path.parent)


def test_what_no_page_can_show_is_refused(small_project: Project) -> None:
    def refusal(*arguments: str) -> str:
        done = small_project.run("python", "-m", "tools", "draw", *arguments, ok=False)
        assert (done.returncode, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert not (small_project.path / "draw.html").exists()
        return line

    path = small_project.path / "data/checkpoints/model.safetensors"
    content = bytearray(path.read_bytes())
    model, info = read_checkpoint(path)
    clothes = info.model_copy(update={"title": "clothes", "style": "natural", "ink_box": None})
    write_checkpoint(path, model, "linear", 0, clothes)
    assert "trained on clothes, which are no drawings; classify pictures" in refusal()
    content[-5] ^= 1
    path.write_bytes(content)
    assert "data/checkpoints/model.safetensors: altered since it was written" in refusal()
    path.write_bytes(bytes(3_000_000))
    assert "workspace: no page holds a model of 3,000,000 bytes; classify" in refusal()
    path.unlink()
    shutil.rmtree(small_project.path / ".dvc/cache/files")
    assert "data/checkpoints/model.safetensors is not there; `dvc pull`" in refusal()
    assert "nowhere: no commit, branch, tag or experiment" in refusal("nowhere")


def test_names_of_classes_and_revisions_are_text(
    small_project: Project, show_page: ShowPage
) -> None:
    script = "</script><script>window.ran=1</script>"
    path = small_project.path / "data/checkpoints/model.safetensors"
    model, info = read_checkpoint(path)
    names = (script, *info.classes[1:])
    hostile = info.model_copy(update={"title": script, "classes": names})
    write_checkpoint(path, model, "linear", 0, hostile)
    small_project.run("python", "-m", "tools", "draw")
    page = show_page(small_project.path / "draw.html")
    assert not page.evaluate("window.ran")
    assert page.locator("#probabilities th").first.text_content() == script
