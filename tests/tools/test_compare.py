"""Comparing revisions, against known truth and other people's statistics."""

import json
import math
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mlxtend.evaluate import mcnemar as mlxtends
from scipy import stats

from tests.helpers.project import Project
from tools.analysis.significance import Array, Difference, difference, holm, mcnemar, needed
from tools.compare import Revision, compare, rounded

RANDOM = np.random.default_rng(0)


def replicas(shares: list[float], n: int = 500) -> Array:
    """Made-up replicas that get these shares of the images right, the easy ones first."""
    ease = np.random.default_rng(0).permutation(n)
    return np.array([ease < share * n for share in shares])


@pytest.mark.parametrize(
    ("only_a", "only_b"), [(0, 0), (0, 1), (0, 5), (3, 4), (10, 25), (120, 180), (700, 700)]
)
def test_mcnemar_is_mlxtends_and_the_closed_form(only_a: int, only_b: int) -> None:
    both, neither = 1_000, 100
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    found = mcnemar(a, b)
    assert found[:2] == (only_a, only_b)
    n, least = only_a + only_b, min(only_a, only_b)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    assert found[2] == pytest.approx(min(1.0, 2 * tail) if only_a != only_b else 1.0)
    if n:
        _, p = mlxtends(np.array([[both, only_a], [only_b, neither]]), exact=True)
        assert found[2] == pytest.approx(min(1.0, p))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_holm_is_scipys_in_spirit(n: int) -> None:
    """By hand: the k-th smallest of n times n - k, never less than the one before."""
    values = RANDOM.uniform(0, 0.2, n).tolist()
    expected = {}
    largest = 0.0
    for k, value in enumerate(sorted(values)):
        largest = max(largest, min(1.0, value * (n - k)))
        expected[value] = largest
    assert holm(values) == pytest.approx([expected[value] for value in values])


def test_the_interval_without_noise_of_seeds_is_that_of_a_paired_t_test() -> None:
    a, b = (RANDOM.uniform(size=(1, 5_000)) < share for share in (0.8, 0.82))
    found = difference(a, b, True, True)
    paired = stats.ttest_rel(b[0].astype(float), a[0].astype(float))
    expected = paired.confidence_interval(0.95)
    assert found.value == pytest.approx(b.mean() - a.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=5e-4)
    assert found.p == pytest.approx(paired.pvalue, abs=0.01)
    assert math.isnan(found.of_seeds)


def test_the_interval_without_noise_of_images_is_that_of_a_t_test_of_the_seeds() -> None:
    """Every image is right in the same replicas, so that images make no difference."""
    ease = np.linspace(0, 1, 200_000)
    shares_a, shares_b = RANDOM.normal(0.80, 0.01, (2, 5))
    a, b = (np.array([ease < share for share in shares]) for shares in (shares_a, shares_b))
    found = difference(a, b, True, False)
    welch = stats.ttest_ind(shares_b, shares_a, equal_var=False).confidence_interval(0.95)
    assert found.high - found.low == pytest.approx(welch.high - welch.low, rel=0.1)
    paired = difference(a, b, True, True)
    expected = stats.ttest_rel(shares_b, shares_a).confidence_interval(0.95)
    assert paired.high - paired.low == pytest.approx(expected.high - expected.low, rel=0.15)


def test_unpaired_images_are_wider() -> None:
    a, b = replicas([0.80, 0.81, 0.79]), replicas([0.82, 0.83, 0.81])
    paired, unpaired = (difference(a, b, same, False) for same in (True, False))
    assert unpaired.value == pytest.approx(paired.value)
    assert unpaired.high - unpaired.low > 1.5 * (paired.high - paired.low)
    share = unpaired.of_images / math.sqrt(2 * 0.81 * 0.19 / 500)
    assert share == pytest.approx(1, abs=0.05)


def test_the_share_of_wins_counts_pairs_of_seeds() -> None:
    a, b = replicas([0.80, 0.82]), replicas([0.81, 0.82])
    assert difference(a, b, True, True).wins == 0.75
    assert difference(a, b, True, False).wins == (1 + 1 + 0 + 0.5) / 4


def test_the_same_predictions_are_no_difference() -> None:
    a = replicas([0.8, 0.82])
    found = difference(a, a, True, True)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert needed(found, 500, 2) == (None, None)


@pytest.mark.parametrize(
    ("of_images", "of_seeds", "more"),
    [(0.02, 0.0, "images"), (0.02, math.nan, "images"), (0.0, 0.02, "seeds"), (0.02, 0.02, "both")],
)
def test_what_is_needed_would_do(of_images: float, of_seeds: float, more: str) -> None:
    gap = Difference(0.01, -0.03, 0.05, 0.6, 0.6, of_images, of_seeds)
    images, seeds = needed(gap, 500, 4)
    assert (images is not None) == (more in ("images", "both"))
    assert (seeds is not None) == (more in ("seeds", "both"))
    variance = of_images**2 * 500 / (images or 500)
    variance += (0 if math.isnan(of_seeds) else of_seeds**2) * 4 / (seeds or 4)
    power = stats.norm.cdf(0.01 / math.sqrt(variance) - stats.norm.ppf(0.975))
    assert power == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("number", "said"), [(7, "7"), (64, "64"), (641, "650"), (6_392, "6,400"), (99_500, "100,000")]
)
def test_advice_has_two_digits(number: int, said: str) -> None:
    assert rounded(number) == said


def revision(name: str, correct: Array, **changes: Any) -> Revision:
    images = np.stack([np.arange(correct.shape[1]), np.zeros(correct.shape[1], int)], 1)
    values = {"name": name, "images": images, "correct": correct, "params": {}, "data": "x"}
    return Revision(**{**values, **changes})


def test_other_images_and_a_single_seed_are_remarked() -> None:
    a = revision("a", replicas([0.8]))
    [one] = compare(a, [revision("b", replicas([0.9], 400), data="y")])
    assert one.remarks == [
        "unpaired: other images or labels (500 against 400)",
        "one seed: how much the seed does is not known and not allowed for",
    ]
    assert one.mcnemar is None
    moved = np.add(a.images, [[0, 1]])
    [other_labels] = compare(a, [revision("b", replicas([0.9]), images=moved)])
    assert "unpaired" in other_labels.remarks[0]


def test_several_are_corrected() -> None:
    a = revision("a", replicas([0.80, 0.805, 0.795]))
    near = [revision(f"b{i}", replicas([0.815, 0.82, 0.81])) for i in range(3)]
    [alone] = compare(a, near[:1])
    several = compare(a, near)
    assert several[0].p == pytest.approx(min(1, 3 * alone.p))


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


def said(project: Project, *arguments: str, ok: bool = True) -> str:
    done = project.run("python", "-m", "tools.compare", *arguments, ok=ok)
    return done.stdout if ok else done.stderr


def test_it_says_what_is_true_of_three_revisions(compared: Project) -> None:
    out = said(compared, "HEAD~1", "slower", "HEAD")
    assert re.search(r"slower is worse \(-\d\.\d points, 95 % CI -\d\.\d to -\d\.\d", out)
    assert re.search(r"HEAD is better \(\+\d\.\d points, 95 % CI \d\.\d to \d\.\d", out)
    assert re.search(r"train\.lr +0\.01 +0\.005 +0\.1", out)
    assert said(compared, "HEAD~1", "slower", "HEAD") == out
    # Pictures of the same commit by its branch, its hash and the workspace.
    assert "the same images are right in both" in said(compared, "main", "workspace")


def test_another_seed_alone_is_no_difference(compared: Project) -> None:
    out = said(compared, "HEAD~1", "seed")
    assert re.search(r"no difference shown \(.*; at this noise about [\d,]+ (images|seeds)", out)
    assert "train.seed" in out


def test_the_figures_are_those_of_the_metrics(compared: Project) -> None:
    found = json.loads(said(compared, "HEAD~1", "HEAD", "--json", "--split", "test"))
    means = []
    for name in ("HEAD~1", "HEAD"):
        text = compared.run("git", "show", f"{name}:metrics/evaluate.json").stdout
        means.append(json.loads(text)["test"]["replicas"]["mean"])
    gap = found["others"][0]["difference"]
    assert gap["value"] == pytest.approx(means[1] - means[0], abs=2e-6)
    assert gap["low"] < gap["value"] < gap["high"]


def test_the_test_split_comes_with_a_warning(compared: Project) -> None:
    assert "choose by val" in said(compared, "HEAD~1", "HEAD", "--split", "test")
    assert "choose by val" not in said(compared, "HEAD~1", "HEAD")


def test_markdown_has_the_tables_and_the_verdict(compared: Project) -> None:
    out = said(compared, "HEAD~1", "HEAD", "--md")
    assert out.count("|:--") >= 3
    assert "- HEAD is better (" in out


def test_a_gate_fails_where_it_is_worse(compared: Project) -> None:
    worse = compared.run(
        "python", "-m", "tools.compare", "HEAD", "HEAD~1", "--fail-if-worse", ok=False
    )
    assert worse.returncode == 1
    assert "HEAD~1 is worse" in worse.stdout
    for better in ("HEAD", "seed"):
        said(compared, "HEAD~1", better, "--fail-if-worse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["HEAD", ""], ": no commit, branch, tag or experiment is called so"),
        (["HEAD", "edited"], "edited: params.yaml has another train.lr than its results were made"),
        (["HEAD", "nonsense"], "nonsense: no commit, branch, tag or experiment is called so"),
        (["HEAD", "empty"], "empty: metrics/predictions.csv is not there; `dvc pull`"),
        (["HEAD", "older"], "older: metrics/predictions.csv has no column predicted"),
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
            ("testless", "sed -i /^val/d metrics/predictions.csv"),
            ("edited", "sed -i 's/^  lr: .*/  lr: 0.5/' params.yaml"),
            ("unlocked", "sed -i s/prepare:/other:/ dvc.lock"),
        ):
            compared.run("bash", "-c", f"{command} && git commit -qam {name} && git tag {name}")
            compared.run("git", "reset", "-q", "--hard", "HEAD~1")
    done = compared.run("python", "-m", "tools.compare", *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


def test_predictions_may_be_in_the_cache_and_are_asked_for_where_they_are_not(
    project: Project,
) -> None:
    project.edit("dvc.yaml", "predictions.csv:\n          cache: false\n", "predictions.csv:\n")
    project.run("git", "rm", "-q", "--cached", "metrics/predictions.csv")
    project.run("dvc", "repro", "--force", "--single-item", "evaluate")
    project.commit("cached")
    assert "predictions" not in project.run("git", "ls-files", "metrics").stdout
    assert "right in both" in said(project, "HEAD", "workspace")
    (project.path / "metrics/predictions.csv").unlink()
    shutil.rmtree(project.path / ".dvc/cache/files")
    message = said(project, "HEAD", "HEAD", ok=False)
    assert message.startswith("HEAD: metrics/predictions.csv is not there; `dvc pull`")
    assert len(message.splitlines()) == 1


def test_outside_of_a_project_it_says_so(compared: Project, tmp_path: Any) -> None:
    compared.run(
        "bash",
        "-c",
        f"cd {tmp_path} && PYTHONPATH={compared.path} python -m tools.compare A B 2> said; "
        "test $? = 2",
    )
    assert "no DVC project here" in (tmp_path / "said").read_text()


@pytest.mark.parametrize("tool", ["compare HEAD workspace", "report"])
def test_without_git_it_says_so(project: Project, tool: str) -> None:
    shutil.rmtree(project.path / ".git")
    done = project.run("python", "-m", *f"tools.{tool}".split(), ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("no git repository here")
    assert len(done.stderr.splitlines()) == 1
