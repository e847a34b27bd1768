"""Sweeps over a grid, on a local cluster and on remote workers, interrupted and continued."""

import asyncio
import contextlib
import csv
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest
from distributed import Client
from distributed.comm.core import connect
from distributed.security import Security
from PIL import Image

from benchmarks.bench import ENVIRONMENT
from benchmarks.sweep import host, hosts, kill_midway, scheduler, share, wait_for_points
from stages.storage.yaml_reader import parse_yaml
from tests.helpers.documented_stage import add_documented_stage
from tests.helpers.project import MNIST, ROOT, Project, needs_mnist
from tests.helpers.services import BUCKET, CREDENTIALS, needs_sshd, s3_server, ssh_server
from fairtrial.cluster.client import code_location

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where a user finds daemons, too
SIX = ("-S", "train.lr=0.01,0.02,0.03", "-S", "train.weight_decay=0,0.01")


def sweep(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "fairtrial.sweep", "--workers=2", *arguments, ok=ok)


def rows(project: Project) -> list[dict[str, Any]]:
    lines = (project.path / "sweeps/points.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def shorten_training(project: Project) -> None:
    project.edit("params.yaml", "  epochs: 10 ", "  epochs: 2 ")
    project.edit("params.yaml", "  replicas: 5 ", "  replicas: 2 ")
    project.run("dvc", "repro")
    project.commit("A short training")


@pytest.fixture
def let_pass(project: Project, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Let each training of the project wait at its start; return what lets so many of them go on.

    They wait for a byte in a pipe, so that a sweep stands still at a known number of points.
    """
    path = tmp_path / "gate"
    os.mkfifo(path)
    start = "    params = load_params(Train"
    wait = f'    with open("{path}", "rb", buffering=0) as gate:\n        gate.read(1)\n'
    project.edit("stages/train.py", start, f"{wait}{start}")
    project.commit("Trainings wait at a gate")
    pipe = os.open(path, os.O_RDWR)  # both, so that neither side waits for the other to open it

    def write(count: int) -> None:
        os.write(pipe, bytes(count))

    yield write
    os.close(pipe)


def start_sweep(project: Project, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a sweep of the six points in a process group of its own."""
    return subprocess.Popen(
        ["python", "-m", "fairtrial.sweep", "--workers=2", *SIX, *arguments],
        cwd=project.path,
        env=project.env,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    )


@pytest.mark.slow
def test_six_points_are_killed_and_continued(
    project: Project, let_pass: Callable[[int], None]
) -> None:
    let_pass(1)
    shorten_training(project)
    let_pass(2)
    process = start_sweep(project)
    kill_midway(project.path, process, process, 2)
    process.wait()
    before = rows(project)
    assert len(before) == 2
    let_pass(100)
    # As if it had been killed in the middle of a line.
    with (project.path / "sweeps/points.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    output = sweep(project, *SIX, "--promote=2").stdout
    assert output.startswith(f"6 points, of which {len(before)} are done\n")
    assert output.count("is an experiment of the same bits") == 2
    # A comparison takes from here that they are the best of six.
    chosen = json.loads((project.path / "sweeps/chosen.json").read_text())
    assert sorted(chosen) == sorted(re.findall(r"^(sweep-\w+) is an experiment", output, re.M))
    assert set(chosen.values()) == {6}
    after = rows(project)
    assert after[: len(before)] == before
    assert len(after) == len({row["key"] for row in after}) == 6

    # The table has them all, the best first, with the figures that DVC's experiment has.
    with (project.path / "sweeps/sweep.csv").open() as table:
        lines = list(csv.DictReader(table))
    means = [float(line["evaluate.val.replicas.mean"]) for line in lines]
    assert len(means) == 6
    assert means == sorted(means, reverse=True)
    assert lines[0]["train.lr"] == "0.03"
    best = lines[0]["experiment"]
    assert f"{best} is an experiment of the same bits" in output
    project.run("dvc", "exp", "apply", best)
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())
    assert metrics["val"]["replicas"]["mean"] == means[0]
    lock = parse_yaml((project.path / "dvc.lock").read_text(), "dvc.lock")
    md5 = {out["path"]: out["md5"] for out in lock["stages"]["train"]["outs"]}
    for name in ("model", "replicas"):
        assert md5[f"data/checkpoints/{name}.safetensors"] == lines[0][f"md5.{name}"]
    with Image.open(project.path / "sweeps/sweep.png") as picture:
        assert picture.width > 600
        colours = set(map(tuple, np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()))
    assert {(76, 120, 168), (245, 133, 24)} <= colours  # Vega's first two: of two values a panel

    assert ElementTree.parse(project.path / "sweeps/sweep.svg").findall(".//{*}path")
    assert (project.path / "sweeps/sweep.pdf").read_bytes().startswith(b"%PDF-")

    # Nothing is left to do; another metric orders them otherwise.
    arguments = (*SIX, "--metric=evaluate.val.cross_entropy", "--promote=0")
    output = sweep(project, *arguments).stdout
    assert output.startswith("6 points, of which 6 are done\n")
    assert "is an experiment" not in output
    assert len(rows(project)) == 6
    with (project.path / "sweeps/sweep.csv").open() as table:
        losses = [float(line["evaluate.val.cross_entropy"]) for line in csv.DictReader(table)]
    assert losses == sorted(losses)
    assert project.run("git", "status", "--porcelain", "sweeps").stdout == ""


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_tells_how_many_points_are_done(
    project: Project, let_pass: Callable[[int], None], how: signal.Signals
) -> None:
    let_pass(1)
    process = start_sweep(project, stderr=subprocess.PIPE)
    kill_midway(project.path, process, process, 1, how)
    message = process.communicate()[1].decode()
    assert len(rows(project)) == 1
    assert message == "1 of 6 points are done; the same command continues\ninterrupted\n"
    assert scratch_folders(project) == []


def scratch_folders(project: Project) -> list[Path]:
    return list(project.path.glob(".dvc/tmp/sweep-*"))


async def let_in(addresses: list[str]) -> list[str]:
    """Return the schedulers and workers that speak with somebody without their certificates."""

    async def is_let_in(address: str) -> bool:
        security = Security.temporary() if address.startswith("tls:") else Security()
        try:
            async with asyncio.timeout(10):
                comm = await connect(address, timeout=5, **security.get_connection_args("client"))
                await comm.write({"op": "identity", "reply": True})
                await comm.read()
        except (OSError, ValueError):  # Tornado raises the latter where there is no TLS
            return False
        return True

    answers = await asyncio.gather(*map(is_let_in, addresses))
    return [address for address, answer in zip(addresses, answers, strict=True) if answer]


@pytest.mark.slow
def test_nobody_else_reaches_a_local_sweep_and_a_killed_one_leaves_nothing(
    project: Project, let_pass: Callable[[int], None]
) -> None:
    let_pass(1)
    process = start_sweep(project, stderr=subprocess.DEVNULL)
    try:
        wait_for_points(project.path, process, 1)
        sweep_process = psutil.Process(process.pid)
        workers = sweep_process.children(recursive=True)
        ports = {
            connection.laddr.port
            for one in (sweep_process, *workers)
            for connection in one.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert len(ports) >= 3  # of the scheduler and of two workers at least
        addresses = [f"{name}://127.0.0.1:{port}" for port in ports for name in ("tcp", "tls")]
        assert asyncio.run(let_in(addresses)) == []
        for port in ports:
            for page in ("status", "info/main/workers.html", "metrics", "json/counts.json"):
                # It has no such page, or it is no web server.
                with pytest.raises((OSError, HTTPException)) as caught:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5)
                if isinstance(caught.value, HTTPError):
                    caught.value.close()
    finally:
        # Nothing else is killed: the workers notice it.
        process.kill()
        process.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert len(scratch_folders(project)) == 1
    # The next command removes what is left.
    let_pass(100)
    sweep(project, *SIX[:2], "--promote=0")
    assert scratch_folders(project) == []


@needs_mnist
@pytest.mark.slow
def test_one_of_two_remote_workers_dies(
    project: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """They can download nothing, so that all of MNIST can only come from the DVC remote."""
    let_pass(2)
    shorten_training(project)
    project.set_params("fetch.source=sources/mnist.yaml")
    project.env["MNIST_MIRROR"] = str(MNIST)
    project.run("dvc", "repro")
    project.commit("All of MNIST")
    local = Project(shutil.copytree(project.path, tmp_path / "local"))
    del project.env["MNIST_MIRROR"]
    with hosts(project.path, tmp_path) as (address, workers):
        let_pass(2)
        process = start_sweep(project, "--scheduler", address, "--promote=0")
        kill_midway(project.path, process, workers[0], 2)
        let_pass(100)
        assert process.wait() == 0
        assert workers[1].poll() is None
        # The other worker runs the code of another commit, though it has imported the first one's.
        weights = 'seeded_generator(params.seed, "weights")'
        project.edit(
            "stages/learning/training.py",
            weights,
            weights.replace("weights", "other weights"),
        )
        project.commit("Other weights")
        project.run("git", "push", "origin", "HEAD:main")
        sweep(project, "-S", "train.lr=0.01", "--scheduler", address, "--promote=0")
    *others, last = rows(project)
    assert last["md5"]["model"] not in {row["md5"]["model"] for row in others}
    sweep(local, *SIX, "--promote=0")
    md5s = {row["key"]: row["md5"] for row in others}
    assert len(others) == 6
    assert md5s == {row["key"]: row["md5"] for row in rows(local)}


def wait_for_two_workers(address: str) -> None:
    with Client(address) as client:
        client.wait_for_workers(2)


@pytest.mark.slow
def test_a_worker_without_credentials_is_named_before_the_first_point(
    small_project: Project, tmp_path: Path
) -> None:
    """The other one has them, and the data come from an S3 store."""
    arguments = "-S", "train.lr=0.01,0.02", "--promote=0", "--scheduler"
    credentials = "[default]\n" + "".join(
        f"{key.lower()} = {value}\n" for key, value in CREDENTIALS.items()
    )
    with s3_server() as store:
        small_project.run("dvc", "remote", "add", "-d", "storage", f"s3://{BUCKET}/project")
        small_project.run("dvc", "remote", "modify", "storage", "endpointurl", store)
        for key, value in CREDENTIALS.items():  # ours stay on this computer
            name = key.lower().removeprefix("aws_")
            small_project.run("dvc", "remote", "modify", "--local", "storage", name, value)
        (tmp_path / "one/.aws").mkdir(parents=True)
        (tmp_path / "one/.aws/credentials").write_text(credentials)
        with hosts(small_project.path, tmp_path) as (address, _):
            wait_for_two_workers(address)
            done = sweep(small_project, *arguments, address, ok=False)
            assert done.returncode == 2
            assert done.stderr.count("worker tcp://") == 1
            assert "Unable to locate credentials\n" in done.stderr
            assert done.stderr.endswith("docs/sweeps.md says what a worker needs\n")
            assert rows(small_project) == []
            (tmp_path / "two/.aws").mkdir()
            (tmp_path / "two/.aws/credentials").write_text(credentials)
            sweep(small_project, *arguments, address)
    assert len(rows(small_project)) == 2


@pytest.mark.slow
def test_the_scheduler_dies(
    project: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    let_pass(1)
    shorten_training(project)
    share(project.path, tmp_path)
    with scheduler(tmp_path / "scheduler") as (address, victim):
        worker = "worker", address, "--nthreads=1", "--no-dashboard"
        with host(tmp_path / "one", *worker), host(tmp_path / "two", *worker) as two:
            let_pass(2)
            arguments = "--scheduler", address, "--promote=0"
            process = start_sweep(project, *arguments, stderr=subprocess.PIPE)
            kill_midway(project.path, process, victim, 2)
            message = process.communicate()[1].decode()
            two.wait()  # a worker without a scheduler ends
    assert process.returncode == 2
    *before, message = message.splitlines()
    assert re.fullmatch(
        rf"--scheduler {address}: cannot be reached any more \(.*\), and the points that were "
        r"running are lost; 2 of 6 points are done; the same command continues once the scheduler "
        "and workers are there again",
        message,
    )
    assert all(re.fullmatch(r"no workers since .*|\d workers", line) for line in before)
    assert len(rows(project)) == 2
    let_pass(100)
    port = address.rpartition(":")[2]
    with scheduler(tmp_path / "again", port=port), host(tmp_path / "three", *worker):
        output = sweep(project, *SIX, *arguments).stdout
    assert output.startswith("6 points, of which 2 are done\n")
    assert len({row["key"] for row in rows(project)}) == len(rows(project)) == 6


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip", path=SBIN),
    reason="only root makes a network to cut off, and by Debian's iproute2",
)
@pytest.mark.slow
def test_a_sweep_is_cut_off(
    project: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """Its scheduler and workers go on, and so does the same command when it reaches them again."""
    let_pass(1)
    shorten_training(project)
    share(project.path, tmp_path)
    number = os.getpid() % 200
    here, there = f"10.213.{number}.1", f"10.213.{number}.2"
    space, link = f"cut{number}", f"cut{number}"

    def ip(*arguments: str) -> None:
        subprocess.run([shutil.which("ip", path=SBIN) or "", *arguments], check=True)

    ip("netns", "add", space)
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", space)
        ip("address", "add", f"{here}/24", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", space, "address", "add", f"{there}/24", "dev", "far")
        ip("-n", space, "link", "set", "far", "up")
        project.env["PATH"] += ":/usr/sbin:/sbin"
        with contextlib.ExitStack() as stack:
            address, _ = stack.enter_context(scheduler(tmp_path / "scheduler", "--host", here))
            worker = "worker", address, "--nthreads=1", "--no-dashboard"
            stack.enter_context(host(tmp_path / "one", *worker))
            command = ["ip", "netns", "exec", space, "python", "-m", "fairtrial.sweep", *SIX]
            command += ["--scheduler", address, "--promote=0"]
            let_pass(2)
            process = subprocess.Popen(
                command, cwd=project.path, env=project.env, stderr=subprocess.PIPE
            )
            wait_for_points(project.path, process, 2)
            ip("link", "set", link, "down")
            message = process.communicate()[1].decode()
            ip("link", "set", link, "up")
            let_pass(100)
            output = project.run(*command).stdout
    finally:
        ip("netns", "delete", space)
    assert process.returncode == 2
    assert message.splitlines()[-1].startswith(f"--scheduler {address}: cannot be reached any more")
    assert "2 of 6 points are done; the same command continues" in message
    assert "Traceback" not in message
    assert "failed" not in message
    assert output.startswith("6 points, of which 2 are done\n")
    assert len({row["key"] for row in rows(project)}) == len(rows(project)) == 6


@pytest.mark.slow
def test_the_bar_says_how_many_workers_there_are(
    project: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    let_pass(1)
    shorten_training(project)
    share(project.path, tmp_path)
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 120, 0, 0))

    def wait_for(pattern: bytes) -> None:
        """Read from the terminal until it shows something."""
        shown = b""
        while not re.search(pattern, shown):
            shown += os.read(controller, 1000)

    with scheduler(tmp_path / "scheduler") as (address, _):
        process = start_sweep(project, "--scheduler", address, "--promote=0", stderr=terminal)
        os.close(terminal)
        worker = "worker", address, "--nthreads=1", "--no-dashboard"
        # It is drawn anew though nothing comes.
        wait_for(rb"00:01<.*, no workers since [^\r]*\r[^\r]*00:02<.*, no workers since ")
        with host(tmp_path / "one", *worker):
            wait_for(b"1 running on 1 workers, 0 failed, best none yet")
            let_pass(2)
            wait_for(rb" 2/6 .*1 running on 1 workers, 0 failed, best 0\.")
        wait_for(rb" 2/6 .*no workers since \w{3} \d\d:\d\d:\d\d, 0 failed, best 0\.")
        let_pass(100)
        with host(tmp_path / "two", *worker):
            with contextlib.suppress(OSError):  # the end of the sweep is that of its terminal
                while os.read(controller, 1000):
                    pass
            assert process.wait() == 0
    os.close(controller)
    assert len(rows(project)) == 6
    # What the first worker had computed died with it, and was not computed again.
    with (tmp_path / "gate").open("r+b", buffering=0) as gate:
        left = struct.unpack("i", fcntl.ioctl(gate, termios.FIONREAD, bytes(4)))
    assert left == (96,)


@needs_sshd
@pytest.mark.slow
def test_workers_by_ssh(small_project: Project, tmp_path: Path) -> None:
    """By the lines of docs/sweeps.md, on two hosts that are this one."""
    page = (ROOT / "docs/sweeps.md").read_text()
    [loop] = re.findall(r"^for host in .*\n.* ssh .*\ndone$", page, re.MULTILINE)
    share(small_project.path, tmp_path)
    env = {"DVC_NO_ANALYTICS": "1", "TMPDIR": str(tmp_path), "MNIST_MIRROR": str(tmp_path / "no")}
    (tmp_path / "server").mkdir()
    with ssh_server(tmp_path / "server", env) as (ssh, key):
        # An `ssh` that finds this host under the name of any.
        options = f"-p {ssh.rpartition(':')[2]} -i {key} -o HostName=127.0.0.1"
        options += " -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/ssh"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
        program.chmod(0o755)
        small_project.env["PATH"] = f"{program.parent}{os.pathsep}{small_project.env['PATH']}"
        with scheduler(tmp_path / "scheduler") as (address, _):
            for old, new in [
                ("tcp://one:8786", address),
                ("mnist/.venv/bin/dask", str(Path(sys.executable).parent / "dask")),
                ("--nworkers 16", "--nworkers 1"),
            ]:
                assert old in loop
                loop = loop.replace(old, new)
            workers = subprocess.Popen(
                ["bash", "-euc", f"{loop}\nwait"],
                env=small_project.env,
                stderr=subprocess.PIPE,
            )
            sweep(small_project, *SIX, "--scheduler", address, "--promote=0")
        # They end with their scheduler.
        log = workers.communicate()[1].decode()
    assert log.count("Registered to") == 2
    assert len(rows(small_project)) == 6


@pytest.mark.slow
def test_a_worker_with_a_lifetime_ends_between_points(
    project: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """After a point of half its lifetime it begins no other one, which it could not finish."""
    starts = tmp_path / "starts"
    note = f'    with open("{starts}", "a") as file:\n        file.write("x")\n'
    project.edit("stages/train.py", "    with open(", f"{note}    with open(")
    let_pass(1)
    shorten_training(project)
    starts.unlink()
    share(project.path, tmp_path)
    with scheduler(tmp_path / "scheduler") as (address, _):
        worker = "worker", address, "--nthreads=1", "--no-dashboard"
        with host(tmp_path / "one", *worker, "--lifetime=60s") as leaving:
            process = subprocess.Popen(
                ["python", "-m", "fairtrial.sweep", *SIX, "--scheduler", address, "--promote=0"],
                cwd=project.path,
                env=project.env,
                stderr=subprocess.PIPE,
            )
            while not starts.exists() or time.time() < starts.stat().st_mtime + 32:
                assert process.poll() is None
                time.sleep(0.1)
            let_pass(1)
            leaving.wait()
            assert starts.read_text() == "x"
        with host(tmp_path / "two", *worker):
            let_pass(100)
            message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    assert starts.read_text() == "xxxxxx"
    assert "no workers since" in message
    assert len(rows(project)) == 6


needs_slurm = pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(name, path=SBIN) for name in ("slurmd", "munged")),
    reason="this is not root, or SLURM and munge are missing (Debian's slurm-wlm and munge)",
)


@needs_slurm
@pytest.mark.slow
def test_workers_of_slurm_end_by_plan(
    project: Project,
    let_pass: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A point whose worker ends before its job's time is up has not failed, not even once."""
    let_pass(1)
    shorten_training(project)
    share(project.path, tmp_path)
    page = (ROOT / "docs/sweeps.md").read_text()
    [block] = re.findall(r"^```text\n(mkdir .*\nsbatch .*\n(?:.*\n)*?)```$", page, re.MULTILINE)
    monkeypatch.setitem(ENVIRONMENT, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with scheduler(tmp_path / "scheduler") as (address, _):
        for old, new in [
            ("tcp://one:8786", address),
            ("-S …", " ".join((*SIX, "--promote=0"))),
            ("--nworkers 16", "--nworkers 1"),
            ("--cpus-per-task=16", "--cpus-per-task=1"),
            ("%10", "%2"),
            ("--lifetime 50m --lifetime-stagger 5m", "--lifetime 30s --lifetime-stagger 5s"),
        ]:
            assert old in block
            block = block.replace(old, new)
        process = subprocess.Popen(
            [ROOT / "tests/slurm.sh", "bash", "-euxc", block],
            cwd=project.path,
            env=project.env,
            stderr=subprocess.PIPE,
        )
        while len(list(project.path.glob("sweeps/slurm-*.out"))) < 3:
            assert process.poll() is None
            time.sleep(0.1)
        let_pass(100)
        message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    assert "no workers since" in message
    assert "died" not in message
    assert len({row["key"] for row in rows(project)}) == len(rows(project)) == 6
    assert project.status() == ""
    for log in project.path.glob("sweeps/slurm-*.out"):
        assert "TIME LIMIT" not in log.read_text()


def test_a_worker_of_two_threads_is_refused(project: Project, tmp_path: Path) -> None:
    with hosts(project.path, tmp_path, threads=2) as (address, _):
        wait_for_two_workers(address)
        arguments = "-S", "train.lr=0.01,0.02", "--scheduler", address
        done = sweep(project, *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.count("a worker has 2 threads; start it with one\n") == 2
    assert rows(project) == []


@pytest.mark.slow
def test_a_point_that_fails_does_not_stop_the_rest(project: Project) -> None:
    shorten_training(project)
    arguments = ("-S", "train.lr=0.01,1e38", "-S", "train.weight_decay=0,1e38", "--promote=0")
    done = sweep(project, *arguments, ok=False)
    assert done.returncode == 1
    refused = "train.lr=1e+38 train.weight_decay=1e+38: params.yaml: train.lr: with 1e+38 the loss "
    assert done.stderr.count(f"{refused}became nan") == 1
    assert "failed 3 times" not in done.stderr  # a second try would not help
    assert "Traceback" not in done.stderr
    assert len(rows(project)) == 2
    again = sweep(project, *arguments, ok=False)
    assert again.stdout.startswith("4 points, of which 2 are done\n")
    assert len(rows(project)) == 2


@pytest.mark.slow
def test_a_point_is_tried_three_times_and_its_last_lines_are_shown(
    project: Project, tmp_path: Path
) -> None:
    shorten_training(project)
    tries = tmp_path / "tries"
    failing = f'''
    with open("{tries}", "a+") as file:
        file.write("x")
        file.seek(0)
        print("It will", "not do")
        assert len(file.read()) > 3, "too early"
'''
    start = "    params = load_params(Train"
    project.edit("stages/train.py", start, f"{failing.lstrip(chr(10))}{start}")
    project.commit("Works the fourth time")
    output = sweep(project, "-S", "train.lr=0.02", "--promote=0", ok=False).stderr
    assert "failed 3 times\n" in output
    assert "It will not do\nAssertionError: too early\n" in output
    assert tries.read_text() == "xxx"
    sweep(project, "-S", "train.lr=0.02", "--promote=0")
    assert tries.read_text() == "xxxx"
    assert len(rows(project)) == 1


@pytest.mark.slow
def test_experiments_have_the_bits_of_the_table_or_are_refused(project: Project) -> None:
    shorten_training(project)
    # One worker, which has to prepare anew for the second point.
    two = ("-S", "prepare.seed=0,1", "--workers=1", "--experiments")
    output = sweep(project, *two).stdout
    assert output.count("is an experiment of the same bits") == 2
    names = project.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert len(names) == 2
    assert project.status() == ""
    # Once more it has nothing to do, and says the same.
    assert sweep(project, *two).stdout.endswith("\n".join(output.splitlines()[-2:]) + "\n")
    path = project.path / "sweeps/points.jsonl"
    first = rows(project)[0]["md5"]["model"]
    path.write_text(path.read_text().replace(first, "0" * 32))
    done = sweep(project, *two, ok=False)
    assert done.returncode == 2
    assert "its checkpoints are not those of the table" in done.stderr


@pytest.mark.slow
def test_a_stage_after_evaluate_is_computed(project: Project) -> None:
    shorten_training(project)
    add_documented_stage(project)
    project.run("dvc", "repro")
    project.commit("A stage after evaluate")
    grid = ("-S", "disagree.at_least=1,2", "--workers=1", "--metric=disagree.disputed")
    output = sweep(project, *grid, "--promote=2").stdout
    assert output.count("is an experiment of the same bits") == 2
    one, two = sorted(rows(project), key=lambda row: row["overrides"])
    assert one["md5"] == two["md5"]
    assert one["metrics"]["disagree"]["disputed"] > 0
    assert two["metrics"]["disagree"]["disputed"] == 0  # of one other replica two never disagree
    for row in (one, two):
        project.run("dvc", "exp", "apply", f"sweep-{row['key'][:8]}")
        computed = json.loads((project.path / "metrics/disagree.json").read_text())
        assert row["metrics"]["disagree"] == computed
    with (project.path / "sweeps/sweep.csv").open() as table:
        first = next(csv.DictReader(table))
    assert int(first["disagree.disputed"]) == one["metrics"]["disagree"]["disputed"]


INVERT = """
from pathlib import Path

from stages.storage.splits import read_split, write_split

for name in ("train", "val"):
    info, split = read_split(Path(f"data/prepared/{name}.safetensors"))
    split["images"] = 255 - split["images"]
    write_split(Path(f"data/inverted/{name}.safetensors"), info, split)
"""

INVERT_STAGE = """
  invert:
    cmd: echo Inverting && PYTHONPATH=. python scripts/invert.py
    deps:
      - data/prepared/train.safetensors
      - data/prepared/val.safetensors
      - scripts/invert.py
    outs:
      - data/inverted/train.safetensors
      - data/inverted/val.safetensors

  train:
"""


@pytest.mark.slow
def test_a_stage_between_prepare_and_train_is_computed(project: Project) -> None:
    """Its command is one of the shell, and it depends on parameters by way of its inputs alone."""
    shorten_training(project)
    (project.path / "scripts").mkdir()
    (project.path / "scripts/invert.py").write_text(INVERT)
    before, _, after = (project.path / "dvc.yaml").read_text().partition("\n  train:\n")
    train, _, rest = after.partition("\n  evaluate:\n")
    train = train.replace("data/prepared", "data/inverted")
    stages = f"{before}{INVERT_STAGE}{train}\n  evaluate:\n{rest}"
    (project.path / "dvc.yaml").write_text(stages)
    project.edit("stages/train.py", 'Path(f"data/prepared/{name}', 'Path(f"data/inverted/{name}')
    done = sweep(project, "-S", "prepare.seed=0,1", ok=False)
    assert done.stderr.startswith("not committed, so no worker can clone it: ")
    for file in ("dvc.yaml", "scripts/", "stages/train.py"):
        assert file in done.stderr
    project.commit("A stage between prepare and train")
    output = sweep(project, "-S", "prepare.seed=0,1", "--workers=1", "--experiments").stdout
    assert output.count("is an experiment of the same bits") == 2
    one, two = rows(project)
    assert one["md5"]["model"] != two["md5"]["model"]


@pytest.mark.slow
def test_another_picture_is_another_point(small_project: Project) -> None:
    """A worker has the pictures from DVC's cache, and git has the hash of their folder."""
    for number in range(60):
        path = small_project.path / f"data/pictures/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12), np.uint8)
        Image.fromarray(pixels).save(path)
    settings = "fetch.source=data/pictures fetch.size=8 prepare.train_size=20 prepare.val_size=10"
    command = [word for setting in settings.split() for word in ("-S", setting)]
    command += ["--workers=1", "--promote=0"]
    small_project.run("dvc", "add", "data/pictures")
    done = sweep(small_project, *command, ok=False)
    assert done.returncode == 2
    assert "fetch.source: data/pictures is not committed, so no worker can get it; " in done.stderr
    small_project.commit("Pictures")
    moved = small_project.path / ".dvc/cache/moved"
    (small_project.path / ".dvc/cache/files").rename(moved)
    done = sweep(small_project, *command, ok=False)
    assert done.returncode == 2
    assert "Checkout failed for following targets: data/pictures Is your cache up" in done.stderr
    moved.rename(small_project.path / ".dvc/cache/files")
    assert sweep(small_project, *command).stdout.startswith("1 points, of which 0 are done\n")
    assert sweep(small_project, *command).stdout.startswith("1 points, of which 1 are done\n")
    for number in (1, 3, 5, 7):
        (small_project.path / f"data/pictures/b/{number}.png").unlink()
    small_project.run("dvc", "add", "data/pictures")
    small_project.commit("Fewer pictures")
    assert sweep(small_project, *command).stdout.startswith("1 points, of which 0 are done\n")
    first, second = rows(small_project)
    assert first["metrics"]["evaluate"]["val"]["recall"].keys() == {"a", "b"}
    assert first["key"] != second["key"]
    assert first["md5"]["model"] != second["md5"]["model"]
    # With these parameters in params.yaml, too, the .dvc file is what counts.
    small_project.set_params(*settings.split())
    small_project.commit("Pictures by default")
    arguments = ("-S", "train.seed=0", "--workers=1", "--promote=0")
    sweep(small_project, *arguments)
    (small_project.path / "data/pictures/b/9.png").unlink()
    small_project.run("dvc", "add", "data/pictures")
    done = sweep(small_project, *arguments, ok=False)
    assert "not committed, so no worker can clone it: M  data/pictures.dvc" in done.stderr


@pytest.mark.slow
def test_another_data_card_is_another_point(small_project: Project) -> None:
    """Also where the parameters in params.yaml name none of them."""
    arguments = ("-S", "fetch.source=sources/copy.yaml", "--workers=1", "--promote=0")
    copy = small_project.path / "sources/copy.yaml"
    shutil.copy(small_project.path / "sources/mnist-5k.yaml", copy)
    small_project.commit("A copy")
    sweep(small_project, *arguments)
    copy.write_text(f"# A copy.\n{copy.read_text()}")
    done = sweep(small_project, *arguments, ok=False)
    assert "not committed, so no worker can clone it: M sources/copy.yaml" in done.stderr
    small_project.commit("With a comment")
    output = sweep(small_project, *arguments).stdout
    assert output.startswith("1 points, of which 0 are done\n")
    first, second = rows(small_project)
    assert first["key"] != second["key"]
    assert first["md5"] == second["md5"]


@pytest.mark.slow
def test_other_code_is_another_point(project: Project) -> None:
    shorten_training(project)
    sweep(project, "-S", "train.lr=0.01", "--promote=0")
    with (project.path / "stages/learning/optimizers.py").open("a") as file:
        file.write("# Other code.\n")
    done = sweep(project, "-S", "train.lr=0.01", ok=False)
    assert done.returncode == 2
    assert done.stderr == (
        "not committed, so no worker can clone it: M stages/learning/optimizers.py; "
        "commit it first\n"
    )
    project.commit("Other code")
    output = sweep(project, "-S", "train.lr=0.01", "--promote=0").stdout
    assert output.startswith("1 points, of which 0 are done\n")
    first, second = rows(project)
    assert first["key"] != second["key"]
    assert first["md5"] == second["md5"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "train.lr=-1,0,0.01"], "-S train.lr=-1: params.yaml: train.lr: "),
        (
            ["-S", "train.lrate=0.01"],
            "-S train.lrate=0.01: Could not override 'train.lrate'. Is it in params.yaml?",
        ),
        (["-S", "train.lr"], "-S: Error parsing override 'train.lr'; write NAME=VALUES"),
        (["-S", "train.lr=range(1,0)"], "-S: train.lr=range(1,0) has no values"),
        (["-S", "train.lr=1", "-S", "train.lr=2"], "-S: train.lr more than once"),
        (["-S", "train.seed=range(0,1000000000)"], "-S: more than 100,000 points; give fewer"),
        (["-S", "train.lr=range(0,1,1e-30)"], "-S: more than 100,000 points; give fewer"),
        (
            ["-S", "train.seed=range(0,1000)", "-S", "train.lr=range(0.5,1000)"],
            "-S: more than 100,000 points; give fewer",
        ),
        (["-S", "train.seed=range(0,1,0)"], "-S: range() arg 3 must not be zero"),
        (["-S", "train.lr=["], "-S: no viable alternative"),
        (
            ["-S", "train.lr=interval(0,1)"],
            "-S train.lr=interval(0,1): has no end of values; search it by --trials N",
        ),
        (
            ["-S", "train.model=linear,mlp"],
            "-S train.model=mlp: params.yaml: train.width: mlp needs one",
        ),
        (
            ["-S", "train.lr=1", "--metric=evaluate.test.accuracy.value"],
            "--metric evaluate.test.accuracy.value: not a metric of val",
        ),
        (
            ["-S", "train.lr=1", "--metric=evaluate.val.accuracy"],
            "--metric evaluate.val.accuracy: ",
        ),
        (["-S", "train.lr=1", "--workers=0"], "usage: "),
        (["-S", "train.lr=1", "--scheduler=tcp://127.0.0.1:1"], "no git remote has "),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(
    reproduced: Project, arguments: list[str], message: str
) -> None:
    done = sweep(reproduced, *arguments, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= (12 if message == "usage: " else 3)
    assert not (reproduced.path / "sweeps").exists()


@pytest.mark.slow
def test_points_that_contradict_themselves_are_left_out_on_request(small_project: Project) -> None:
    grid = ("-S", "train.optimizer=sgd,adam", "-S", "train.momentum=0.0,0.9", "--promote=0")
    done = sweep(small_project, *grid, ok=False)
    assert done.returncode == 2
    problem, remedy = done.stderr.splitlines()
    reason = "params.yaml: train.momentum: belongs to sgd; with adam it has to be 0, not 0.9"
    assert problem == f"-S train.optimizer=adam train.momentum=0.9: {reason}"
    assert remedy == "--skip-invalid leaves such points out"
    output = sweep(small_project, *grid, "--skip-invalid", "--name=momentum").stdout
    assert output.startswith(f"1 left out: {reason}\n3 points, of which 0 are done\n")
    assert not (small_project.path / "sweeps/sweep.csv").exists()
    with (small_project.path / "sweeps/momentum/sweep.csv").open() as table:
        assert len(list(csv.DictReader(table))) == 3
    # Of all points it leaves out none: there would be no sweep.
    none = ("-S", "train.optimizer=adam", "-S", "train.momentum=0.5,0.9", "--skip-invalid")
    assert "belongs to sgd" in sweep(small_project, *none, ok=False).stderr


def test_workers_clone_a_remote_that_has_the_commit(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not `origin`, which may lack it."""
    for name in ("origin", "mine"):
        project.run("git", "init", "--quiet", "--bare", str(tmp_path / name))
        project.run("git", "config", f"remote.{name}.url", str(tmp_path / name))
        project.run("git", "config", f"remote.{name}.fetch", f"+refs/heads/*:refs/remotes/{name}/*")
    project.run("git", "push", "--quiet", "origin", "HEAD:refs/heads/main")
    project.edit("README.md", "# Handwritten digits", "# Digits")
    project.commit("Later")
    project.run("git", "push", "--quiet", "mine", "HEAD:refs/heads/main")
    monkeypatch.chdir(project.path)
    assert code_location("tcp://127.0.0.1:1").url == str(tmp_path / "mine")
    project.run("git", "push", "--quiet", "origin", "HEAD:refs/heads/main")
    assert code_location("tcp://127.0.0.1:1").url == str(tmp_path / "origin")


def test_without_git_there_is_a_sentence(reproduced: Project) -> None:
    project = Project(reproduced.path)
    project.env["PATH"] = str(Path(sys.executable).parent)
    done = sweep(project, "-S", "train.lr=0.01", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("git cannot be run (")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_path_with_odd_characters(small_project: Project) -> None:
    """DVC itself makes no experiment in a path with a # or a newline."""
    path = small_project.path
    small_project.path = path.rename(path.with_name("a, 'b'"))
    sweep(small_project, "-S", "train.lr=0.02,0.03")
    compare = ("python", "-m", "fairtrial.compare", "HEAD", "HEAD", "--until-known")
    small_project.run(*compare)
    small_project.path = small_project.path.rename(path.with_name('"a" #b\nc'))
    sweep(small_project, "-S", "train.lr=0.04", "--promote=0")
    small_project.run(*compare)
    assert len(rows(small_project)) == 3
    assert {child.name for child in path.parent.iterdir()} <= {'"a" #b\nc', "site-cache", ".config"}


@pytest.mark.slow
def test_what_a_worker_returns_is_checked(small_project: Project) -> None:
    end = 'if __name__ == "__main__":'
    file = small_project.path / "stages/evaluate.py"
    text = file.read_text()
    before, _, after = text.rpartition(f"\n\n{end}")
    broken = '    Path("metrics/train.json").write_text(\'{"train_loss": NaN}\')\n'
    file.write_text(f"{before}{broken}\n\n{end}{after}")
    small_project.commit("NaN for a metric")
    done = sweep(small_project, "-S", "train.lr=0.02", ok=False)
    assert done.returncode == 1
    assert "train.lr=0.02: a worker returned what is no result ('metrics'.'train'" in done.stderr
    assert rows(small_project) == []


@pytest.mark.slow
def test_a_scheduler_with_certificates(project: Project, tmp_path: Path) -> None:
    """As docs/sweeps.md says; without them nobody is let in."""
    page = (ROOT / "docs/sweeps.md").read_text()
    [openssl] = re.findall(r"^openssl .*$", page, re.MULTILINE)
    [options] = re.findall(r"^dask scheduler (--protocol.*)$", page, re.MULTILINE)
    client = re.findall(r"^export (DASK_\w+)=\$PWD/(.*)$", page, re.MULTILINE)
    subprocess.run(openssl.split(), cwd=tmp_path, check=True, capture_output=True)
    words = re.sub(r"(?=sweep\.)", f"{tmp_path}/", options).split()
    with hosts(project.path, tmp_path, options=words) as (address, _):
        arguments = ("-S", "train.lr=0.01", "--promote=0", "--scheduler", address)
        refused = sweep(project, *arguments, ok=False)
        project.env |= {name: str(tmp_path / file) for name, file in client}
        sweep(project, *arguments)
    assert address.startswith("tls://")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"--scheduler {address}: cannot be reached (TLS ")
    assert len(rows(project)) == 1


def test_a_worker_with_other_packages_is_refused(project: Project) -> None:
    project.run("sed", "-i", "s/^torch==[0-9.]*/torch==1.0.0/", "requirements.txt")
    project.commit("An old torch")
    done = sweep(project, "-S", "train.lr=0.01,0.02", "--workers=1", ok=False)
    assert done.returncode == 2
    assert done.stderr.count("and requirements.txt says 1.0.0: install that there") == 1
    assert rows(project) == []


def test_another_sweep_at_the_same_time_is_refused(project: Project) -> None:
    (project.path / "sweeps").mkdir()
    with (project.path / "sweeps/points.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = sweep(project, "-S", "train.lr=0.01", ok=False)
    assert done.returncode == 2
    assert done.stderr == "sweeps/points.jsonl: another sweep runs here; wait for its end\n"


def test_a_table_that_is_none_is_refused(project: Project) -> None:
    (project.path / "sweeps").mkdir()
    (project.path / "sweeps/points.jsonl").write_text("no table\n")
    done = sweep(project, "-S", "train.lr=0.01", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("sweeps/points.jsonl: not as a sweep writes it")
    assert (project.path / "sweeps/points.jsonl").read_text() == "no table\n"
