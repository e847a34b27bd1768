"""The pages of digits, as people meet them: on paper, a phone, by keyboard, without scripts."""

import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.helpers.browser import ShowPage, needs_browser
from tests.helpers.paper import numbers_of_page, read_pdf
from tests.helpers.project import ROOT, Project

pytestmark = [needs_browser, pytest.mark.slow]
CANVAS = ["draw.html"] if (ROOT / "tools/draw.py").exists() else []  # a project may remove it
PAGES = "report.html", *CANVAS, "dvc_plots/index.html"


@pytest.fixture(scope="module")
def pages(small_reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with its pages, on which two revisions are compared."""
    folder = tmp_path_factory.mktemp("pages") / "project"
    project = Project(shutil.copytree(small_reproduced.path, folder))
    project.set_params("train.lr=0.1", "train.momentum=0.5")
    project.run("dvc", "repro")
    project.run("python", "-m", "tools", "setup")
    project.run("python", "-m", "fairtrial", "report")
    if CANVAS:
        project.run("python", "-m", "tools", "draw")
    project.run("dvc", "plots", "diff", "HEAD")
    return project


def unfold(page: Page) -> None:
    for details in page.locator("details").all():
        details.evaluate("details => details.open = true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(
    pages: Project, show_page: ShowPage, name: str, scheme: str
) -> None:
    page = show_page(pages.path / name, color_scheme=scheme)
    unfold(page)
    for width in (390, 768, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(page).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []


@pytest.mark.parametrize("is_open", [False, True])
def test_paper_has_every_number_of_a_report(
    pages: Project, show_page: ShowPage, is_open: bool
) -> None:
    """In the colours of paper, whatever those of the desktop are."""
    page = show_page(pages.path / "report.html", color_scheme="dark")
    if is_open:
        unfold(page)
    expected, cut = numbers_of_page(page)
    count, found = read_pdf(page.pdf(format="A4", prefer_css_page_size=True))
    assert cut == []
    assert sum(expected.values()) > 200
    assert expected - found == {}
    assert is_open or count == 2
    page.emulate_media(media="print")
    colours = "[getComputedStyle(document.body).color, getComputedStyle(path).stroke]"
    assert page.locator(".mark-line path").first.evaluate(f"path => {colours}") == [
        "rgb(28, 35, 48)",
        "rgb(47, 111, 181)",
    ]


@pytest.mark.parametrize("name", PAGES)
def test_without_scripts_a_page_shows_or_says_something(
    pages: Project, browser: Browser, name: str
) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto((pages.path / name).as_uri())
    if name == "report.html":
        assert page.locator(".broad svg").first.is_visible()
    else:
        assert "allow scripts for this page" in page.locator("body").inner_text()
    page.close()


def test_each_plot_of_dvcs_page_has_a_name(pages: Project, show_page: ShowPage) -> None:
    page = show_page(pages.path / "dvc_plots/index.html")
    page.locator("canvas").last.wait_for()
    captions = page.locator("figcaption").all_text_contents()
    assert {"Accuracy", "Calibration", "Confusion matrix", "weights.png, HEAD"} <= set(captions)
    drawn = page.locator("canvas[aria-label], img[alt]").all()
    names = [one.get_attribute("aria-label") or one.get_attribute("alt") for one in drawn]
    assert names == captions
    assert page.locator("text=Open in Vega Editor").count() == 0


def test_only_drawings_are_light_on_dark(pages: Project, show_page: ShowPage) -> None:
    page = show_page(pages.path / "report.html", color_scheme="dark")
    filters = "img => getComputedStyle(img).filter"
    found = {
        (picture.get_attribute("alt") or "").partition(" of ")[0]: picture.evaluate(filters)
        for picture in page.locator("img").all()
    }
    assert found["Weights"] == "none"  # in colours
    assert found["Samples"] == found["Mistakes"] != "none"


def test_cells_of_a_confusion_matrix_are_readable(pages: Project, show_page: ShowPage) -> None:
    """WCAG 2.2 asks for a contrast of 4.5, https://www.w3.org/TR/WCAG22/#contrast-minimum."""
    for scheme in ("light", "dark"):
        page = show_page(pages.path / "report.html", color_scheme=scheme)
        text, cell, card = (
            page.evaluate(
                """name => {
                    const probe = document.createElement("i");
                    probe.style.color = `var(--${name})`;
                    document.body.append(probe);
                    return getComputedStyle(probe).color.match(/\\d+/g).map(Number);
                }""",
                name,
            )
            for name in ("text", "cell", "card")
        )
        matrix = page.locator('svg[aria-label^="Confusion matrix:"]').first
        opacities = [
            float(rect.get_attribute("opacity") or 1)
            for rect in matrix.locator(".mark-rect path").all()
        ]
        assert len(opacities) > 20
        for opacity in opacities:
            mixed = [opacity * a + (1 - opacity) * b for a, b in zip(cell, card, strict=True)]
            assert contrast(text, mixed) >= 4.5


def contrast(one: list[float], other: list[float]) -> float:
    def luminance(colour: list[float]) -> float:
        linear = [c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)
