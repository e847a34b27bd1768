"""`python -m fairtrial.compare A B --until-known`, on real revisions."""

import itertools
import json
import signal
import subprocess

import pytest

from tests.helpers.project import Project
from fairtrial.until_decided import MAX_BATCH, batches

COMMAND = ("python", "-m", "fairtrial.compare")


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
        "experiments": project.run("dvc", "exp", "list", "--all-commits").stdout,
        # What DVC itself keeps there comes and goes; folders of ours do not stay.
        "temporary": " ".join(name for name in temporary if name.startswith("until-known")),
    }


def val_accuracy(project: Project) -> float:
    text = (project.path / "metrics/evaluate.json").read_text()
    mean: float = json.loads(text)["val"]["replicas"]["mean"]
    return mean


@pytest.mark.slow
def test_replicas_are_trained_until_it_is_known_and_nothing_else_changes(
    small_project: Project,
) -> None:
    small_project.run("dvc", "exp", "run", "--temp", "-n", "fast", "-S", "train.lr=0.3")
    # The workspace is neither of the two, and has changes of each kind.
    small_project.set_params("train.lr=0.02")
    small_project.run("git", "add", "params.yaml")
    small_project.set_params("train.lr=0.03")
    (small_project.path / "notes.txt").write_text("mine")
    before = snapshot(small_project)
    command = (*COMMAND, "HEAD", "fast", "--until-known", "--max-replicas")
    assert "fast is better (+" in small_project.run(*command, "7").stdout
    assert snapshot(small_project) == before
    # The first four replicas are those that DVC trains from train.seed.
    result = json.loads(small_project.run(*command, "4", "--json").stdout)
    assert result["replicas"] == 4
    means = []
    for lr in ("0.01", "0.3"):
        small_project.set_params(f"train.lr={lr}", "train.replicas=4")
        # It was trained before, with these bits: DVC has it in its cache.
        out = small_project.run("dvc", "repro").stdout
        assert "Stage 'train' is cached" in out
        means.append(val_accuracy(small_project))
    assert result["value"] == pytest.approx(means[1] - means[0], abs=2e-6)


@pytest.mark.slow
def test_the_workspace_is_compared_as_it_is(small_project: Project) -> None:
    # A comment in the code changes no result: the same images are right.
    path = small_project.path / "stages/train.py"
    path.write_text(path.read_text() + "\n# A comment.\n")
    small_project.run("dvc", "repro")
    before = snapshot(small_project)
    done = small_project.run(
        *COMMAND, "HEAD", "workspace", "--until-known", "--max-replicas", "100"
    )
    assert snapshot(small_project) == before
    assert "each replica gets the same images right in both" in done.stdout
    assert "after 6 replicas of each" in done.stdout


@pytest.mark.slow
def test_what_is_interrupted_leaves_nothing(small_project: Project) -> None:
    small_project.run("dvc", "exp", "run", "--temp", "-n", "long", "-S", "train.lr=0.02")
    before = snapshot(small_project)
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            [*COMMAND, "HEAD", "long", "--until-known"],
            cwd=small_project.path,
            env=small_project.env,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stderr is not None
            assert "replicas of each" in process.stderr.readline()  # the next batch has begun
            process.send_signal(how)
            process.communicate(timeout=60)
        assert process.returncode != 0
        if how == signal.SIGKILL:
            assert snapshot(small_project)["temporary"]  # what the next command removes
        else:
            assert snapshot(small_project) == before


@pytest.mark.slow
def test_bad_input_is_refused_before_anything_is_trained(small_project: Project) -> None:
    for arguments, message in (
        (("HEAD", "HEAD", "HEAD", "--until-known"), "give one B"),
        (("HEAD", "HEAD", "--until-known", "--split", "test"), "val"),
        (("HEAD", "HEAD", "--until-known", "--max-replicas", "3"), "4 or more"),
        (("HEAD", "HEAD", "--max-replicas", "30"), "belongs to --until-known"),
    ):
        done = small_project.run(*COMMAND, *arguments, ok=False)
        assert done.returncode == 2
        assert message in done.stderr
    small_project.set_params("prepare.seed=1")
    small_project.run("dvc", "repro")
    done = small_project.run(*COMMAND, "HEAD", "workspace", "--until-known", ok=False)
    assert done.returncode == 2
    assert "HEAD and workspace have other images or labels in val" in done.stderr
    assert "Traceback" not in done.stderr


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
