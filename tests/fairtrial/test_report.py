"""The report in a real browser, Chromium, without a network."""

import contextlib
import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from stages.learning.checkpoints import read_checkpoint, write_checkpoint
from stages.learning.models import build_model, predict
from stages.storage.splits import read_split
from tests.helpers.project import Project

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)


RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def show_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file in the browser, and fail on warnings, errors and requests to elsewhere."""
    problems: list[str] = []
    contexts = []

    def show(path: Path, **options: Any) -> Page:
        def check_message(message: ConsoleMessage) -> None:
            if message.type != "warning" or path.name == "report.html":  # DVC's own page has some
                problems.append(message.text)

        def check_request(request: Request) -> None:
            if not request.url.startswith(("data:", path.parent.as_uri())):
                problems.append(request.url)

        contexts.append(browser.new_context(offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", check_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", check_request)
        page.goto(path.as_uri())
        for test in page.locator("#test").all():  # of a report; it is folded
            assert not test.locator(".plot svg").count()
            page.get_by_role("link", name="Test", exact=True).click()
        # Not by wait_for_function, which evaluates a text: the policy of the page forbids that.
        page.wait_for_selector(".plot:not(:has(svg.marks))", state="detached")
        return page

    yield show
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="module")
def reported(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a worse experiment in its workspace, and a report."""
    folder = tmp_path_factory.mktemp("reported") / "project"
    project = Project(shutil.copytree(reproduced.path, folder))
    project.run("dvc", "exp", "run", "-S", "train.lr=0.005")
    project.run("python", "-m", "fairtrial.report")
    return project


def tables(page: Page) -> list[list[list[str]]]:
    """Return the cells of all tables of a page."""
    cells = "[...row.cells].map(cell => cell.textContent)"
    result: list[list[list[str]]] = page.evaluate(
        f"[...document.querySelectorAll('table')].map(t => [...t.rows].map(row => {cells}))"
    )
    return result


def test_everything_is_there(reported: Project, show_page: Callable[..., Page]) -> None:
    path = reported.path / "report.html"
    assert path.stat().st_size < 5_000_000
    page = show_page(path)
    titles = page.locator("h2").all_text_contents()
    for title in ("Accuracy", "Loss", "Confusion matrix", "Precision and recall"):
        assert title in titles
    plots = page.locator(".plot svg.marks")
    assert plots.count() == 9
    for plot in plots.all():
        marks = plot.locator(".mark-symbol path, .mark-rect path, .mark-rule line, .mark-line path")
        assert marks.count() >= 4
        assert "NaN" not in plot.inner_html()
    labels = page.locator('.plot [role="graphics-document"]').all()
    assert [label.get_attribute("aria-label") for label in labels] == [
        f"{title}: HEAD, workspace" for title in page.locator(".pair h2").all_text_contents()
    ]
    assert page.locator("h1").text_content() == "5,000 digits of MNIST: HEAD, workspace"
    pictures = page.locator("img")
    assert pictures.count() == 5  # the training digits are the same in both
    for picture in pictures.all():
        assert picture.evaluate("picture => picture.naturalWidth") > 200
        assert picture.get_attribute("alt")


def test_all_revisions_are_in_every_plot(reported: Project, show_page: Callable[..., Page]) -> None:
    page = show_page(reported.path / "report.html")
    for plot in page.locator(".plot").all():
        text = plot.text_content() or ""
        assert "HEAD" in text
        assert "workspace" in text
        assert text.index("HEAD") < text.index("workspace")


@pytest.mark.slow
def test_the_order_is_that_of_the_revisions(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    """So that a revision has the same colour in all plots."""
    path = reported.path / "other/report.html"
    arguments = ("workspace", "HEAD", "--output", str(path))
    reported.run("python", "-m", "fairtrial.report", *arguments)
    for plot in show_page(path).locator(".plot").all():
        text = plot.text_content() or ""
        assert text.index("workspace") < text.index("HEAD")
    shutil.rmtree(path.parent)


def test_the_tables_have_the_values_of_metrics(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    cells = tables(show_page(reported.path / "report.html"))
    metrics = dict(zip(("val", "test"), (r for r in cells if r[0][0] == "revision"), strict=True))
    committed = reported.run("git", "show", "HEAD:metrics/evaluate.json").stdout
    current = (reported.path / "metrics/evaluate.json").read_text()
    for split, [_, *rows] in metrics.items():
        expected = []
        for name, text in (("HEAD", committed), ("workspace", current)):
            values = json.loads(text)[split]
            accuracy, replicas = values["accuracy"], values["replicas"]
            expected.append(
                [
                    name,
                    f"{values['n']:,}",
                    f"{100 * accuracy['value']:.2f}",
                    f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}",
                    str(replicas["n"]),
                    f"{100 * replicas['mean']:.2f} ± {100 * replicas['sd']:.2f}",
                    f"{100 * values['ensemble']:.2f}",
                    f"{values['cross_entropy']:.4f}",
                    f"{values['calibration_error']:.4f}",
                ]
            )
        assert rows == expected
    assert ["train.lr", "0.01", "0.005"] in [row for rows in cells for row in rows]
    [provenance] = [rows for rows in cells if rows[0] == ["", "HEAD", "workspace"]]
    commit = reported.run("git", "log", "-1", "--format=%h").stdout.strip()
    lock = (reported.path / "dvc.lock").read_text()
    assert provenance[2] == ["data set", *2 * ["5,000 digits of MNIST"]]
    assert provenance[1] == ["commit", f"{commit} start", f"not committed; after {commit} start"]
    for row in provenance:
        if row[0].startswith("MD5"):
            assert row[1] == row[2]
            assert f"md5: {row[1]}" in lock


def test_the_verdict_is_that_of_compare(reported: Project, show_page: Callable[..., Page]) -> None:
    output = reported.run("python", "-m", "fairtrial.compare", "HEAD", "workspace").stdout
    verdict = show_page(reported.path / "report.html").locator(".verdict.worse")
    assert verdict.text_content() == output.splitlines()[-1]


@pytest.mark.slow
def test_a_paper_gets_vector_pictures_and_latex(
    reported: Project, show_page: Callable[..., Page], tmp_path: Path
) -> None:
    page = show_page(reported.path / "report.html")
    links = page.locator("#paper a").all()
    titles = page.locator(".pair h2").all_text_contents()
    assert [link.text_content() for link in links] == titles
    arguments = ("--output", str(tmp_path / "page.html"), "--figures", str(tmp_path / "figures"))
    reported.run("python", "-m", "fairtrial.report", "HEAD", "workspace", *arguments)
    for link in links:
        with page.expect_download() as download:
            link.click()
        name = Path(download.value.suggested_filename)
        download.value.save_as(tmp_path / name)
        assert len(ElementTree.parse(tmp_path / name).findall(".//{*}path")) > 4
        figure = tmp_path / "figures" / name
        assert figure.read_bytes() == (tmp_path / name).read_bytes()
        assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    output = reported.run("python", "-m", "fairtrial.compare", "HEAD", "workspace", "--latex").stdout
    latex = page.locator("#paper pre").text_content() or ""
    [row] = [line for line in output.splitlines() if line.startswith("workspace & -")]
    assert row in latex.splitlines()


def test_the_plotted_difference_is_that_of_compare(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    output = reported.run("python", "-m", "fairtrial.compare", "HEAD", "workspace", "--json").stdout
    [other] = json.loads(output)["others"]
    rows = show_page(reported.path / "report.html").evaluate(
        "specs.flatMap(spec => spec.data.values).filter(row => row.points !== undefined)"
    )
    keys = {"revision": "name", "points": "value", "low": "low", "high": "high"}
    assert rows == [
        {"revision": "HEAD", "points": 0, "low": 0, "high": 0},
        {key: other[name] for key, name in keys.items()},
    ]


def bands(page: Page, title: str) -> list[dict[str, str]]:
    """Return the rows of the band in a plot, or none."""
    text = page.evaluate(
        "title => specs.find(spec => spec.description.startsWith(title)).layer[0].data?.values",
        title,
    )
    return list(csv.DictReader((text or "").splitlines()))


@pytest.mark.parametrize(("title", "column"), [("Accuracy", 4), ("Loss", 5)])
def test_the_band_is_that_of_all_replicas(
    reported: Project, show_page: Callable[..., Page], title: str, column: int
) -> None:
    page = show_page(reported.path / "report.html")
    committed = reported.run("git", "show", "HEAD:metrics/replicas.csv").stdout
    current = (reported.path / "metrics/replicas.csv").read_text()
    expected = []
    for text in (committed, current):
        rows = [line.split(",") for line in text.splitlines()[1:]]
        for epoch in range(1, 11):
            values = [float(row[column]) for row in rows if row[2] == str(epoch)]
            assert len(values) == 5
            expected.append((32 * epoch, min(values), sum(values) / 5, max(values)))
    names = ("iteration", "low", "mean", "high")
    result = [tuple(float(row[name]) for name in names) for row in bands(page, title)]
    np.testing.assert_allclose(result, expected)
    plot = page.locator("section", has=page.locator("h2", has_text=title)).locator(".plot")
    assert plot.locator(".mark-area path").count() == 2
    text = plot.text_content() or ""
    assert "val, mean of seeds" in text
    assert "(band: lowest to highest seed on val)" in text


@pytest.mark.slow
def test_revisions_without_a_band_keep_their_place(
    small_project: Project, show_page: Callable[..., Page]
) -> None:
    """A commit from before there were rows of all replicas, and a training with one replica."""
    small_project.run("git", "rm", "-q", "metrics/replicas.csv")
    small_project.commit("older")
    for count in (1, 3):
        small_project.run("git", "checkout", "-q", "main", "params.yaml", "metrics", "dvc.lock")
        name = f"with-{count}"
        small_project.run("dvc", "exp", "run", "-n", name, "-S", f"train.replicas={count}")
    small_project.run("python", "-m", "fairtrial.report", "main", "with-1", "with-3")
    page = show_page(small_project.path / "report.html")
    remarks = page.locator("#results .muted").all_text_contents()
    assert "main: has no plot of metrics/replicas.csv" in remarks
    rows = bands(page, "Accuracy")
    assert [row["rev"] for row in rows] == ["main", "with-1", *["with-3"] * 10]
    assert all(row["low"] == row["high"] for row in rows[:2])
    plot = page.locator("section", has=page.locator("h2", has_text="Accuracy")).locator(".plot")
    legend = plot.locator(".role-legend-label text").all_text_contents()
    assert [text.partition(":")[0] for text in legend[:3]] == ["main", "with-1", "with-3"]
    small_project.run("python", "-m", "fairtrial.report", "main", "with-1")
    page = show_page(small_project.path / "report.html")
    assert bands(page, "Accuracy") == []
    assert "band" not in (page.locator("#plots").text_content() or "")


def start(project: Project, *command: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=project.path,
        env=project.env,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def test_a_training_can_be_watched(small_project: Project, browser: Browser) -> None:
    watching = start(small_project, "python", "-m", "fairtrial.report", "--watch")
    running = None
    try:
        assert watching.stdout
        line = watching.stdout.readline()
        assert line == "report.html: open it; it follows until Ctrl-C\n"
        context = browser.new_context(offline=True, viewport={"width": 390, "height": 500})
        page = context.new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto((small_project.path / "report.html").as_uri())
        title = page.locator("h1")
        title.filter(has_text="5,000 digits of MNIST: HEAD").wait_for()
        settings = ("-S", "train.epochs=300", "-S", "train.replicas=5", "-S", "train.lr=0.02")
        running = start(small_project, "dvc", "exp", "run", *settings)
        verdict = page.locator(".verdict")
        metrics = small_project.path / "metrics"
        epoch, written = 0, (metrics / "replicas.csv").read_text()
        for _ in range(2):  # the curve grows
            while curve_so_far(metrics) in ("", written):
                assert running.poll() is None
                page.wait_for_timeout(50)
            os.killpg(running.pid, signal.SIGSTOP)  # until the page has followed
            written, last = curve_so_far(metrics), epoch
            epoch = int(written.splitlines()[-1].split(",")[2])
            assert last < epoch < 300
            line = f"workspace: the training is running, epoch {epoch} of 300"
            verdict.filter(has_text=line).wait_for(timeout=100_000)
            page.locator("#plot0 svg.marks .mark-line path").first.wait_for()
            assert page.locator("#draw, #paper").count() == 0
            os.killpg(running.pid, signal.SIGCONT)
        out, err = running.communicate()
        assert running.returncode == 0, out + err
        title.filter(has_text="5,000 digits of MNIST: HEAD, workspace").wait_for(timeout=100_000)
        verdict.filter(has_text="workspace is better").wait_for()
        page.locator("#plots svg.marks").nth(3).wait_for()
        context.close()
        assert problems == []
    finally:
        for process in filter(None, (watching, running)):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGINT)
    assert watching.communicate() == ("", "interrupted\n")
    assert watching.returncode == -signal.SIGINT


def curve_so_far(metrics: Path) -> str:
    """Return what a running training has written of its replicas; nothing before its first row."""
    with contextlib.suppress(FileNotFoundError):
        if not (metrics / "train.json").exists():
            return (metrics / "replicas.csv").read_text()
    return ""


@pytest.mark.slow
def test_an_experiment_in_a_folder_of_its_own_can_be_watched(
    small_project: Project, browser: Browser
) -> None:
    settings = ("-n", "elsewhere", "-S", "train.epochs=1000", "-S", "train.replicas=5")
    running = start(small_project, "dvc", "exp", "run", "--temp", *settings)
    watching = None
    try:
        assert running.stdout
        assert any(line.startswith("epoch 20/") for line in iter(running.stdout.readline, ""))
        names = ("HEAD", "elsewhere")
        watching = start(small_project, "python", "-m", "fairtrial.report", "--watch", *names)
        assert watching.stdout
        assert watching.stdout.readline()
        page = browser.new_page()
        page.goto((small_project.path / "report.html").as_uri())
        verdict = page.locator(".verdict")
        text = "elsewhere: no results yet; its curves end after epoch "
        verdict.filter(has_text=text).wait_for()
        epoch = (verdict.text_content() or "").removeprefix(text)
        later = re.compile(rf"epoch (?!{epoch}$)\d+$")
        verdict.filter(has_text=later).wait_for(timeout=60_000)
        page.close()
    finally:
        for process in filter(None, (watching, running)):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=60)


def test_a_watched_page_keeps_its_place_and_does_not_disturb(
    small_project: Project, browser: Browser
) -> None:
    watching = start(small_project, "python", "-m", "fairtrial.report", "--watch")
    try:
        assert watching.stdout
        watching.stdout.readline()
        page = browser.new_page(viewport={"width": 390, "height": 500})
        page.goto((small_project.path / "report.html").as_uri())
        page.locator("#plots svg.marks").nth(3).wait_for()
        page.evaluate("scrollTo(0, 2500)")
        with page.expect_navigation():
            pass
        page.locator("#plots svg.marks").nth(3).wait_for()
        assert page.evaluate("scrollY") == pytest.approx(2500, abs=50)
        page.close()
        page = browser.new_page()
        page.clock.install()
        page.goto((small_project.path / "report.html").as_uri())
        page.evaluate("document.querySelector('#test').open = true")
        reloads: list[str] = []
        page.on("request", lambda request: reloads.append(request.url))
        page.clock.run_for(10_000)
        assert reloads == []
        page.evaluate("document.querySelector('#test').open = false")
        with page.expect_navigation():
            page.clock.run_for(2_500)
        page.close()
    finally:
        os.killpg(watching.pid, signal.SIGINT)
        watching.communicate()


def test_the_confusion_matrix_has_the_counts(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    page = show_page(reported.path / "report.html")
    plot = page.locator("section", has=page.locator("h2", has_text="Confusion matrix"))
    counts = map(int, plot.locator(".mark-text.role-mark text").all_text_contents())
    assert sum(counts) == 2 * (500 + 2_500)


def test_the_intervals_are_wilsons(reported: Project, show_page: Callable[..., Page]) -> None:
    """Recall of the zeros on val, at HEAD: 46 of 50, and the closed form of its interval."""
    page = show_page(reported.path / "report.html")
    rows = page.evaluate("specs.flatMap(spec => spec.data.values).filter(row => row.panel)")
    [zeros] = [
        row
        for row in rows
        if (row["revision"], row["panel"], row.get("class")) == ("HEAD", "recall on val", "0")
    ]
    recall = json.loads(reported.run("git", "show", "HEAD:metrics/evaluate.json").stdout)
    share = recall["val"]["recall"]["0"]
    n, z = zeros["images"], 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert n == 50
    assert zeros["proportion"] == pytest.approx(share)
    assert (zeros["low"], zeros["high"]) == pytest.approx((centre - spread, centre + spread))
    bins = [row for row in rows if "confidence" in row]
    assert sum(row["images"] for row in bins) == 2 * (500 + 2_500)


@pytest.mark.slow
def test_many_revisions_fit_a_page(small_project: Project, show_page: Callable[..., Page]) -> None:
    """Long names are cut, the colours have one legend, and no plot has a panel a revision."""
    long = "a-setting-with-a-name-that-is-longer-than-all-of-the-others"
    names = ["HEAD", *(f"run-{number}" for number in range(6)), long]
    for number, name in enumerate(names[1:]):
        epochs = 80 if name == long else 10 + number
        changes = f"train.epochs={epochs}", f"train.lr={0.02 + number / 100}"
        small_project.run(
            "dvc", "exp", "run", "--name", name, *(w for c in changes for w in ("-S", c))
        )
    small_project.run("python", "-m", "fairtrial.report", *names)
    page = show_page(small_project.path / "report.html")
    assert page.locator("h1").text_content() == "5,000 digits of MNIST: HEAD and 7 others"
    assert page.locator("h1 span").get_attribute("title") == ", ".join(names)
    legend = page.locator("#legend span")
    assert legend.all_text_contents()[:-1] == names[:-1]
    assert legend.last.text_content() == "a-setting-with-…ll-of-the-others"
    assert legend.last.get_attribute("title") == long
    titles = page.locator("#plots h2").all_text_contents()
    assert titles == ["Differences", "Accuracy", "Loss", "Calibration", "Recall minus that of HEAD"]
    for title in ("Accuracy", "Calibration"):
        plot = page.locator("section", has=page.locator("h2", has_text=title)).first
        assert "run-3" not in (plot.text_content() or "")
    # A training of 80 epochs beside some of ten.
    assert page.evaluate("specs[1].encoding.x.scale.type") == "log"
    settings = tables(page)[1]
    assert settings[0] == ["revision", "train.lr", "train.epochs"]
    assert settings[-1] == ["a-setting-with-…ll-of-the-others", "0.08", "80"]
    rows = page.evaluate("specs[4].data.values")
    committed = small_project.run("git", "show", "HEAD:metrics/evaluate.json").stdout
    current = (small_project.path / "metrics/evaluate.json").read_text()  # of the last run
    first, last = (json.loads(text)["val"]["recall"] for text in (committed, current))
    points = {row["class"]: row["points"] for row in rows if row["revision"] == long}
    assert points == pytest.approx({name: last[name] - first[name] for name in first}, abs=2e-6)


def test_it_is_light_or_dark_and_fits_a_phone(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    path = reported.path / "report.html"
    brightness = {}
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True}
    for scheme in ("light", "dark"):
        page = show_page(path, color_scheme=scheme, **phone)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for plot in page.locator(".plot").all():
            assert plot.evaluate("plot => plot.scrollWidth - plot.clientWidth") <= 0
        for name in ("background-color", "color"):
            colour = page.locator("body").evaluate(f"body => getComputedStyle(body)['{name}']")
            brightness[scheme, name] = sum(map(int, colour[4:-1].split(",")))
        axis = page.locator(".plot svg .role-axis-label text").first
        colour = axis.get_attribute("fill") or ""
        brightness[scheme, "axis"] = sum(bytes.fromhex(colour[1:]))
    assert brightness["light", "background-color"] > 2 * brightness["light", "color"]
    assert brightness["dark", "color"] > 2 * brightness["dark", "background-color"]
    assert brightness["dark", "axis"] > brightness["light", "axis"]


def test_the_same_results_give_the_same_page(reported: Project, tmp_path: Path) -> None:
    reported.run("python", "-m", "fairtrial.report", "--output", str(tmp_path / "again.html"))
    assert (tmp_path / "again.html").read_bytes() == (reported.path / "report.html").read_bytes()


def circle(steps: int = 40) -> list[tuple[float, float]]:
    angles = [2 * math.pi * step / steps for step in range(steps + 1)]
    return [(140 + 65 * math.sin(angle), 140 - 95 * math.cos(angle)) for angle in angles]


def line(steps: int = 10) -> list[tuple[float, float]]:
    return [(150 - 2 * step, 40 + 20 * step) for step in range(steps + 1)]


@pytest.mark.parametrize(("strokes", "digit"), [(circle(), "0"), (line(), "1")])
@pytest.mark.parametrize("touch", [False, True])
def test_a_drawn_digit_is_classified(
    reported: Project,
    show_page: Callable[..., Page],
    strokes: list[tuple[float, float]],
    digit: str,
    touch: bool,
) -> None:
    page = show_page(reported.path / "report.html", has_touch=touch)
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


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("model=mlp width=32", marks=pytest.mark.slow),
        pytest.param("model=cnn width=4 precision=float32", marks=pytest.mark.slow),
    ],
)
def test_the_page_computes_the_logits_of_torch(
    project: Project, show_page: Callable[..., Page], settings: str
) -> None:
    for setting in f"{settings} epochs=1 replicas=1".split():
        name, _, value = setting.partition("=")
        project.run("sed", "-i", f"s/^  {name}: [a-z0-9]*/  {name}: {value}/", "params.yaml")
    project.run("dvc", "repro")
    project.run("python", "-m", "fairtrial.report", "workspace")
    _, test = read_split(project.path / "data/prepared/test.safetensors")
    images = test["images"][:100]
    model, _ = read_checkpoint(project.path / "data/checkpoints/model.safetensors")
    expected = predict(model, torch.from_numpy(images)).numpy()
    page = show_page(project.path / "report.html")
    result = page.evaluate("images => images.map(logits)", images.reshape(100, -1).tolist())
    assert np.abs(np.array(result) - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["linear", "mlp", "cnn"])
def test_the_page_computes_models_of_any_size(
    reported: Project, show_page: Callable[..., Page], name: str
) -> None:
    """Also where max pooling leaves out a row, and where no convolution comes last."""
    page = show_page(reported.path / "report.html")
    generator = torch.Generator().manual_seed(0)
    width = 0 if name == "linear" else 3
    for size in (8, 9, 11, 13, 20, 29, 32):
        model = build_model(name, width, (1, size, size), 4, generator)
        for tensor in model.state_dict().values():
            tensor.add_(torch.rand(tensor.shape, generator=generator) / 10)
        weights = {
            key: {"shape": list(tensor.shape), "values": tensor.flatten().tolist()}
            for key, tensor in model.state_dict().items()
        }
        images = RANDOM.integers(0, 256, (5, 1, size, size), np.uint8)
        about = {"name": name, "width": width, "size": size, "classes": list("abcd")}
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


def test_a_drawing_is_brought_to_the_size_of_the_data(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    page = show_page(reported.path / "report.html")
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
    reported: Project, show_page: Callable[..., Page], old: str, new: str, message: str
) -> None:
    """Such as one that somebody has added to the models."""
    text = (reported.path / "report.html").read_text()
    assert text.count(old) == 1
    path = reported.path / "other/report.html"
    path.parent.mkdir()
    path.write_text(text.replace(old, new))
    page = show_page(path)
    assert message in (page.locator("#draw").text_content() or "")
    assert page.locator("#canvas").count() == 0
    shutil.rmtree(path.parent)


@pytest.mark.slow
def test_a_page_without_a_model_says_why(project: Project, show_page: Callable[..., Page]) -> None:
    def message() -> str:
        project.run("python", "-m", "fairtrial.report", "workspace")
        return show_page(project.path / "report.html").locator("#draw").text_content() or ""

    path = project.path / "data/checkpoints/model.safetensors"
    content = bytearray(path.read_bytes())
    model, info = read_checkpoint(path)
    clothes = info.model_copy(update={"title": "clothes", "style": "natural", "ink_box": None})
    write_checkpoint(path, model, "linear", 0, clothes)
    assert "trained on clothes, whose images are prepared otherwise than a drawing;" in message()
    content[-5] ^= 1
    (project.path / "data/checkpoints/model.safetensors").write_bytes(content)
    assert "data/checkpoints/model.safetensors: altered since it was written" in message()
    (project.path / "data/checkpoints/model.safetensors").unlink()
    shutil.rmtree(project.path / ".dvc/cache/files")
    assert "data/checkpoints/model.safetensors is not there; `dvc pull`" in message()
    (project.path / "data/checkpoints/model.safetensors").write_bytes(bytes(3_000_000))
    assert "3,000,000 bytes, too many" in message()


@pytest.mark.slow
def test_by_default_it_shows_what_differs(small_project: Project) -> None:
    assert small_project.run("python", "-m", "fairtrial.report").stdout == "report.html: HEAD\n"
    small_project.run("git", "rm", "-q", "--cached", "metrics/predictions.csv")
    small_project.run("git", "commit", "-qm", "Nothing")
    assert small_project.run("python", "-m", "fairtrial.report").stdout == "report.html: workspace\n"
    small_project.run("git", "reset", "-q", "HEAD~1")
    small_project.run("dvc", "exp", "run", "-S", "train.lr=0.02")
    assert (
        small_project.run("python", "-m", "fairtrial.report").stdout == "report.html: HEAD, workspace\n"
    )
    assert (
        small_project.run("make", "-s", "-o", ".venv/installed", "report", "REVS=HEAD").stdout
        == "report.html: HEAD\n"
    )
    assert "report.html" not in small_project.status()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense: no commit, branch, tag or experiment has this name"),
        (["empty"], "empty: metrics/evaluate.json is not there"),
        (
            ["older"],
            "older: its results have another form than this version reads (KeyError('ensemble'))",
        ),
        (["HEAD:metrics"], "HEAD:metrics: no commit, branch, tag or experiment has this name"),
        (["HEAD", ""], ": no commit, branch, tag or experiment has this name"),
        (["unsure"], "unsure: metrics/predictions.csv has no confidences from 0 to 1"),
        (["HEAD", "--output", "README.md/report.html"], "README.md/report.html: cannot be written"),
        (["--watch", "--figures", "figures"], "--watch: writes no figures; leave out --figures"),
        (["--watch", "nonsense"], "nonsense: no commit, branch, tag or experiment has this name"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    reported: Project, arguments: list[str], message: str
) -> None:
    if not reported.run("git", "tag", "--list", "older").stdout:
        reported.run("git", "stash", "-q")
        for name, command in (
            ("empty", "git rm -q metrics/evaluate.json"),
            ("unsure", "sed -i 1s/confidence/certainty/ metrics/predictions.csv"),
            ("older", "sed -i s/ensemble/together/ metrics/evaluate.json"),
        ):
            reported.run("bash", "-c", f"{command} && git commit -qam {name} && git tag {name}")
            reported.run("git", "reset", "-q", "--hard", "HEAD~1")
        reported.run("git", "stash", "pop", "-q")
    done = reported.run("python", "-m", "fairtrial.report", *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_revision_that_lacks_a_plot_is_named(
    project: Project, show_page: Callable[..., Page]
) -> None:
    project.run("git", "rm", "-q", "metrics/history.csv", "metrics/samples.png")
    project.run("git", "commit", "-qm", "Lost")
    project.run("python", "-m", "fairtrial.report", "HEAD~1", "HEAD")
    remarks = show_page(project.path / "report.html").locator("#results .muted").all_text_contents()
    for name in ("metrics/history.csv", "metrics/samples.png"):
        assert f"HEAD: has no plot of {name}" in remarks


def wait_for_four_plots(page: Page) -> None:
    """Wait until DVC's page shows its plots."""
    page.locator(".vega-embed :is(canvas, svg.marks)").nth(3).wait_for()
    assert page.locator(".vega-embed").count() == 4


@pytest.mark.slow
def test_dvcs_own_page_needs_no_network_either(
    project: Project, show_page: Callable[..., Page]
) -> None:
    project.run("dvc", "exp", "run", "-S", "train.lr=0.02")
    project.run("python", "-m", "tools.plots_page")
    for command in ("show", "diff"):
        project.run("dvc", "plots", command)
        page = show_page(project.path / "dvc_plots/index.html")
        wait_for_four_plots(page)
        for picture in page.locator("img").all():
            assert picture.evaluate("picture => picture.naturalWidth") > 200
    assert not project.run("git", "status", "--porcelain", "--", ".dvc").stdout


def test_no_name_or_title_of_a_branch_runs_a_script(
    small_project: Project, show_page: Callable[..., Page]
) -> None:
    """Not in DVC's page of plots, nor in ours; and a template sets no option of the library."""
    script = "</script><script>window.ran=1</script><svg/onload=window.ran=1>"
    branch = f"x{script}</plaintext></template>"
    template = small_project.path / ".dvc/plots/curve.json"
    options = {"embedOptions": {"actions": {"editor": True}, "width": 7}}
    template.write_text(json.dumps(json.loads(template.read_text()) | {"usermeta": options}))
    small_project.edit("dvc.yaml", "title: Accuracy", f"title: 'Accuracy{script}'")
    small_project.commit("hostile")
    small_project.run("git", "branch", branch)
    small_project.run("python", "-m", "tools.plots_page")
    small_project.run("dvc", "plots", "diff", "main", branch)
    page = show_page(small_project.path / "dvc_plots/index.html")
    wait_for_four_plots(page)
    captions = page.locator("figure", has=page.locator("img")).all_text_contents()
    assert sorted(set(captions)) == ["main", branch]
    assert not page.evaluate("window.ran")
    small_project.run("python", "-m", "fairtrial.report", "main", branch)
    page = show_page(small_project.path / "report.html")
    assert branch in (page.locator("h1 span").last.get_attribute("title") or "")
    assert f"Accuracy{script}" in page.locator("h2").all_text_contents()
    assert not page.evaluate("window.ran")
    assert not page.evaluate("specs.some(spec => spec.usermeta)")
    assert page.locator("text=Open in Vega Editor").count() == 0


def test_the_policies_run_no_other_script(reported: Project, browser: Browser) -> None:
    """Such a one as a browser would run, if a name came into the page as HTML."""
    reported.run("python", "-m", "tools.plots_page")
    reported.run("dvc", "plots", "show")
    inserted = "<script>window.ran = 1</script><img src=x: onerror='window.ran = 1'>"
    for name in ("report.html", "dvc_plots/index.html"):
        path = reported.path / name
        hostile = path.with_name("hostile.html")
        before, body, after = path.read_text().partition("\n<body>\n")
        hostile.write_text(before + body + inserted + after)
        page = browser.new_page()
        page.goto(hostile.as_uri())
        page.locator(".vega-embed").nth(2).wait_for()
        assert not page.evaluate("window.ran")
        page.close()
        hostile.unlink()
