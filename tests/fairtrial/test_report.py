"""The report of the second project in a real browser, Chromium, without a network."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, Page

from fairtrial.web.plots import adapt_dvc_plot
from tests.helpers.browser import needs_browser
from tests.helpers.project import ROOT, Project


def report(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "fairtrial", "report", *arguments, ok=ok)


PLOTS = """
plots:
  - dots.png
  - Errors: {x: predicted, y: {errors.csv: actual}, template: scatter, title: Errors by split}
"""
DRAW = """
    from PIL import Image
    Image.new("RGB", (300, 100), (of["epochs"], int(255 * of["lr"]), 0)).save("dots.png")
    rows = [row for row in zip(predicted[0], y, split) if row[2] != "train"]
    write("errors.csv", ["predicted", "actual", "split"], rows)
"""


@pytest.fixture(scope="module")
def reported(reproduced_regression: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a picture, a plot with held-out rows, a worse workspace, and a report."""
    folder = tmp_path_factory.mktemp("reported") / "project"
    project = Project(shutil.copytree(reproduced_regression.path, folder))
    project.env["PYTHONPATH"] = str(ROOT)
    last = '    Path("fit.json").write_text'
    project.edit("regression.py", last, f"{DRAW.lstrip(chr(10))}{last}")
    project.edit(
        "dvc.yaml", "      - fit.json: {cache: false}\n", "      - fit.json: {cache: false}\n"
    )
    project.edit(
        "dvc.yaml",
        "      - scores.csv: {cache: false}\n",
        "      - scores.csv: {cache: false}\n    outs:\n      - dots.png: {cache: false}\n"
        "      - errors.csv: {cache: false}\n",
    )
    with (project.path / "dvc.yaml").open("a") as file:
        file.write(PLOTS)
    project.run("dvc", "repro")
    project.commit("Pictures")
    project.run("dvc", "exp", "run", "-S", "fit.lr=0.002")
    report(project)
    return project


def tables(page: Page) -> list[list[list[str]]]:
    """Return the cells of all tables of a page."""
    cells = "[...row.cells].map(cell => cell.textContent)"
    result: list[list[list[str]]] = page.evaluate(
        f"[...document.querySelectorAll('table')].map(t => [...t.rows].map(row => {cells}))"
    )
    return result


@needs_browser
def test_everything_is_there(reported: Project, show_page: Callable[..., Page]) -> None:
    path = reported.path / "report.html"
    assert path.stat().st_size < 5_000_000
    page = show_page(path)
    titles = ["Differences in squared_error", "Errors by split", "Learning"]
    titles += ["Errors by split on test"]
    assert page.locator(".pair h2").all_text_contents() == titles
    for plot in page.locator(".plot svg.marks").all():
        marks = plot.locator(".mark-symbol path, .mark-rect path, .mark-rule line, .mark-line path")
        assert marks.count() >= 4
        assert "NaN" not in plot.inner_html()
    labels = page.locator('.plot [role="graphics-document"]').all()
    assert [label.get_attribute("aria-label") for label in labels] == [
        f"{title}: HEAD, workspace" for title in titles
    ]
    assert page.locator("h1").text_content() == "squared_error on val: HEAD, workspace"
    # The rows of a plot are where their split belongs.
    splits = (
        "specs.map(spec => [...new Set(spec.data.values.map(row => row.split).filter(Boolean))])"
    )
    assert page.evaluate(splits)[1:] == [["val"], [], ["test"]]
    pictures = page.locator("img")
    assert pictures.count() == 2
    for picture, name in zip(pictures.all(), ("HEAD", "workspace"), strict=True):
        assert picture.evaluate("picture => picture.naturalWidth") == 300
        assert picture.get_attribute("alt") == "Dots"
        assert picture.locator("xpath=..").text_content().strip() == name  # type: ignore[union-attr]


@needs_browser
def test_revisions_are_in_their_order_in_every_plot(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    """So that a revision has the same colour in all plots."""
    path = reported.path / "other/report.html"
    report(reported, "workspace", "HEAD", "--output", str(path))
    for page, names in (
        (show_page(reported.path / "report.html"), ["HEAD", "workspace"]),
        (show_page(path), ["workspace", "HEAD"]),
    ):
        for plot in page.locator(".plot").all():
            found = re.findall("HEAD|workspace", plot.text_content() or "")
            assert list(dict.fromkeys(found)) == names
    shutil.rmtree(path.parent)


@needs_browser
@pytest.mark.slow
def test_the_numbers_are_those_of_compare_and_of_dvc(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    page = show_page(reported.path / "report.html")
    command = ("python", "-m", "fairtrial", "compare", "HEAD", "workspace")
    verdict = page.locator(".verdict.worse").text_content()
    assert verdict in reported.run(*command).stdout.splitlines()
    [other] = json.loads(reported.run(*command, "--json").stdout)["others"]
    rows = page.evaluate("specs[0].data.values")
    assert rows == [
        {"revision": "HEAD", "difference": 0, "low": 0, "high": 0},
        {
            "revision": "workspace",
            "difference": other["value"],
            "low": other["low"],
            "high": other["high"],
        },
    ]
    cells = tables(page)
    for metric in ("squared_error", "close"):
        for split in ("val", "test"):
            arguments = ("--metric", metric, "--split", split)
            text = reported.run(*command, *arguments, "--md").stdout.replace("\\", "")
            scores = next(line for line in text.splitlines() if line.startswith("| workspace"))
            assert [cell.strip() for cell in scores.strip("|").split("|")] in [
                row for table in cells for row in table
            ]
    assert ["fit.lr", "0.05", "0.002"] in [row for rows in cells for row in rows]
    [provenance] = [rows for rows in cells if rows[0] == ["", "HEAD", "workspace"]]
    commit = reported.run("git", "log", "-1", "--format=%h %s").stdout.strip()
    assert ["commit", commit, f"not committed; after {commit}"] in provenance
    [md5] = [row for row in provenance if row[0] == "MD5 of points.csv"]
    assert f"md5: {md5[1]}" in (reported.path / "dvc.lock").read_text()


@pytest.mark.slow
def test_a_paper_gets_vector_pictures(reported: Project, tmp_path: Path) -> None:
    arguments = ("--output", str(tmp_path / "page.html"), "--figures", str(tmp_path / "figures"))
    report(reported, "HEAD", "workspace", *arguments)
    # The same results give the same page.
    assert (tmp_path / "page.html").read_bytes() == (reported.path / "report.html").read_bytes()
    names = ["differences-in-squared_error", "errors-by-split", "errors-by-split-on-test"]
    figures = list((tmp_path / "figures").glob("*.svg"))
    assert {figure.stem for figure in figures} == {*names, "learning"}
    for figure in figures:
        assert len(ElementTree.parse(figure).findall(".//{*}path")) > 4
        assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")


@needs_browser
@pytest.mark.slow
def test_many_revisions_with_long_names_fit_a_page(
    reproduced_regression: Project, show_page: Callable[..., Page], tmp_path: Path
) -> None:
    project = Project(shutil.copytree(reproduced_regression.path, tmp_path / "project"))
    project.env["PYTHONPATH"] = str(ROOT)
    long = "a-setting-with-a-name-that-is-longer-than-all-of-the-others"
    project.run("dvc", "exp", "run", "--name", long, "-S", "fit.lr=0.14")
    report(project, "HEAD", "slow", "near", "seed", "workspace", long)
    page = show_page(project.path / "report.html")
    assert page.locator("h1 span").last.text_content() == "a-setting-with-…ll-of-the-others"
    assert page.locator("h1 span").last.get_attribute("title") == long
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    heads = [table[0] for table in tables(page)]
    names = ["HEAD", "slow", "near", "seed", "workspace", "a-setting-with-…ll-of-the-others"]
    assert ["parameter", *names] in heads


@needs_browser
def test_it_is_light_or_dark_and_fits_a_phone(
    reported: Project, show_page: Callable[..., Page]
) -> None:
    brightness = {}
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True}
    for scheme in ("light", "dark"):
        page = show_page(reported.path / "report.html", color_scheme=scheme, **phone)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for plot in page.locator(".plot").all():
            assert plot.evaluate("plot => plot.scrollWidth - plot.clientWidth") <= 0
        for name in ("background-color", "color"):
            colour = page.locator("body").evaluate(f"body => getComputedStyle(body)['{name}']")
            brightness[scheme, name] = sum(map(int, colour[4:-1].split(",")))
        axis = page.locator(".plot svg .role-axis-label text").first
        brightness[scheme, "axis"] = sum(bytes.fromhex((axis.get_attribute("fill") or "")[1:]))
    assert brightness["light", "background-color"] > 2 * brightness["light", "color"]
    assert brightness["dark", "color"] > 2 * brightness["dark", "background-color"]
    assert brightness["dark", "axis"] > brightness["light", "axis"]


@pytest.mark.slow
def test_by_default_it_shows_what_differs(regression: Project) -> None:
    assert report(regression).stdout == "report.html: HEAD\n"
    regression.run("dvc", "exp", "run", "-S", "fit.lr=0.02")
    assert report(regression).stdout == "report.html: HEAD, workspace\n"
    regression.run("git", "checkout", "-q", ".")
    regression.run("git", "rm", "-q", "scores.csv", "curve.csv")
    regression.run("git", "commit", "-qm", "Lost")
    done = report(regression, "HEAD~1", "HEAD", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("HEAD: scores.csv is not there; ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense: no commit, branch, tag or experiment has this name"),
        (["HEAD:metrics"], "HEAD:metrics: no commit, branch, tag or experiment has this name"),
        (["HEAD", ""], ": no commit, branch, tag or experiment has this name"),
        (["HEAD", "--output", "fit.json/report.html"], "fit.json/report.html: cannot be written"),
    ],
)
def test_a_bad_request_is_refused(
    reproduced_regression: Project, arguments: list[str], message: str
) -> None:
    done = report(reproduced_regression, *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@needs_browser
@pytest.mark.slow
def test_no_name_or_title_of_a_branch_runs_a_script_or_leaves_its_folder(
    reported: Project, show_page: Callable[..., Page], browser: Browser, tmp_path: Path
) -> None:
    """And a template sets no option of the library."""
    project = Project(shutil.copytree(reported.path, tmp_path / "project"))
    project.env["PYTHONPATH"] = str(ROOT)
    project.run("git", "checkout", "-q", ".")
    script = "</script><script>window.ran=1</script><svg/onload=window.ran=1>"
    branch = f"x{script}</plaintext></template>"
    template = json.loads(project.run("dvc", "plots", "templates", "scatter").stdout)
    options = {"embedOptions": {"actions": {"editor": True}, "width": 7}}
    (project.path / ".dvc/plots").mkdir(exist_ok=True)
    (project.path / ".dvc/plots/own.json").write_text(json.dumps(template | {"usermeta": options}))
    project.edit("dvc.yaml", "template: scatter", "template: own")
    project.edit("dvc.yaml", "title: Learning", f"title: '../../Learning{script}'")
    project.commit("hostile")
    project.run("git", "branch", branch)
    report(project, "main", branch, "--figures", "figures")
    page = show_page(project.path / "report.html")
    assert branch in (page.locator("h1 span").last.get_attribute("title") or "")
    titles = page.locator("h2").all_text_contents()
    assert f"../../Learning{script}" in titles
    assert not page.evaluate("window.ran")
    assert not page.evaluate("specs.some(spec => spec.usermeta)")
    assert page.locator("text=Open in Vega Editor").count() == 0
    names = {path.name for path in (project.path / "figures").iterdir()}
    assert any(name.startswith("learning-script") for name in names)
    assert len(names) == 2 * page.locator(".plot").count()
    # The policy of the page runs no script that a browser would run if a name came in as HTML.
    inserted = "<script>window.ran = 1</script><img src=x: onerror='window.ran = 1'>"
    before, body, after = (project.path / "report.html").read_text().partition("\n<body>\n")
    (project.path / "hostile.html").write_text(before + body + inserted + after)
    page = browser.new_page()
    page.goto((project.path / "hostile.html").as_uri())
    page.locator(".vega-embed").nth(1).wait_for()
    assert not page.evaluate("window.ran")
    page.close()


def test_a_revision_that_lacks_a_plot_is_named(reported: Project, tmp_path: Path) -> None:
    project = Project(shutil.copytree(reported.path, tmp_path / "project"))
    project.env["PYTHONPATH"] = str(ROOT)
    project.run("git", "checkout", "-q", ".")
    project.run("git", "rm", "-q", "dots.png")
    project.run("git", "commit", "-qm", "Lost")
    report(project, "HEAD~1", "HEAD")
    assert "HEAD: has no plot of dots.png" in (project.path / "report.html").read_text()


def test_a_plot_of_dvc_gets_the_colours_of_the_page_and_loses_what_it_does_not_show() -> None:
    spec = {
        "title": {"text": "Confusion matrix"},
        "data": {"values": [{"rev": "a", "label": "007", "predicted": "7", "more": "0.5"}]},
        "encoding": {
            "x": {"field": "predicted", "type": "nominal"},
            "y": {"field": "label", "type": "ordinal"},
            "color": {"field": "rev", "scale": {"domain": ["a"], "range": ["#945dd6"]}},
            "strokeDash": {},
        },
    }
    [plot] = adapt_dvc_plot(spec, ["a"], {"test"})
    assert plot.spec["data"]["values"] == [{"rev": "a", "label": "007", "predicted": "7"}]
    assert plot.spec["encoding"]["color"] == {"field": "rev", "scale": {"domain": ["a"]}}
    assert "strokeDash" not in plot.spec["encoding"]  # about which Vega warns
