"""Kill commands, fill the disk under them, run two at once; then run them again and compare.

A kill comes at a random moment, or just as DVC or one of our commands writes one of its files. The
same command again has to give the bytes of an undisturbed run; where DVC cannot, `fairtrial mend`
and `git switch -` go before it. The second project, of the tests of fairtrial, makes it cheap.

python benchmarks/faults.py kills         # 100 kills: half an hour
python benchmarks/faults.py full          # each command on a full disk (root, for a tmpfs)
python benchmarks/faults.py read-only     # each command where it may not write
python benchmarks/faults.py pairs         # each pair of commands at once
"""

import argparse
import collections
import contextlib
import csv
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fairtrial.conftest import SOURCE
from tests.helpers.project import ROOT, SMALL, Project, copy_of_the_working_tree, make_default

LIMIT = 300  # seconds of a command; a longer one hangs
FAIRTRIAL, TOOLS = ("python", "-m", "fairtrial"), ("python", "-m", "tools")
PLACES = {  # what is written there, by a regular expression of the path
    "the cache of runs": r"/runs/",
    "DVC's locks": r"/tmp/(rw)?lock",
    "dvc.lock": r"dvc\.lock",
    "DVC's cache": r"cache/files/",
    "git's folder": r"/\.git/",
    "results": r"sweeps/|metrics/|scores\.csv|fit\.json|report\.html|model\.onnx|params\.yaml",
}
# Python runs this in each process at its start. The files that it opens to write, renames and makes
# are counted where they match; at the given one the file is emptied, and the whole group is killed.
HOOK = """
import os, re, signal, sys
place, moment, log = re.compile(os.environ["PLACE"]), int(os.environ["MOMENT"]), os.environ["LOG"]
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR): return
    elif event in ("os.rename", "os.mkdir", "os.link"):
        path, flags = os.fsdecode(args[-3] if event != "os.mkdir" else args[0]), 0
    else: return
    if path == log or not place.search(os.path.abspath(path)): return
    descriptor = os.open(log.replace(".log", ".count"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"."); size = os.fstat(descriptor).st_size; os.close(descriptor)
    if size == moment:
        if flags & os.O_TRUNC: os.close(os.open(path, flags))
        os.killpg(0, signal.SIGKILL)
sys.addaudithook(hook)
"""


class Command(NamedTuple):
    words: tuple[str, ...]
    kills: int
    results: tuple[str, ...]  # files, or names of experiments
    ours: bool = False  # of the project of digits, and not of the second one
    before: tuple[str, str] | None = None  # a value in params.yaml that is replaced first


EXPERIMENT = "-S", "fit.lr=0.02"
GRID = "-S", "fit.lr=0.02,0.03", "-S", "fit.seed=3,4", "--workers=1"
SEARCH = "-S", "fit.lr=interval(0.01,0.2)", "--trials=4", "--round=4", "--halving", "--workers=1"
FILES = "dvc.lock", "scores.csv", "fit.json", "curve.csv", "points.csv", "params.yaml"
COMMANDS = {
    "dvc repro": Command(("dvc", "repro"), 18, FILES, before=("lr: 0.05", "lr: 0.04")),
    "dvc exp run": Command(
        ("dvc", "exp", "run", "-n", "one", *EXPERIMENT), 18, (*FILES, "exp:one")
    ),
    "dvc exp run --temp": Command(
        ("dvc", "exp", "run", "--temp", "-n", "one", *EXPERIMENT), 10, (*FILES, "exp:one")
    ),
    "sweep": Command((*FAIRTRIAL, "sweep", *GRID), 12, ("sweeps/sweep.csv", "rows", "exp:sweep")),
    "search": Command(
        (*FAIRTRIAL, "sweep", *SEARCH), 10, ("sweeps/sweep.csv", "sweeps/chosen.json", "rows")
    ),
    "until-decided": Command(
        (*FAIRTRIAL, "until-decided", "main", "near", "--max-replicas=20"), 10, ("stdout",)
    ),
    "compare": Command((*FAIRTRIAL, "compare", "main", "slow"), 4, ("stdout",)),
    "report": Command((*FAIRTRIAL, "report", "main", "slow"), 6, ("report.html",)),
    "dvc repro, digits": Command(
        ("dvc", "repro"), 4, ("dvc.lock", "metrics"), True, ("lr: 0.01", "lr: 0.02")
    ),
    "card": Command((*TOOLS, "card"), 4, ("metrics/model-card.md",), True),
    "export": Command((*TOOLS, "export"), 4, ("model.onnx",), True),
}


class Place:
    """Copies of the two projects, each with what undisturbed commands give in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count()
        hook = folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(HOOK)
        self.projects = regression(folder / "regression/project"), digits(folder / "digits/project")
        self.expected: dict[str, dict[str, bytes]] = {}

    def copy(self, command: Command, parent: Path | None = None) -> Project:
        parent = parent or self.folder / f"{next(self.numbers)}"
        source = self.projects[command.ours]
        project = Project(shutil.copytree(source.path, parent / "project", symlinks=True))
        project.env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if command.before:
            project.edit("params.yaml", *command.before)
        return project

    def undisturbed(self, name: str) -> dict[str, bytes]:
        if name not in self.expected:
            command = COMMANDS[name]
            project = self.copy(command)
            status, out, err = finish(project, command.words)
            assert status == 0, f"{name}: {err}"
            self.expected[name] = results(project, command, out)
            shutil.rmtree(project.path.parent)
        return self.expected[name]


def regression(path: Path) -> Project:
    shutil.copytree(SOURCE, path, ignore=shutil.ignore_patterns("__pycache__", "points.csv"))
    project = Project(path)
    project.env["PYTHONPATH"] = str(ROOT)
    for command in (
        "git init -q -b main",
        "git config user.name Somebody",
        "git config user.email somebody@example.org",
        "dvc init -q",
        "dvc repro -q",
        "git add --all",
        "git commit -qm start",
        "dvc exp run -q -n slow -S fit.lr=0.0005",
        "git checkout -q .",
        "dvc checkout -q",
        "dvc exp run -q -n near -S fit.lr=0.06",
        "git checkout -q .",
        "dvc checkout -q",
    ):
        project.run(*command.split())
    (path / ".gitignore").open("a").write("/sweeps/\n/report.html\n__pycache__/\n")
    project.commit("what is not kept")
    return project


def digits(path: Path) -> Project:
    project = copy_of_the_working_tree(path)
    make_default(project)
    project.set_params(*SMALL)
    project.run("dvc", "repro", "-q")
    project.commit("start")
    return project


def start(
    project: Project,
    words: tuple[str, ...],
    out: int = subprocess.DEVNULL,
    err: int = subprocess.DEVNULL,
    **env: str,
) -> subprocess.Popen[str]:
    """Start a command, which with all that it starts is killed by the number of its group."""
    return subprocess.Popen(
        words,
        cwd=project.path,
        env=project.env | env,
        stdout=out,
        stderr=err,
        text=True,
        start_new_session=True,
    )


def finish(project: Project, words: tuple[str, ...], **env: str) -> tuple[int | None, str, str]:
    """Run a command to its end; its status is None if it hangs."""
    with start(project, words, subprocess.PIPE, subprocess.PIPE, **env) as process:
        try:
            out, err = process.communicate(timeout=LIMIT)
            return process.returncode, out, err
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, *process.communicate()


def results(project: Project, command: Command, out: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in command.results:
        path = project.path / name
        if name == "stdout":
            found[name] = out.encode()
        elif name == "rows":
            lines = (project.path / "sweeps/points.jsonl").read_text().splitlines()
            rows = sorted(({**json.loads(one), "seconds": 0} for one in lines), key=str)
            found[name] = json.dumps(rows).encode()
        elif name.startswith("exp:"):
            refs = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout
            for ref in refs.split():
                one = ref.rpartition("/")[2]
                if one.startswith(name[4:]):
                    found[one] = project.run("git", "show", f"{ref}:dvc.lock").stdout.encode()
        else:
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                content = file.read_bytes()
                if file.name == "sweep.csv":  # which has the seconds of workers
                    table = csv.DictReader(io.StringIO(content.decode()))
                    content = repr([{**row, "seconds": ""} for row in table]).encode()
                found[str(file.relative_to(project.path))] = content
    return found


def left_behind(project: Project) -> list[str]:
    """Return what stays of a command that was disturbed, and should not."""
    left = [str(path.name) for path in project.path.rglob(".*.draft")]
    left += [path.name for path in project.path.glob(".dvc/tmp/sweep-*")]
    left += [path.name for path in project.path.glob(".dvc/tmp/until-decided-*")]
    return left


def recover(project: Project, name: str, expected: dict[str, bytes]) -> str:
    """Run a command again that was disturbed; say how it went."""
    command = COMMANDS[name]
    how = "the same command"
    status, out, err = finish(project, command.words)
    if status and "existing experiment" not in err:
        reason = (err.strip().splitlines() or ["?"])[0][:150]
        said = finish(project, (*FAIRTRIAL, "mend"))[1]
        for remove in re.findall(r"`(rm \S+)`", said):  # a lock of git
            finish(project, tuple(remove.split()))
        if finish(project, ("git", "symbolic-ref", "-q", "HEAD"))[0]:
            finish(project, ("git", "switch", "-"))
        status, out, err = finish(project, command.words)
        how = f"mend: {reason}"
    if status and "existing experiment" in err:
        how = "the experiment was there"
        if "--temp" not in command.words:
            finish(project, (*FAIRTRIAL, "mend"))
            finish(project, ("dvc", "exp", "apply", "one"))
    elif status != 0:
        return f"FAILED: {status} {err.strip()[-300:]}"
    found = results(project, command, out)
    if different := [key for key in expected if found.get(key) != expected[key]]:
        return f"DIFFERENT: {', '.join(different)} ({how})"
    if left_behind(project):
        finish(project, (*FAIRTRIAL, "mend"))
        how = f"{how}; mend removes a folder"
    if left := left_behind(project):
        return f"LEFT: {', '.join(left)} ({how})"
    status, _, err = finish(project, ("dvc", "status"))
    return how if status == 0 else f"LOCKED: {err.strip()[-200:]}"


def kills(place: Place, only: str, moments: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield command, moment and what happened after, of each kill."""
    for name, command in COMMANDS.items():
        if only not in name:
            continue
        expected = place.undisturbed(name)
        targets = list(PLACES.items())
        done = 0
        for number in range(5 * command.kills):
            if done == command.kills:
                break
            project = place.copy(command)
            log = str(project.path.parent / "events.log")
            env = {"PYTHONPATH": f"{place.folder / 'hook'}:{ROOT}", "LOG": log}
            if number % 3 == 2:  # at a random moment, in seconds
                seconds = moments.uniform(0.2, 8 if "sweep" in command.words else 4)
                moment = "at random"
                with start(project, command.words) as process:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(seconds)
                    killed = process.poll() is None
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            else:
                moment, pattern = targets[(number - number // 3) % len(targets)]
                count = moments.choice([1, 1, 1, 2, 2, 3, 5])
                status, _, _ = finish(
                    project, command.words, PLACE=pattern, MOMENT=str(count), **env
                )
                killed = status == -signal.SIGKILL
            if killed:
                done += 1
                yield name, moment, recover(project, name, expected)
            shutil.rmtree(project.path.parent)


def full(place: Place, only: str, moments: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield the same of a disk that has room for a few kilobytes more."""
    for name, command in COMMANDS.items():
        if only not in name:
            continue
        expected = place.undisturbed(name)
        disk = place.folder / "disk"
        disk.mkdir(exist_ok=True)
        for room in (0, 8, 64, 256):  # KiB
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g", "tmpfs", disk], check=True)
            try:
                project = place.copy(command, disk)
                project.env["TMPDIR"] = str(disk)
                used = shutil.disk_usage(disk).used + room * 1024
                subprocess.run(["mount", "-o", f"remount,size={used}", disk], check=True)
                status, _, err = finish(project, command.words)
                said = (err.strip().splitlines() or [""])[-1][:110]
                traced = " TRACEBACK" if "Traceback" in err else ""
                subprocess.run(["mount", "-o", "remount,size=2g", disk], check=True)
                happened = recover(project, name, expected)
            finally:
                subprocess.run(["umount", "-l", disk], check=True)
            yield name, f"{room} KiB left: {status}{traced} {said}", happened


def read_only(place: Place, only: str, moments: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield the same of folders in which another user may not write."""
    for name, command in COMMANDS.items():
        if only not in name:
            continue
        expected = place.undisturbed(name)
        for folder in (".", ".git", ".dvc", ".dvc/cache", "metrics" if command.ours else "sweeps"):
            project = place.copy(command)
            path = project.path / folder
            path.mkdir(exist_ok=True)
            subprocess.run(["mount", "--bind", path, path], check=True)
            subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True)
            try:
                status, _, err = finish(project, command.words)
            finally:
                subprocess.run(["umount", "-l", path], check=True)
            said = (err.strip().splitlines() or [""])[-1][:110]
            traced = " TRACEBACK" if "Traceback" in err else ""
            happened = recover(project, name, expected)
            yield name, f"{folder} read-only: {status}{traced} {said}", happened
            shutil.rmtree(project.path.parent)


def pairs(place: Place, only: str, moments: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield the same of two commands that start at once in one folder."""
    for one, other in itertools.combinations_with_replacement(COMMANDS, 2):
        commands = COMMANDS[one], COMMANDS[other]
        if commands[0].ours != commands[1].ours or (only not in one and only not in other):
            continue
        expected = [place.undisturbed(name) for name in (one, other)]
        project = place.copy(commands[0])
        processes = [start(project, one.words, err=subprocess.PIPE) for one in commands]
        said = []
        for process in processes:
            _, err = process.communicate(timeout=LIMIT)
            traced = "TRACEBACK " if "Traceback" in err else ""
            last = (err.strip().splitlines() or [""])[-1][:100] if process.returncode else ""
            said.append(f"{process.returncode} {traced}{last}")
        if commands[0].before or not any(command.before for command in commands):
            happened = " / ".join(
                recover(project, name, of)
                if "stdout" in COMMANDS[name].results or len({one, other}) == 1
                else "-"
                for name, of in zip((one, other), expected, strict=True)
            )
        else:
            happened = "-"
        yield f"{one} + {other}", " | ".join(said), happened
        shutil.rmtree(project.path.parent)


def main() -> None:
    parts: dict[str, Callable[[Place, str, random.Random], Iterator[tuple[str, str, str]]]] = {
        "kills": kills,
        "full": full,
        "read-only": read_only,
        "pairs": pairs,
    }
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("part", choices=parts)
    parser.add_argument("--only", default="", help="commands whose names have this text")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for name, moment, happened in parts[args.part](place, args.only, random.Random(args.seed)):
            print(f"{time.strftime('%X')} | {name} | {moment} | {happened}", flush=True)
            table[name, re.sub(r":.*", "", happened)] += 1
    for (name, happened), count in table.items():
        print(f"| {name} | {happened} | {count} |")


if __name__ == "__main__":
    main()
