"""The command `python -m fairtrial.compare`, on real revisions."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers.project import Project


@pytest.fixture(scope="module")
def compared(clone: Callable[[], Project]) -> Project:
    """A clone with commits of lr 0.005, 0.01 (HEAD~1) and 0.1 (HEAD), and experiments."""
    project = clone()
    project.run("dvc", "repro")
    project.run("dvc", "exp", "run", "-n", "slower", "-S", "train.lr=0.005")
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    project.run("dvc", "exp", "run", "-n", "seed", "-S", "train.seed=100")
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    project.run("dvc", "exp", "run", "-S", "train.lr=0.1")
    project.commit("lr 0.1")
    return project


def output(project: Project, *arguments: str, ok: bool = True) -> str:
    done = project.run("python", "-m", "fairtrial.compare", *arguments, ok=ok)
    return done.stdout if ok else done.stderr


def test_three_revisions_are_compared(compared: Project) -> None:
    out = output(compared, "HEAD~1", "slower", "HEAD")
    assert re.search(r"slower is worse \(-\d\.\d points, 95 % CI -\d\.\d to -\d\.\d", out)
    assert re.search(r"HEAD is better \(\+\d\.\d points, 95 % CI \d\.\d to \d\.\d", out)
    assert re.search(r"train\.lr +0\.01 +0\.005 +0\.1", out)
    assert output(compared, "HEAD~1", "slower", "HEAD") == out
    # The same commit, by its branch and as the workspace.
    assert "the same images are right in both" in output(compared, "main", "workspace")


def test_another_seed_alone_is_no_difference(compared: Project) -> None:
    out = output(compared, "HEAD~1", "seed")
    assert re.search(
        r"no difference shown \(.*; about [\d,]+ (images|seeds) .*would be needed to show", out
    )
    assert "train.seed" in out


def test_the_difference_is_that_of_the_metrics(compared: Project) -> None:
    result = json.loads(output(compared, "HEAD~1", "HEAD", "--json", "--split", "test"))
    means = []
    for name in ("HEAD~1", "HEAD"):
        text = compared.run("git", "show", f"{name}:metrics/evaluate.json").stdout
        means.append(json.loads(text)["test"]["replicas"]["mean"])
    gap = result["others"][0]
    assert gap["value"] == pytest.approx(means[1] - means[0], abs=2e-6)
    assert gap["low"] < gap["value"] < gap["high"]


def test_the_test_split_comes_with_a_warning(compared: Project) -> None:
    assert "choose by val" in output(compared, "HEAD~1", "HEAD", "--split", "test")
    assert "choose by val" not in output(compared, "HEAD~1", "HEAD")


def test_markdown_has_the_tables_and_the_verdict(compared: Project) -> None:
    out = output(compared, "HEAD~1", "HEAD", "--md")
    assert out.count("|:--") >= 3
    assert "- HEAD is better (" in out


def test_latex_has_the_tables_and_the_verdict(compared: Project) -> None:
    out = output(compared, "HEAD~1", "HEAD", "--latex")
    assert out.count(r"\toprule") == 3
    assert "HEAD is better (" in out


def test_no_value_of_a_branch_is_taken_for_markup(compared: Project) -> None:
    compared.run("git", "checkout", "-qb", "hostile")
    values = '"\\e]0;PWNED\\a"', '"[link=http://x]x[/link]"', '"[/nothing]"', '"a|b"'
    with (compared.path / "params.yaml").open("a") as file:
        file.write("".join(f"  other_{number}: {value}\n" for number, value in enumerate(values)))
    compared.commit("hostile")
    compared.run("git", "checkout", "-q", "main")
    out = output(compared, "HEAD", "hostile")
    shown = [line.split()[1:] for line in out.splitlines() if "evaluate.other_" in line]
    assert shown == [
        ["(none)", value]
        for value in (r"\x1b]0;PWNED\x07", "[link=http://x]x[/link]", "[/nothing]", "a|b")
    ]
    lines = output(compared, "HEAD", "hostile", "--md").splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines if "evaluate.other_" in line]
    assert [cell.strip() for *_, cell, _ in cells] == [
        r"\\x1b\]0;PWNED\\x07",
        r"\[link=http://x\]x\[/link\]",
        r"\[/nothing\]",
        r"a\|b",
    ]


def test_the_best_of_many_is_corrected(compared: Project) -> None:
    def p(*arguments: str) -> float:
        [other] = json.loads(output(compared, "HEAD~1", "slower", "--json", *arguments))["others"]
        value: float = other["p"]
        return value

    assert p("--best-of", "1") == p()
    assert p("--best-of", "20") == pytest.approx(min(1, 20 * p()))
    (compared.path / "sweeps").mkdir()
    (compared.path / "sweeps/chosen.json").write_text('{"slower": 7}')
    try:
        assert p() == pytest.approx(min(1, 7 * p("--best-of", "1")))
        (compared.path / "sweeps/chosen.json").write_text('{"slower": "many"}')
        message = output(compared, "HEAD~1", "slower", ok=False)
        assert message.startswith("sweeps/chosen.json: not as a sweep writes it (")
    finally:
        shutil.rmtree(compared.path / "sweeps")


def test_a_gate_fails_where_it_is_worse(compared: Project) -> None:
    worse = compared.run(
        "python", "-m", "fairtrial.compare", "HEAD", "HEAD~1", "--fail-if-worse", ok=False
    )
    assert worse.returncode == 1
    assert "HEAD~1 is worse" in worse.stdout
    for better in ("HEAD", "seed"):
        output(compared, "HEAD~1", better, "--fail-if-worse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HEAD", ""], ": no commit, branch, tag or experiment has this name"),
        (["HEAD", "edited"], "edited: params.yaml has another train.lr than its results were made"),
        (["HEAD", "nonsense"], "nonsense: no commit, branch, tag or experiment has this name"),
        (["HEAD", "empty"], "empty: metrics/predictions.csv is not there; `dvc pull`"),
        (["HEAD", "older"], "older: metrics/predictions.csv has no column predicted"),
        (["HEAD", "text"], "text: metrics/predictions.csv has another value than a class in its"),
        (
            ["HEAD", "unnumbered"],
            "unnumbered: metrics/predictions.csv has another value than a whole",
        ),
        (["HEAD", "classless"], "classless: metrics/evaluate.json names no classes (KeyError("),
        (["HEAD", "twice"], "twice: metrics/predictions.csv has image "),
        (["HEAD", "sweep-0123abcd"], "sweep-0123abcd: no commit, branch, tag or experiment has"),
        (["HEAD", "broken"], "broken: metrics/predictions.csv cannot be read ("),
        (["HEAD", "yaml"], "yaml: params.yaml: line "),
        (["HEAD", "testless"], "testless: metrics/predictions.csv has no image of val"),
        (["HEAD", "unlocked"], "unlocked: dvc.lock does not say which data/prepared/val"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    compared: Project, arguments: list[str], message: str
) -> None:
    if not compared.run("git", "tag", "--list", "older").stdout:
        for name, command in (
            ("empty", "git rm -q metrics/predictions.csv"),
            ("older", "sed -i 1s/predicted/guess/ metrics/predictions.csv"),
            ("text", "sed -i '2s/,[0-9]*$/,three/' metrics/predictions.csv"),
            ("unnumbered", "sed -i '2s/,[0-9]*,/,three,/' metrics/predictions.csv"),
            ("classless", "sed -i s/recall/recalled/ metrics/evaluate.json"),
            ("twice", "sed -i 2p metrics/predictions.csv"),
            ("broken", ": > metrics/predictions.csv"),
            ("yaml", "echo 'a: [' > params.yaml"),
            ("testless", "sed -i /^val/d metrics/predictions.csv"),
            ("edited", "sed -i 's/^  lr: .*/  lr: 0.5/' params.yaml"),
            ("unlocked", "sed -i s/prepare:/other:/ dvc.lock"),
        ):
            compared.run("bash", "-c", f"{command} && git commit -qam {name} && git tag {name}")
            compared.run("git", "reset", "-q", "--hard", "HEAD~1")
    done = compared.run("python", "-m", "fairtrial.compare", *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    assert ("`--promote N`" in done.stderr) == arguments[1].startswith("sweep-")


def test_results_of_other_code_are_refused_as_stale(small_project: Project) -> None:
    small_project.edit("stages/prepare.py", "import numpy as np\n", "import numpy as np  # twice\n")
    message = output(small_project, "HEAD", "workspace", ok=False)
    assert message == (
        "workspace: stages/prepare.py has changed since its results were made; "
        "`dvc repro` makes them again\n"
    )


def test_results_of_another_data_card_are_refused_as_stale(small_project: Project) -> None:
    small_project.edit("sources/mnist-5k.yaml", "title: 5,000", "title: 5,001")
    message = output(small_project, "HEAD", "workspace", ok=False)
    assert message.startswith("workspace: sources/mnist-5k.yaml has changed since its results ")


def test_results_of_the_model_before_are_refused_as_stale(small_project: Project) -> None:
    small_project.set_params("train.lr=0.02")
    small_project.run("dvc", "repro", "train")
    small_project.commit("Half a run")
    for revision in ("HEAD", "workspace"):
        assert output(small_project, "HEAD~1", revision, ok=False) == (
            f"{revision}: dvc.lock has another data/checkpoints/model.safetensors than its stage "
            "evaluate read; `dvc repro` there runs that stage again\n"
        )


def test_a_running_training_is_named(small_project: Project) -> None:
    small_project.set_params("train.epochs=100000")
    process = subprocess.Popen(
        ["dvc", "repro"],
        cwd=small_project.path,
        env=small_project.env,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert any(line.startswith("epoch ") for line in process.stdout)
        message = output(small_project, "HEAD", "workspace", ok=False)
        assert re.fullmatch(
            r"workspace: DVC is running a stage here \(process \d+\); wait for its end\n", message
        )
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_predictions_may_be_in_the_cache_and_are_asked_for_where_they_are_not(
    project: Project,
) -> None:
    project.edit("dvc.yaml", "predictions.csv:\n          cache: false\n", "predictions.csv:\n")
    project.run("git", "rm", "-q", "--cached", "metrics/predictions.csv")
    project.run("dvc", "repro", "--force", "--single-item", "evaluate")
    project.commit("cached")
    assert "predictions" not in project.run("git", "ls-files", "metrics").stdout
    assert "right in both" in output(project, "HEAD", "workspace")
    (project.path / "metrics/predictions.csv").unlink()
    shutil.rmtree(project.path / ".dvc/cache/files")
    message = output(project, "HEAD", "HEAD", ok=False)
    assert message.startswith("HEAD: metrics/predictions.csv is not there; `dvc pull`")
    assert len(message.splitlines()) == 1


def test_outside_of_a_project_it_says_so(compared: Project, tmp_path: Any) -> None:
    compared.run(
        "bash",
        "-c",
        f"cd {tmp_path} && PYTHONPATH={compared.path} python -m fairtrial.compare A B 2> message; "
        "test $? = 2",
    )
    assert "no DVC project here" in (tmp_path / "message").read_text()


@pytest.mark.parametrize("tool", ["compare HEAD workspace", "report"])
def test_without_git_it_says_so(project: Project, tool: str) -> None:
    shutil.rmtree(project.path / ".git")
    done = project.run("python", "-m", *f"tools.{tool}".split(), ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("this folder is not in a git repository")
    assert len(done.stderr.splitlines()) == 1
