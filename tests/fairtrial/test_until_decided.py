"""`python -m fairtrial until-decided A B`, on real revisions of the second project."""

import itertools
import json
import signal
import subprocess

import pytest

from fairtrial.until_decided import MAX_BATCH, batches
from tests.helpers.project import Project

COMMAND = ("python", "-m", "fairtrial", "until-decided")


def snapshot(project: Project) -> dict[str, str | bytes]:
    """Return everything of the user's that training must not change."""
    kept = [
        path
        for path in project.path.rglob("*")
        if path.is_file()
        and not path.is_relative_to(project.path / ".dvc/cache")
        and not path.is_relative_to(project.path / ".dvc/tmp")
        and not path.is_relative_to(project.path / ".git")
        and "__pycache__" not in path.parts
    ]
    temporary = sorted(path.name for path in (project.path / ".dvc/tmp").iterdir())
    return {
        **{str(path): path.read_bytes() for path in kept},
        "index": (project.path / ".git/index").read_bytes(),
        "HEAD": (project.path / ".git/HEAD").read_bytes(),
        "references": project.run("git", "for-each-ref").stdout,
        # What DVC itself keeps there comes and goes; folders of ours do not stay.
        "temporary": " ".join(name for name in temporary if name.startswith("until-decided")),
    }


def test_replicas_are_trained_until_it_is_known_and_nothing_else_changes(
    regression: Project,
) -> None:
    # The workspace is neither of the two, and has changes of each kind.
    regression.set_params("fit.lr=0.02")
    regression.run("git", "add", "params.yaml")
    regression.set_params("fit.lr=0.03")
    (regression.path / "notes.txt").write_text("mine")
    before = snapshot(regression)
    command = (*COMMAND, "main", "slow", "--max-replicas")
    assert "slow is worse (+" in regression.run(*command, "30").stdout
    assert snapshot(regression) == before
    # The first replicas are those that the project itself makes of the seed.
    result = json.loads(regression.run(*command, "4", "--json").stdout)
    assert (result["replicas"], result["metric"]) == (4, "squared_error")
    means = []
    for lr in ("0.05", "0.0005"):
        regression.set_params(f"fit.lr={lr}", "fit.replicas=4")
        # It was trained before, with these bits: DVC has it in its cache.
        out = regression.run("dvc", "repro").stdout
        assert "Stage 'fit' is cached" in out
        means.append(json.loads((regression.path / "fit.json").read_text())["fit"]["val"])
    assert result["value"] == pytest.approx(means[1] - means[0], abs=2e-6)


def test_the_workspace_is_compared_as_it_is(regression: Project) -> None:
    # A comment in the code changes no result: all scores are the same.
    path = regression.path / "regression.py"
    path.write_text(path.read_text() + "\n# A comment.\n")
    regression.run("dvc", "repro")
    before = snapshot(regression)
    done = regression.run(*COMMAND, "HEAD", "workspace", "--metric", "close", "--fail-if-worse")
    assert snapshot(regression) == before
    assert "no difference shown after 5 replicas of each (+0.0 points" in done.stdout
    assert "each replica has the same scores in both" in done.stdout


@pytest.mark.parametrize(
    "how",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_what_is_interrupted_leaves_nothing(regression: Project, how: signal.Signals) -> None:
    before = snapshot(regression)
    with subprocess.Popen(
        [*COMMAND, "main", "near"],
        cwd=regression.path,
        env=regression.env,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        assert "replicas of each" in process.stderr.readline()  # the next batch has begun
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == signal.SIGKILL:
        assert snapshot(regression)["temporary"]  # what the next command removes
        regression.run(*COMMAND, "main", "near", "--max-replicas", "4")
    else:
        assert said.splitlines()[-1] == "interrupted"
    assert snapshot(regression) == before


def test_what_cannot_be_paired_or_trained_is_refused(regression: Project) -> None:
    def refused(*arguments: str) -> str:
        done = regression.run(*COMMAND, *arguments, ok=False)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "4 or more: fewer decide nothing" in refused("main", "near", "--max-replicas", "3")
    assert "unknown metric 'f1'" in refused("main", "near", "--metric", "f1")
    regression.set_params("points.seed=1")
    regression.run("dvc", "repro")
    assert refused("main", "workspace").startswith(
        "main and workspace have other examples or labels in val, so their replicas cannot be pairs"
    )
    regression.run("git", "checkout", "-q", ".")
    regression.set_params("fit.seed=two")
    assert refused("workspace", "near").startswith("workspace: params.yaml has another fit.seed")


def test_batches_grow_up_to_the_number_that_is_wanted() -> None:
    for first, total in itertools.product((1, 2, 5, 100), (4, 5, 99, 100, 1_000)):
        seeds, sizes = zip(*batches(7, first, total), strict=True)
        assert sum(sizes) == total
        assert max(sizes) <= MAX_BATCH
        assert seeds[0] == 7
        assert len(set(seeds)) == len(seeds)
        assert all(0 <= seed < 2**32 for seed in seeds)
        # A lower limit ends the same sequence of replicas earlier.
        longer = list(batches(7, first, 2 * total))[: len(seeds)]
        assert [seed for seed, _ in longer] == list(seeds)
        assert [size for _, size in longer][:-1] == list(sizes)[:-1]
