"""The command `python -m fairtrial compare`, on real revisions of the second project."""

import contextlib
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairtrial.__main__ import main
from fairtrial.project.contract import parse_contract
from fairtrial.project.errors import InputError
from fairtrial.rank import group_letters
from tests.helpers.project import ROOT, Project

# Two values, and each of the lines below doubles them.
BOMB = "".join(f"\na{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(60))


def output(project: Project, *arguments: str) -> str:
    """Return what a comparison prints; in this process, which spares its imports."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.chdir(project.path)
        patch.setattr("sys.argv", ["fairtrial", "compare", *arguments])
        for name, value in project.env.items():
            patch.setenv(name, value)
        main()
    return printed.getvalue()


def refused(project: Project, *arguments: str) -> str:
    """Return the sentences by which a comparison is refused."""
    with pytest.raises(InputError) as caught:
        output(project, *arguments)
    return str(caught.value)


def test_revisions_are_compared_by_the_first_metric(reproduced_regression: Project) -> None:
    out = output(reproduced_regression, "HEAD", "slow", "near", "seed")
    assert re.search(r"slow is worse \(\+0\.\d+, 95 % CI 0\.\d+ to 0\.\d+, p = ", out)
    assert re.search(r"fit\.lr +0\.05 +0\.0005 +0\.06 +0\.05", out)
    assert re.search(r"seed: no difference shown \(.*would be needed to show", out)
    assert "fit.seed" in out
    # The same commit, by its branch and as the workspace.
    same = output(reproduced_regression, "main", "workspace")
    assert "all scores are the same" in same
    assert "fit.lr" not in same  # no parameter has changed


def test_the_readme_shows_this_project(reproduced_regression: Project) -> None:
    readme = (ROOT / "fairtrial/README.md").read_text()
    assert f"```\n{output(reproduced_regression, 'HEAD', 'slow')}```" in readme
    [block] = re.findall(r"```yaml\n(    meta:\n.*?)```", readme, re.DOTALL)
    shown = parse_contract(f"stages:\n  fit:\n{block}".encode(), "README")
    written = (reproduced_regression.path / "dvc.yaml").read_bytes()
    assert shown == parse_contract(written, "workspace")


def test_the_direction_is_that_of_the_metric(reproduced_regression: Project) -> None:
    by_default = output(reproduced_regression, "slow", "HEAD")
    by_name = output(reproduced_regression, "slow", "HEAD", "--metric", "close")
    assert re.search(r"HEAD is better \(-0\.\d+, 95 %", by_default)
    assert re.search(r"HEAD is better \(\+\d+\.\d points, 95 %", by_name)
    assert "McNemar" in by_name
    assert "McNemar" not in by_default


def test_several_metrics_are_compared_at_once(reproduced_regression: Project) -> None:
    both = "--metric", "close", "--metric", "squared_error"
    result = json.loads(output(reproduced_regression, "slow", "HEAD", "near", *both, "--json"))
    assert (result["primary"], result["metric"]) == ("squared_error", "close")
    assert list(result["metrics"]) == ["close", "squared_error"]
    assert result["others"] == result["metrics"]["close"]
    alone = json.loads(output(reproduced_regression, "slow", "HEAD", "near", "--json"))
    assert result["metrics"]["squared_error"] == alone["others"]
    text = output(reproduced_regression, "slow", "HEAD", *both)
    assert re.search(r"^close: HEAD is better \(", text, re.MULTILINE)
    assert re.search(r"^squared_error: HEAD is better \(", text, re.MULTILINE)
    assert text.count("against slow") == 2
    assert "squared_error is the first metric of dvc.yaml, and not corrected" in text
    message = refused(reproduced_regression, "slow", "HEAD", *both, "--margin", "1")
    assert message == "--margin is in the unit of one metric: give --metric once"


def test_the_difference_is_that_of_the_metrics(reproduced_regression: Project) -> None:
    text = output(reproduced_regression, "HEAD", "slow", "--json", "--split", "test")
    result = json.loads(text)
    assert (result["first"], result["split"], result["metric"]) == ("HEAD", "test", "squared_error")
    means = []
    references = reproduced_regression.run("git", "for-each-ref", "--format=%(refname)").stdout
    [slow] = [name for name in references.splitlines() if name.endswith("/slow")]
    for name in ("HEAD", slow):
        text = reproduced_regression.run("git", "show", f"{name}:fit.json").stdout
        means.append(json.loads(text)["fit"]["test"])
    [gap] = result["others"]
    assert gap["value"] == pytest.approx(means[1] - means[0], abs=2e-6)
    assert gap["low"] < gap["value"] < gap["high"]
    note = "choose by val: once you have chosen by test"
    assert note in output(reproduced_regression, "HEAD", "slow", "--split", "test")
    assert note not in output(reproduced_regression, "HEAD", "slow")


def test_markdown_and_latex_have_the_tables_and_the_verdict(reproduced_regression: Project) -> None:
    markdown = output(reproduced_regression, "HEAD", "slow", "--md")
    assert markdown.count("|:--") >= 3
    assert "- slow is worse (" in markdown
    latex = output(reproduced_regression, "HEAD", "slow", "--latex")
    assert latex.count(r"\toprule") == 4
    assert "slow is worse (" in latex


def test_no_value_of_a_branch_is_taken_for_markup(regression: Project) -> None:
    regression.run("git", "checkout", "-qb", "hostile")
    values = '"\\e]0;PWNED\\a"', '"[link=http://x]x[/link]"', '"[/nothing]"', '"a|b"'
    with (regression.path / "params.yaml").open("a") as file:
        file.write("".join(f"  other_{number}: {value}\n" for number, value in enumerate(values)))
    regression.commit("hostile")
    out = output(regression, "main", "hostile")
    shown = [line.split()[1:] for line in out.splitlines() if "score.other_" in line]
    assert shown == [
        ["(none)", value]
        for value in (r"\x1b]0;PWNED\x07", "[link=http://x]x[/link]", "[/nothing]", "a|b")
    ]
    lines = output(regression, "main", "hostile", "--md").splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines if "score.other_" in line]
    assert [cell.strip() for *_, cell, _ in cells] == [
        r"\\x1b\]0;PWNED\\x07",
        r"\[link=http://x\]x\[/link\]",
        r"\[/nothing\]",
        r"a\|b",
    ]


def test_the_best_of_many_is_corrected(regression: Project) -> None:
    def p(*arguments: str) -> float:
        [other] = json.loads(output(regression, "main", "near", "--json", *arguments))["others"]
        value: float = other["p"]
        return value

    alone = p()
    assert p("--best-of", "1") == alone
    assert p("--best-of", "3") == pytest.approx(min(1, 3 * alone))
    # As a sweep notes it: the params of near, without its seed and replicas, are the best of 2.
    chosen = regression.path / "sweeps/chosen.json"
    program = (
        "from fairtrial.project.scores import load_scores as load\n"
        "from fairtrial.project.chosen import record_chosen as record\n"
        "near = load('near'); record([near.params], 2, near.contract)"
    )
    regression.run("python", "-c", program)
    assert p() == pytest.approx(min(1, 2 * alone))
    regression.run("dvc", "exp", "branch", "near", "copy")
    [other] = json.loads(output(regression, "copy", "main", "--json"))["others"]
    assert other["p"] == pytest.approx(min(1, 2 * alone))
    chosen.write_text('{"near": "many"}')
    assert refused(regression, "main", "near").startswith("sweeps/chosen.json: ")
    assert "--best-of has to be 1" in refused(regression, "main", "near", "--best-of", "0")


def test_a_margin_a_slice_and_bad_ones(reproduced_regression: Project) -> None:
    text = output(reproduced_regression, "slow", "HEAD", "--margin", "0.001")
    assert "; not worse by 0.001 or more" in text
    text = output(reproduced_regression, "HEAD", "slow", "--metric", "close", "--margin", "0.5")
    assert "; worse by more than 0.5 points" in text
    for option, sentence in (
        (["--margin", "0"], "--margin has to be above 0"),
        (["--margin", "nan"], "--margin has to be above 0"),
        (
            ["--slice", "group=a"],
            "HEAD: --slice group=a: the table of scores has no column 'group'",
        ),
        (["--slice", "label"], "HEAD: --slice label: no example has that label; known: "),
    ):
        assert refused(reproduced_regression, "HEAD", "slow", *option).startswith(sentence)


def test_revisions_are_ranked(reproduced_regression: Project) -> None:
    def rank(*arguments: str, ok: bool = True) -> str:
        result = reproduced_regression.run("python", "-m", "fairtrial", "rank", *arguments, ok=ok)
        return result.stdout if ok else result.stderr

    result = json.loads(rank("slow", "HEAD", "--json"))
    assert [one["name"] for one in result["ranking"]] == ["HEAD", "slow"]
    assert [one["group"] for one in result["ranking"]] == ["a", "b"]
    assert len(result["pairs"]) == 1
    assert "HEAD is better than all others" in rank("slow", "HEAD")
    assert "needs from 2 to 100 different revisions" in rank("HEAD", "HEAD", ok=False)


def test_letters_are_shared_by_those_that_are_alike() -> None:
    def letters(count: int, different: set[tuple[int, int]]) -> list[str]:
        return group_letters(count, lambda i, j: (i, j) not in different)

    assert letters(3, set()) == ["a", "a", "a"]
    assert letters(3, {(0, 1), (0, 2), (1, 2)}) == ["a", "b", "c"]
    assert letters(3, {(0, 2)}) == ["a", "ab", "b"]
    assert letters(4, {(0, 2), (0, 3), (1, 3)}) == ["a", "ab", "bc", "c"]
    # The last has so wide an interval that it differs from none, unlike its neighbours.
    assert letters(3, {(0, 1)}) == ["a", "b", "ab"]


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_two_share_a_letter_exactly_when_they_are_alike(n: int, share: float, seed: int) -> None:
    is_alike = np.random.default_rng(seed).uniform(size=(n, n)) < share
    letters = group_letters(n, lambda i, j: bool(is_alike[i, j]))
    assert all(letters)
    for i, j in itertools.combinations(range(n), 2):
        assert bool({*letters[i]} & {*letters[j]}) == is_alike[i, j]


def test_a_plan_says_how_many_seeds_are_needed(reproduced_regression: Project) -> None:
    def plan(*arguments: str, ok: bool = True) -> str:
        command = ("python", "-m", "fairtrial", "plan", "HEAD", *arguments)
        result = reproduced_regression.run(*command, ok=ok)
        return result.stdout if ok else result.stderr

    result = json.loads(plan("--difference", "0.02", "--json"))
    sizes = list(result["detectable"].values())
    assert sizes == sorted(sizes, reverse=True)
    assert result["detectable"]["2"] > result["detectable"]["50"] > 0
    assert result["seeds"] > 1
    more = json.loads(plan("--difference", "0.01", "--json"))["seeds"]
    assert more is None or more > result["seeds"]
    assert "smallest difference in squared_error" in plan()
    assert "--difference has to be above 0" in plan("--difference", "-1", ok=False)


def test_a_gate_fails_where_it_is_worse(reproduced_regression: Project) -> None:
    command = ("python", "-m", "fairtrial", "compare")
    worse = reproduced_regression.run(*command, "HEAD", "slow", "--fail-if-worse", ok=False)
    assert worse.returncode == 1
    assert "slow is worse" in worse.stdout
    assert "HEAD is better" in output(reproduced_regression, "slow", "HEAD", "--fail-if-worse")


@pytest.fixture(scope="module")
def broken(reproduced_regression: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The second project with a tag for each of its broken revisions."""
    folder = tmp_path_factory.mktemp("broken") / "project"
    project = Project(shutil.copytree(reproduced_regression.path, folder))
    project.env["PYTHONPATH"] = str(ROOT)
    for name, command in (
        ("pipeless", "git rm -q dvc.yaml"),
        ("claimless", "sed -i s/fairtrial:/other:/ dvc.yaml"),
        ("twice", "sed -i 's/    outs: .points.csv.*/&\\n    meta: {fairtrial: {}}/' dvc.yaml"),
        ("typo", "sed -i s/split:/spilt:/ dvc.yaml"),
        ("empty", "git rm -q scores.csv"),
        ("edited", "sed -i 's/^  lr: [0-9.]*/  lr: 0.5/' params.yaml"),
        ("moved", "sed -i 2s/0/1/ scores.csv"),
        ("yaml", "echo 'a: [' > params.yaml"),
        ("bomb", f"echo 'a0: &a0 [1, 1]{BOMB}' > params.yaml"),
        ("unlocked", "sed -i 's/^  fit:/  other:/' dvc.lock"),
        ("lockless", "git rm -q dvc.lock"),
    ):
        project.run("bash", "-c", f"{command} && git commit -qam {name} && git tag {name}")
        project.run("git", "reset", "-q", "--hard", "HEAD~1")
    return project


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", ": no commit, branch, tag or experiment has this name"),
        ("nonsense", "nonsense: no commit, branch, tag or experiment has this name"),
        ("sweep-0123abcd", "sweep-0123abcd: no commit, branch, tag or experiment has"),
        ("pipeless", "pipeless: dvc.yaml is not there; "),
        ("claimless", "claimless: dvc.yaml: no stage has `meta: fairtrial:`"),
        ("twice", "twice: dvc.yaml: the stages points and fit have `meta: fairtrial:`; keep one"),
        ("typo", "typo: dvc.yaml: stages.fit.meta.fairtrial.s"),
        ("empty", "empty: scores.csv is not there; `dvc pull`"),
        ("edited", "edited: params.yaml has another fit.lr than its results were made with"),
        ("moved", "moved: scores.csv is not the table that dvc.lock says stage fit made"),
        ("yaml", "yaml: params.yaml: line 2: not valid YAML"),
        ("bomb", "bomb: params.yaml: line "),
        ("unlocked", "unlocked: dvc.lock does not say what the scores of stage fit were made of"),
        ("lockless", "lockless: dvc.lock is not there"),
    ],
)
def test_what_cannot_be_compared_is_refused(broken: Project, name: str, message: str) -> None:
    said = refused(broken, "main", name)
    assert said.startswith(message)
    assert ("`--promote N`" in said) == name.startswith("sweep-")


def test_an_unknown_metric_or_split_is_refused(reproduced_regression: Project) -> None:
    assert refused(reproduced_regression, "HEAD", "slow", "--metric", "f1") == (
        "unknown metric 'f1'; known: squared_error, close"
    )
    assert refused(reproduced_regression, "HEAD", "slow", "--split", "dev") == (
        "HEAD: scores.csv: no example of split 'dev'; known splits: val, test"
    )


def test_stale_results_of_the_workspace_are_refused(regression: Project) -> None:
    regression.edit("regression.py", "WAVES = 30", "WAVES = 31")
    assert refused(regression, "HEAD", "workspace") == (
        "workspace: regression.py has changed since its results were made; "
        "`dvc repro` there makes its results again"
    )
    regression.run("git", "checkout", "-q", "regression.py")
    # Half a run: the data are new, and the fit is of those before.
    regression.set_params("points.noise=0.4")
    regression.run("dvc", "repro", "points")
    regression.commit("Half a run")
    for revision in ("HEAD", "workspace"):
        assert refused(regression, "HEAD~1", revision) == (
            f"{revision}: dvc.lock has another points.csv than its stage fit read; "
            "`dvc repro` there makes its results again"
        )


def test_a_running_stage_is_named(regression: Project) -> None:
    regression.set_params("fit.epochs=100000")
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=regression.path,
        env=regression.env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any("python -m regression fit" in line for line in process.stdout)
        message = refused(regression, "HEAD", "workspace")
        assert re.fullmatch(
            r"workspace: DVC is running a stage here \(process \d+\); wait for its end", message
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_scores_may_be_in_the_cache_and_are_asked_for_where_they_are_not(
    regression: Project,
) -> None:
    regression.edit("dvc.yaml", "scores.csv: {cache: false}", "scores.csv")
    regression.run("git", "rm", "-q", "--cached", "scores.csv")
    regression.run("dvc", "repro", "--force", "--single-item", "fit")
    regression.commit("cached")
    assert "scores" not in regression.run("git", "ls-files", "*.csv").stdout
    assert "all scores are the same" in output(regression, "HEAD", "workspace")
    (regression.path / "scores.csv").unlink()
    shutil.rmtree(regression.path / ".dvc/cache/files")
    assert refused(regression, "HEAD", "HEAD").startswith(
        "HEAD: scores.csv is not there; `dvc pull` gets what was shared"
    )


def test_a_project_may_be_a_folder_of_its_repository(regression: Project) -> None:
    top = regression.path.parent / "repository"
    shutil.copytree(regression.path, top / "sub/project", ignore=shutil.ignore_patterns(".git"))
    project = Project(top / "sub/project")
    project.env["PYTHONPATH"] = str(ROOT)
    for command in (
        ("git", "init", "-q", "-b", "main", str(top)),
        ("git", "config", "user.name", "Somebody"),
        ("git", "config", "user.email", "somebody@example.org"),
    ):
        project.run(*command)
    project.commit("start")
    project.set_params("fit.lr=0.0005")
    project.run("dvc", "repro", "-q")
    assert "workspace is worse" in output(project, "HEAD", "workspace")
    project.commit("slow")
    assert "HEAD~1 is better" in output(project, "HEAD", "HEAD~1")
    done = project.run(
        "python", "-m", "fairtrial", "until-decided", "HEAD", "HEAD~1", "--max-replicas", "4"
    )
    assert "after 4 replicas of each" in done.stdout


def test_outside_of_a_project_or_of_git_it_says_so(regression: Project, tmp_path: Path) -> None:
    outside = Project(tmp_path)
    outside.env["PYTHONPATH"] = str(ROOT)
    done = outside.run("python", "-m", "fairtrial", "compare", "A", "B", ok=False)
    assert done.returncode == 2
    assert done.stderr == "no DVC project here; run this at the top of the project\n"
    shutil.rmtree(regression.path / ".git")
    assert refused(regression, "HEAD", "slow").startswith("this folder is not in a git repository")


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], 0, "python -m fairtrial compare HEAD~1 HEAD"),
        (["--help"], 0, "until-decided A B"),
        (["comapre", "A", "B"], 2, "unknown command 'comapre'; did you mean compare?"),
        (["x"], 2, "unknown command 'x'; known: compare, mend, plan, rank, report, "),
        (["compare", "--help"], 0, "python -m fairtrial compare HEAD~1 HEAD"),
        (["until-decided", "--help"], 0, "--max-replicas"),
    ],
)
def test_help_fits_a_screen(tmp_path: Path, arguments: list[str], status: int, text: str) -> None:
    project = Project(tmp_path)
    project.env |= {"PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    done = project.run("python", "-m", "fairtrial", *arguments, ok=not status)
    said = done.stderr if status else done.stdout
    assert done.returncode == status
    assert text in said
    assert len(said.splitlines()) <= 28
    assert max(map(len, said.splitlines())) <= 100
