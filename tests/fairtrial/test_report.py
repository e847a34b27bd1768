"""The report of the second project in a real browser, Chromium, without a network."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page

from fairtrial.project.errors import InputError
from fairtrial.web.dvc_plots import adapt_dvc_plot
from fairtrial.web.own_plots import COLOURS, Plot
from fairtrial.web.page import legend_labels, prose
from tests.helpers.browser import ShowPage, needs_browser
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


def test_everything_is_there(reported: Project, show_page: ShowPage) -> None:
    path = reported.path / "report.html"
    assert path.stat().st_size < 300_000
    page = show_page(path)
    assert page.title() == page.locator("h1").text_content()
    assert page.title() == "workspace against HEAD: squared_error on points (val)"
    assert page.locator("h2").all_text_contents() == [
        "Differences in squared_error",
        "What changed",
        "Scores on val",
    ]
    titles = ["Errors by split", "Learning", "Errors by split on test"]
    assert page.locator(".pair h3").all_text_contents() == titles
    assert page.locator("#held-out .pair h3").all_text_contents() == titles[2:]
    labels = [svg.get_attribute("aria-label") for svg in page.locator(".broad svg").all()]
    titles.insert(0, "Differences in squared_error")
    assert labels == [f"{title}: HEAD, workspace" for title in titles]
    for plot in page.locator("svg").all():
        assert plot.locator(".mark-symbol path, .mark-rule line, .mark-line path").count() >= 4
        assert "NaN" not in plot.inner_html()
    for picture, name in zip(page.locator("img").all(), ("HEAD", "workspace"), strict=True):
        assert picture.evaluate("picture => picture.naturalWidth") == 300
        assert picture.get_attribute("alt") == f"Dots of {name}"
        assert (picture.locator("xpath=..").text_content() or "").strip() == name


def test_revisions_are_in_their_order_in_every_plot(reported: Project, tmp_path: Path) -> None:
    """So that a revision has the same colour in all plots."""
    report(reported, "workspace", "HEAD", "--output", str(tmp_path / "report.html"))
    for path, names in (
        (reported.path / "report.html", ["HEAD", "workspace"]),
        (tmp_path / "report.html", ["workspace", "HEAD"]),
    ):
        legends = re.findall(r"(HEAD|workspace): lr 0\.\d+</text>", path.read_text())
        assert legends == 3 * names  # of all plots but that of the differences


@pytest.mark.slow
def test_the_numbers_are_those_of_compare_and_of_dvc(
    reported: Project, show_page: ShowPage
) -> None:
    page = show_page(reported.path / "report.html")
    command = ("python", "-m", "fairtrial", "compare", "HEAD", "workspace")
    verdict = prose(page.locator(".verdict.worse").text_content())
    assert verdict in map(prose, reported.run(*command).stdout.splitlines())
    [other] = json.loads(reported.run(*command, "--json").stdout)["others"]
    value, low, high = (f"{other[key]:+.4g}" for key in ("value", "low", "high"))
    drawn = page.locator("#answer .broad svg").text_content() or ""
    assert f"{value} ({low} to {high})".replace("-", "\u2212") in drawn.replace("-", "\u2212")
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
        root = ElementTree.parse(figure)
        assert len(root.findall(".//{*}path")) > 4
        fonts = {text.get("font-family") for text in root.findall(".//{*}text")}
        assert fonts == {"sans-serif"}  # which every system has
        assert "var(" not in figure.read_text()
        assert figure.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")


@needs_browser
@pytest.mark.slow
def test_many_revisions_with_long_names_fit_a_page_and_are_ranked(
    reproduced_regression: Project, show_page: ShowPage, tmp_path: Path
) -> None:
    project = Project(shutil.copytree(reproduced_regression.path, tmp_path / "project"))
    project.env["PYTHONPATH"] = str(ROOT)
    long = "a-setting-with-a-name-that-is-longer-than-all-of-the-others"
    project.run("dvc", "exp", "run", "--name", long, "-S", "fit.lr=0.14")
    names = ["HEAD", "slow", "near", "seed", "workspace", long]
    report(project, *names)
    page = show_page(project.path / "report.html", viewport={"width": 768, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert ["parameter", *names] in [table[0] for table in tables(page)]
    ranking = page.locator("#answer .broad svg").last
    assert ranking.get_attribute("aria-label") == f"squared_error of each seed: {', '.join(names)}"
    rows = ranking.locator(".role-axis-label").last.locator("text").all_text_contents()
    done = project.run("python", "-m", "fairtrial", "rank", *names, "--json")
    expected = json.loads(done.stdout)["ranking"]
    for row, one in zip(rows, expected, strict=True):  # a long name is cut
        assert row == f"{one['name']}  {one['group']}" or one["name"].startswith(row[:-1])
    assert [row.rpartition("  ")[0] for row in rows][-1] == "slow"


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
    reported: Project, show_page: ShowPage, browser: Browser, tmp_path: Path
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
    assert branch in (page.locator("h1").text_content() or "")
    assert f"../../Learning{script}" in page.locator("h3").all_text_contents()
    assert not page.evaluate("window.ran")
    assert page.locator("script").count() == 0
    names = {path.name for path in (project.path / "figures").iterdir()}
    assert any(name.startswith("learning-script") for name in names)
    assert len(names) == 2 * page.locator(".broad").count()
    # The policy of the page runs no script that a browser would run if a name came in as HTML.
    inserted = "<script>window.ran = 1</script><img src=x: onerror='window.ran = 1'>"
    before, body, after = (project.path / "report.html").read_text().partition("\n<body>\n")
    (project.path / "hostile.html").write_text(before + body + inserted + after)
    page = browser.new_page()
    page.goto((project.path / "hostile.html").as_uri())
    page.locator("main").wait_for()
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
    row = {"rev": "a", "label": "007", "predicted": "ankle boot"}
    angle = {"labelAngle": 0}
    spec = {
        "title": {"text": "Confusion matrix"},
        "data": {"values": [{**row, "more": "0.5"}]},
        "encoding": {
            "x": {"field": "predicted", "type": "nominal", "axis": angle},
            "y": {"field": "label", "type": "ordinal", "axis": angle},
            "color": {"field": "rev", "scale": {"domain": ["a"], "range": ["#945dd6"]}},
            "strokeDash": {},
        },
        "layer": [
            {"mark": "line", "params": [{"name": "grid", "bind": "scales"}, {"name": "hover"}]},
            {"mark": {"type": "line"}, "data": {"values": [{"diagonal": 0}]}},
        ],
    }
    [plot] = adapt_dvc_plot(spec, {"a": "a: lr 1", "b": "b: lr 2"}, {"test"})
    assert plot.spec["data"]["values"] == [row]
    color = plot.spec["encoding"]["color"]
    assert color["scale"] == {"domain": ["a", "b"]}
    assert "b: lr 2" in color["legend"]["labelExpr"]
    assert "strokeDash" not in plot.spec["encoding"]  # about which Vega warns
    assert plot.spec["encoding"]["x"]["axis"]["labelAngle"] == -45  # or the names would overlap
    assert plot.spec["encoding"]["y"]["axis"] == angle
    lines, diagonal = plot.spec["layer"]
    assert lines["params"] == [{"name": "hover"}]  # and no zooming
    widths = lines["encoding"]["strokeWidth"]["scale"]["range"]
    assert widths[0] > widths[1]  # so that a line of b does not hide an equal one of a
    assert "encoding" not in diagonal


def test_what_is_no_plot_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="the plot Mine cannot be drawn"):
        Plot("Mine", {"mark": "no such mark"}).draw(COLOURS)


def test_legends_name_what_differs() -> None:
    changes = pd.DataFrame(
        [["train.model", "linear", "cnn"], ["train.note", "x" * 60, "y"]],
        columns=["parameter", "HEAD", "b"],
    )
    assert legend_labels(["HEAD", "b"], changes) == {
        "HEAD": "HEAD: model linear, \u2026",
        "b": "b: model cnn, note y",
    }
    assert legend_labels(["HEAD", "b"], changes[1:]) == {"HEAD": "HEAD", "b": "b: note y"}
    assert legend_labels(["HEAD", "b"], changes[:0]) == {"HEAD": "HEAD", "b": "b"}


def test_powers_of_ten_are_written_as_by_hand() -> None:
    assert prose("p = 4.8e-07, 12e3, 5e+10") == (
        "p = 4.8\u00a0\u00d7\u00a010\u207b\u2077, 12e3, 5\u00a0\u00d7\u00a010\u00b9\u2070"
    )
