"""What happens to people who work with DVC, each tried with the real one."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.project import ROOT, Project

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MEND = ("python", "-m", "fairtrial", "mend")


def entry_of(project: Project, stage: str) -> Path:
    """Return the entry of DVC's cache of runs for a stage."""
    [path] = [
        path
        for path in (project.path / ".dvc/cache/runs").glob("*/*/*")
        if f"python -m stages {stage}" in path.read_text()
    ]
    return path


FIRST = "after the folder was made"
CUTS: dict[str, Callable[[Path], object]] = {
    FIRST: lambda entry: entry.unlink(),
    "in its draft": lambda entry: entry.rename(entry.with_name("d5tQhTrJs4S2")).write_text(
        "cmd: x"
    ),
    "before its content was on the disk": lambda entry: entry.write_text(""),
}


@pytest.mark.parametrize(
    "cut", [FIRST, *(pytest.param(cut, marks=pytest.mark.slow) for cut in CUTS if cut != FIRST)]
)
def test_a_cache_of_runs_that_was_cut_is_mended(small_project: Project, cut: str) -> None:
    """DVC was killed while it wrote there what it had run; `dvc.lock` does not have it yet."""
    CUTS[cut](entry_of(small_project, "train"))
    (small_project.path / "dvc.lock").unlink()
    if cut == FIRST:
        message = "join() argument must be str, bytes, or os.PathLike object, not 'NoneType'"
        assert message in small_project.run("dvc", "repro", ok=False).stderr
        assert message in PAGE
    assert "removed" in small_project.run(*MEND).stdout
    assert small_project.run(*MEND).stdout == "nothing to mend\n"
    assert small_project.ran("repro") == ["train"]
    assert small_project.status() == ""


@pytest.mark.slow
def test_two_branches_with_other_results_are_merged(small_project: Project) -> None:
    small_project.run("git", "switch", "-qc", "other")
    small_project.run("dvc", "exp", "run", "-q", "-S", "train.lr=0.02")
    small_project.commit("theirs")
    small_project.run("git", "switch", "-q", "main")
    small_project.run("dvc", "checkout", "-q")
    small_project.run("dvc", "exp", "run", "-q", "-S", "train.lr=0.03", "-S", "train.epochs=5")
    small_project.commit("ours")
    merge = small_project.run("git", "merge", "other", ok=False).stdout
    for name in ("params.yaml", "dvc.lock", "metrics/train.json", "metrics/weights.png"):
        assert f"Merge conflict in {name}" in merge
    conflicts = small_project.run("git", "grep", "-l", "^<<<<<<<", "--", "*", ":!tests", ":!docs")
    assert conflicts.stdout == "params.yaml\n"
    # As docs/template.md says.
    small_project.run("git", "checkout", "--ours", "params.yaml")
    small_project.edit("params.yaml", "  lr: 0.03", "  lr: 0.02")
    small_project.run("bash", "-euc", "dvc repro && git add --all && git commit -m Merged")
    assert small_project.status() == ""
    assert small_project.ran("repro") == []
    assert "up to date" in small_project.run("dvc", "status").stdout


@pytest.mark.slow
def test_an_experiment_that_was_killed_is_spoken_of(small_project: Project) -> None:
    small_project.edit(
        "stages/train.py", "def main() -> None:\n", "def main() -> None:\n    wait()\n"
    )
    with (small_project.path / "stages/train.py").open("a") as file:
        file.write("\n\ndef wait() -> None:\n    print('here', flush=True)\n    input()\n")
    small_project.commit("A training that waits")
    with subprocess.Popen(
        ["dvc", "exp", "run", "-S", "train.lr=0.02"],
        cwd=small_project.path,
        env=small_project.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        while process.stdout.readline().strip() != "here":
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
    said = "`dvc exp run` was killed here: `python -m fairtrial mend`, and `git switch -` if git is"
    small_project.run("git", "checkout", "HEAD", ".")
    small_project.run("dvc", "checkout")
    compare = ("python", "-m", "fairtrial", "compare", "HEAD~1", "HEAD~1")
    assert small_project.run(*compare).stderr.startswith(said)
    out = small_project.run(*MEND).stdout
    assert "refs/exps/exec/EXEC_BASELINE: removed" in out
    assert out.endswith("git is on no branch: `git switch -` goes back, and keeps your files\n")
    small_project.run("git", "switch", "-")
    assert small_project.run(*compare).stderr == ""
    small_project.run("git", "checkout", "HEAD~1", "stages/train.py")
    small_project.commit("As before")
    small_project.run("dvc", "exp", "run", "-S", "train.lr=0.02")  # one that comes to its end
    assert small_project.run(*compare).stderr == ""
    assert small_project.run(*MEND).stdout == "nothing to mend\n"


@pytest.mark.parametrize(
    "module", ["stages/extra.py", pytest.param("stages/params/extra.py", marks=pytest.mark.slow)]
)
def test_code_that_git_does_not_know_is_named_before_anything_runs(
    small_project: Project, module: str
) -> None:
    """In the folder of `--temp` it is missing."""
    (small_project.path / module).write_text('"""Something new."""\n')
    name = module.removesuffix(".py").replace("/", ".")
    if "params" in module:  # of which the check itself imports something
        with (small_project.path / "stages/check.py").open("a") as file:
            file.write(f"import {name}\n")
    else:
        small_project.edit("dvc.yaml", "stages/evaluate.py,", f"stages/evaluate.py, {module},")
    done = small_project.run("dvc", "exp", "run", "--temp", "-S", "train.lr=0.02", ok=False)
    assert f"{module} is not there" in done.stderr.replace(": is not", " is not")
    assert f"`git add {module}`" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Running stage 'train'" not in done.stdout
    small_project.run("git", "add", module)
    if "params" in module:
        small_project.run(
            "dvc", "exp", "run", "--temp", "-S", "train.lr=0.02", "-S", "train.epochs=1"
        )


PLACES = {
    "another umask": "mv ../project ../here && umask 077",
    "a worktree": "git worktree add -q ../here",
    "a shallow clone": "git clone -q --depth 1 file://$PWD ../here",
    "a checkout for Windows": "git clone -q -c core.autocrlf=true . ../here",
    "a submodule": (
        "git init -q ../above && cd ../above && git -c protocol.file.allow=always submodule add -q "
        "../project here && git commit -qm x && mv ../above ../up && ln -s up/here ../here"
    ),
    "a folder of a repository": "mkdir ../up && git clone -q . ../up/here && ln -s up/here ../here",
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_project_lives_in_many_places(small_project: Project, place: str) -> None:
    cache = small_project.path / ".dvc/cache"
    shutil.copytree(cache, small_project.path.parent / "cache")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        small_project.run("git", "config", "--global", key, value)
    small_project.run("bash", "-euc", PLACES[place])
    here = Project((small_project.path.parent / "here").resolve())
    here.env = small_project.env
    if place == "a folder of a repository":
        for command in ("rm -rf .git", "git -C .. init -q", "git add --all .", "git commit -qm x"):
            here.run(*command.split())
    here.run("dvc", "cache", "dir", "--local", str(small_project.path.parent / "cache"))
    umask = "umask 077; " if place == "another umask" else ""
    here.run("bash", "-euc", f"{umask}dvc checkout && dvc repro")
    assert here.status() == ""
    here.run("bash", "-euc", f"{umask}dvc exp run -n other -S train.lr=0.1 -S train.epochs=2")
    out = here.run("python", "-m", "fairtrial", "compare", "HEAD", "other").stdout
    assert "against HEAD" in out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_experiments_of_someone_who_signs_commits(small_project: Project, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    small_project.env["GNUPGHOME"] = str(home)
    make = "gpg -q --batch --passphrase '' --quick-gen-key a@example.org"
    small_project.run("bash", "-euc", make)
    small_project.run("git", "config", "commit.gpgsign", "true")
    small_project.run("git", "config", "user.signingkey", "a@example.org")
    small_project.run("dvc", "exp", "run", "-n", "other", "-S", "train.lr=0.1")
    small_project.commit("Signed")
    assert (
        "against HEAD~1"
        in small_project.run("python", "-m", "fairtrial", "compare", "HEAD~1", "other").stdout
    )
    small_project.run("gpgconf", "--kill", "all")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    "command",
    [
        "fairtrial compare HEAD workspace",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("fairtrial report", "tools card")
            if name != "tools card" or (ROOT / "tools/card.py").exists()
        ),
    ],
)
def test_files_of_another_user_are_refused_in_a_sentence(
    small_project: Project, command: str
) -> None:
    """As root in a container, with a folder from outside."""
    small_project.run("chown", "-R", "1234", ".")
    done = small_project.run("python", "-m", *command.split(), ok=False)
    assert done.returncode == 2
    assert "safe.directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    add = ("git", "config", "--global", "--add", "safe.directory", str(small_project.path))
    small_project.run(*add)
    small_project.run("python", "-m", *command.split())
