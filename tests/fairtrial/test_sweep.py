"""Sweeps of the second project, on a local cluster and on remote workers, killed and continued."""

import asyncio
import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import psutil
import pytest
from distributed import Client
from distributed.comm.core import connect
from distributed.security import Security
from PIL import Image

from fairtrial.cluster.client import code_location
from fairtrial.project.contract import Contract, Metric, read_contract
from fairtrial.project.pipeline import read_pipeline
from fairtrial.project.revisions import flatten
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.search.goal import Goal
from fairtrial.search.points import PointMaker
from fairtrial.search.results import write_chart
from tests.fairtrial.clusters import host, hosts, kill_midway, scheduler, share, wait_for_points
from tests.fairtrial.commands import refused
from tests.helpers.project import ROOT, Project
from tests.helpers.services import BUCKET, CREDENTIALS, needs_sshd, s3_server, ssh_server

EACH = [
    *("fit.lr=0.02,1e-05", "points.noise=0.2,0.4", "fit.seed=1,2"),
    "fit.lr=${points.noise},${score.tolerance}",
]
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where a user finds daemons, too
SIX = ("-S", "fit.lr=0.02,0.05,0.1", "-S", "points.noise=0.2,0.4")
TWO = ("-S", "fit.lr=0.02,0.04")
WORKER = ("--nthreads=1", "--no-dashboard")
START = '    with POINTS.open(newline="") as file:\n'  # of the function that fits


@pytest.mark.filterwarnings("ignore:_NoneStep")  # of the reader of YAML, in DVC's own code
@pytest.mark.parametrize("anchor", [False, True])
def test_a_point_has_the_parameters_that_dvc_writes(
    regression: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, anchor: bool
) -> None:
    """Though they are put together from what each setting changes."""
    from dvc.utils.hydra import apply_overrides

    if anchor:
        regression.edit("params.yaml", "  noise: 0.3", "  noise: &same 0.3")
        regression.edit("params.yaml", "  tolerance: 0.5", "  tolerance: *same")
        regression.commit("An anchor")
    monkeypatch.chdir(regression.path)
    contract = read_contract()
    maker = PointMaker(read_pipeline(contract), contract)
    choices = [
        [f"{name}={value}" for value in values.split(",")]
        for name, _, values in (one.partition("=") for one in EACH)
    ]
    for settings in (choices[:3], choices[1:]):
        points, _ = maker.make([list(one) for one in itertools.product(*settings)])
        assert len({point.key for point in points}) == 8
        for point in points:
            file = tmp_path / "params.yaml"
            shutil.copy("params.yaml", file)
            apply_overrides(file, point.overrides)
            assert point.params == file.read_text()
            assert point.values == dict(flatten(parse_yaml(file.read_text(), "x")))
    assert (len(maker.singles) > 1) != anchor


def sweep(project: Project, *arguments: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    return project.run("python", "-m", "fairtrial", "sweep", "--workers=2", *arguments, ok=ok)


def rows(project: Project) -> list[dict[str, Any]]:
    lines = (project.path / "sweeps/points.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def table(project: Project, name: str = "") -> list[dict[str, str]]:
    with (project.path / "sweeps" / name / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def at_start(project: Project, code: str) -> None:
    """Let the second project run code before it fits."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    project.edit("regression.py", START, lines + START)
    project.commit("Other code")


@pytest.fixture
def let_pass(regression: Project, tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Let each fit wait at its start; return what lets a number of them go on.

    They wait for a byte in a pipe, so that a sweep stands still at a known number of points.
    """
    path = tmp_path / "gate"
    os.mkfifo(path)
    at_start(regression, f'with open("{path}", "rb", buffering=0) as gate:\n    gate.read(1)')
    pipe = os.open(path, os.O_RDWR)  # both, so that neither side waits for the other to open it

    def write(count: int) -> None:
        os.write(pipe, bytes(count))

    yield write
    os.close(pipe)


def start_sweep(project: Project, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a sweep of the six points in a process group of its own."""
    return subprocess.Popen(
        ["python", "-m", "fairtrial", "sweep", "--workers=2", *SIX, *arguments],
        cwd=project.path,
        env=project.env,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    )


@pytest.mark.slow
def test_six_points_are_killed_and_continued(
    regression: Project, let_pass: Callable[[int], None]
) -> None:
    let_pass(2)
    process = start_sweep(regression)
    kill_midway(regression, process, process, 2)
    process.wait()
    before = rows(regression)
    assert len(before) == 2
    let_pass(100)
    # As if it had been killed in the middle of a line.
    with (regression.path / "sweeps/points.jsonl").open("a") as file:
        file.write('{"key": "cut o')
    output = sweep(regression, *SIX, "--promote=2").stdout
    assert output.startswith("6 points, 2 of them done\n")
    promoted = re.findall(r"^reproduced bit for bit as experiment (sweep-\w+): ", output, re.M)
    assert len(promoted) == 2
    # A comparison takes from here that they are the best of six.
    chosen = json.loads((regression.path / "sweeps/chosen.json").read_text())
    assert [one["settings"] for one in chosen.values()] == [6, 6]
    after = rows(regression)
    assert after[:2] == before
    assert len(after) == len({row["key"] for row in after}) == 6

    # The table has them all, the best first: lower is better.
    lines = table(regression)
    errors = [float(line["val.squared_error.mean"]) for line in lines]
    assert len(errors) == 6
    assert errors == sorted(errors)
    assert [line["experiment"] for line in lines[:2]] == promoted
    # DVC's experiment has the same figures and files.
    regression.run("dvc", "exp", "apply", promoted[0])
    scores = np.genfromtxt(
        regression.path / "scores.csv", delimiter=",", names=True, deletechars="", dtype=None
    )
    of_val = scores[scores["split"] == "val"]
    means = [of_val[f"squared_error.{replica}"].mean() for replica in range(5)]
    assert errors[0] == pytest.approx(np.mean(means), rel=1e-12)
    assert float(lines[0]["val.squared_error.sd"]) == pytest.approx(np.std(means, ddof=1))
    lock = parse_yaml((regression.path / "dvc.lock").read_text(), "dvc.lock")
    md5 = {out["path"]: out["md5"] for out in lock["stages"]["fit"]["outs"]}
    assert lines[0]["md5.scores.csv"] == md5["scores.csv"]


@pytest.mark.slow
def test_another_metric_orders_the_points_otherwise_and_the_chart_shows_them(
    reproduced_regression: Project, tmp_path: Path
) -> None:
    regression = Project(shutil.copytree(reproduced_regression.path, tmp_path / "project"))
    regression.env["PYTHONPATH"] = str(ROOT)
    sweep(regression, *SIX, "--promote=0")
    output = sweep(regression, *SIX, "--metric=close", "--promote=0", "--by=points.noise").stdout
    assert output.startswith("6 points, 6 of them done\n")
    assert len(re.findall(r"^sweep-\w+ ", output, re.M)) == 2  # the best of each noise
    made_by = json.loads((regression.path / "sweeps/sweep.json").read_text())
    assert made_by["command"][-1] == "--by=points.noise"
    assert made_by["commit"] == regression.run("git", "rev-parse", "HEAD").stdout.strip()
    assert "reproduced" not in output
    assert len(rows(regression)) == 6
    close = [float(line["val.close.mean"]) for line in table(regression)]
    assert close == sorted(close, reverse=True)  # higher is better
    assert list(table(regression)[0])[3] == "val.close.mean"
    with Image.open(regression.path / "sweeps/sweep.png") as picture:
        assert picture.width > 600
        colours = set(map(tuple, np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()))
    assert {(76, 120, 168), (245, 133, 24)} <= colours  # Vega's first two: of two values a panel
    svg = ElementTree.parse(regression.path / "sweeps/sweep.svg")
    texts = {text.text for text in svg.findall(".//{*}text")}
    assert {"fit.lr", "0.05", "points.noise", "close on val", "100%"} <= texts
    assert (regression.path / "sweeps/sweep.pdf").read_bytes().startswith(b"%PDF-")
    assert regression.status() == ""


def test_a_chart_says_that_an_axis_is_logarithmic_and_shows_equal_points(tmp_path: Path) -> None:
    contract = Contract(
        stage="fit",
        scores=("scores.csv",),
        split="val",
        seed="seed",
        replicas="replicas",
        metrics={"close": Metric(better="higher", unit="%")},
    )
    rows = [
        {"fit.lr": lr, "fit.by": by, "rung": 1, "val.close.mean": 0.9, "val.close.sd": 0.1}
        for lr in ("0.001", "1000")
        for by in ("adam", "adamw")
    ]
    write_chart(
        tmp_path / "chart", pd.DataFrame(rows), ["fit.lr", "fit.by"], Goal(contract, "close")
    )
    svg = ElementTree.parse(tmp_path / "chart.svg")
    texts = [text.text for text in svg.findall(".//{*}text")]
    assert {"fit.lr, log scale", "1,000", "90%"} <= set(texts)
    assert texts.count("adamw") == 2  # a legend for colours and shapes, and an axis
    points = svg.findall(".//{*}path[@aria-roledescription='point']")
    assert len(points) == 8
    assert len({point.get("d") for point in points}) == 2


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_tells_how_many_points_are_done(
    regression: Project, let_pass: Callable[[int], None], how: signal.Signals
) -> None:
    let_pass(1)
    process = start_sweep(regression, stderr=subprocess.PIPE)
    kill_midway(regression, process, process, 1, how)
    message = process.communicate()[1].decode()
    assert len(rows(regression)) == 1
    assert (
        message == "1 points were computed and are kept; the same command continues\ninterrupted\n"
    )
    assert scratch_folders(regression) == []


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
    regression: Project, let_pass: Callable[[int], None]
) -> None:
    let_pass(1)
    process = start_sweep(regression, stderr=subprocess.DEVNULL)
    try:
        wait_for_points(regression, process, 1)
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
    assert len(scratch_folders(regression)) == 1
    # The next command removes what is left.
    let_pass(100)
    sweep(regression, *TWO, "--promote=0")
    assert scratch_folders(regression) == []


@pytest.mark.slow
def test_one_of_two_remote_workers_dies(
    regression: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """The data can only come from the DVC remote: the stage that makes them does not work."""
    let_pass(100)
    regression.run("dvc", "repro")
    regression.commit("Reproduced")
    with hosts(regression, tmp_path) as (address, workers):
        local = Project(shutil.copytree(regression.path, tmp_path / "local"))
        local.env["PYTHONPATH"] = str(ROOT)
        with (tmp_path / "gate").open("rb", buffering=0) as gate:
            os.set_blocking(gate.fileno(), False)
            gate.read(1000)
        let_pass(2)
        settings = "-S", "fit.lr=0.02,0.05,0.1", "-S", "fit.seed=0,1"
        process = subprocess.Popen(
            [
                "python",
                "-m",
                "fairtrial",
                "sweep",
                *settings,
                "--scheduler",
                address,
                "--promote=0",
            ],
            cwd=regression.path,
            env=regression.env,
        )
        kill_midway(regression, process, workers[0], 2)
        let_pass(100)
        assert process.wait() == 0
        assert workers[1].poll() is None
        # The other worker runs the code of another commit, though it has imported the first one's.
        regression.edit(
            "regression.py", "weights = random.normal(0, 0.1", "weights = random.normal(0, 0.2"
        )
        regression.commit("Other weights")
        regression.run("git", "push", "origin", "HEAD:main")
        sweep(regression, "-S", "fit.lr=0.05", "--scheduler", address, "--promote=0")
        logs = [path.read_text() for path in (tmp_path / "two").rglob("points.csv")]
    *others, last = rows(regression)
    assert len(others) == 6
    assert len(set(logs)) == 1
    assert last["md5"]["scores.csv"] not in {row["md5"]["scores.csv"] for row in others}
    sweep(local, *settings, "--promote=0")
    md5s = {row["key"]: row["md5"] for row in others}
    assert md5s == {row["key"]: row["md5"] for row in rows(local)}


def wait_for_two_workers(address: str) -> None:
    with Client(address) as client:
        client.wait_for_workers(2)


@pytest.mark.slow
def test_a_worker_without_credentials_is_named_before_the_first_point(
    regression: Project, tmp_path: Path
) -> None:
    """The other one has them, and the data come from an S3 store."""
    credentials = "[default]\n" + "".join(
        f"{key.lower()} = {value}\n" for key, value in CREDENTIALS.items()
    )
    with s3_server() as store:
        regression.run("dvc", "remote", "add", "-d", "storage", f"s3://{BUCKET}/project")
        regression.run("dvc", "remote", "modify", "storage", "endpointurl", store)
        for key, value in CREDENTIALS.items():  # ours stay on this computer
            name = key.lower().removeprefix("aws_")
            regression.run("dvc", "remote", "modify", "--local", "storage", name, value)
        (tmp_path / "one/.aws").mkdir(parents=True)
        (tmp_path / "one/.aws/credentials").write_text(credentials)
        with hosts(regression, tmp_path) as (address, _):
            wait_for_two_workers(address)
            done = sweep(regression, *TWO, "--promote=0", "--scheduler", address, ok=False)
            assert done.returncode == 2
            assert done.stderr.count("worker tcp://") == 1
            assert "Unable to locate credentials\n" in done.stderr
            assert done.stderr.endswith("fairtrial/clusters.md says what a worker needs\n")
            assert rows(regression) == []
            (tmp_path / "two/.aws").mkdir()
            (tmp_path / "two/.aws/credentials").write_text(credentials)
            sweep(regression, *TWO, "--promote=0", "--scheduler", address)
    assert len(rows(regression)) == 2


@pytest.mark.slow
def test_the_scheduler_dies(
    regression: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    share(regression, tmp_path)
    with scheduler(tmp_path / "scheduler") as (address, victim):
        worker = "worker", address, *WORKER
        with host(tmp_path / "one", *worker), host(tmp_path / "two", *worker) as two:
            let_pass(2)
            arguments = "--scheduler", address, "--promote=0"
            process = start_sweep(regression, *arguments, stderr=subprocess.PIPE)
            kill_midway(regression, process, victim, 2)
            message = process.communicate()[1].decode()
            two.wait()  # a worker without a scheduler ends
    assert process.returncode == 2
    *_, kept, message = message.splitlines()
    assert kept == "2 points were computed and are kept; the same command continues"
    assert re.fullmatch(
        r"--scheduler: cannot be reached any more \(.+\), and the points that were running are "
        "lost; start it and workers again, and then the sweep",
        message,
    )
    assert len(rows(regression)) == 2
    let_pass(100)
    port = address.rpartition(":")[2]
    with scheduler(tmp_path / "again", port=port), host(tmp_path / "three", *worker):
        output = sweep(regression, *SIX, *arguments).stdout
    assert output.startswith("6 points, 2 of them done\n")
    assert len({row["key"] for row in rows(regression)}) == len(rows(regression)) == 6


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip", path=SBIN),
    reason="only root makes a network to cut off, and by Debian's iproute2",
)
@pytest.mark.slow
def test_a_sweep_is_cut_off(
    regression: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """Its scheduler and workers go on, and so does the same command when it reaches them again."""
    share(regression, tmp_path)
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
        regression.env["PATH"] += ":/usr/sbin:/sbin"
        with contextlib.ExitStack() as stack:
            address, _ = stack.enter_context(scheduler(tmp_path / "scheduler", "--host", here))
            stack.enter_context(host(tmp_path / "one", "worker", address, *WORKER))
            command = ["ip", "netns", "exec", space, "python", "-m", "fairtrial", "sweep", *SIX]
            command += ["--scheduler", address, "--promote=0"]
            let_pass(2)
            process = subprocess.Popen(
                command, cwd=regression.path, env=regression.env, stderr=subprocess.PIPE
            )
            wait_for_points(regression, process, 2)
            ip("link", "set", link, "down")
            message = process.communicate()[1].decode()
            ip("link", "set", link, "up")
            let_pass(100)
            output = regression.run(*command).stdout
    finally:
        ip("netns", "delete", space)
    assert process.returncode == 2
    assert message.splitlines()[-1].startswith("--scheduler: cannot be reached any more")
    assert "2 points were computed and are kept; the same command continues" in message
    assert "Traceback" not in message
    assert output.startswith("6 points, 2 of them done\n")
    assert len({row["key"] for row in rows(regression)}) == len(rows(regression)) == 6


@needs_sshd
@pytest.mark.slow
def test_workers_by_ssh(regression: Project, tmp_path: Path) -> None:
    """By the lines of fairtrial/clusters.md, on two hosts that are this one."""
    page = (ROOT / "fairtrial/clusters.md").read_text()
    [loop] = re.findall(r"^for host in .*\n.* ssh .*\ndone$", page, re.MULTILINE)
    share(regression, tmp_path)
    env = {"DVC_NO_ANALYTICS": "1", "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    (tmp_path / "server").mkdir()
    with ssh_server(tmp_path / "server", env) as (ssh, key):
        # An `ssh` that finds this host under the name of any.
        options = f"-p {ssh.rpartition(':')[2]} -i {key} -o HostName=127.0.0.1"
        options += " -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        (tmp_path / "bin").mkdir()
        program = tmp_path / "bin/ssh"
        program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
        program.chmod(0o755)
        regression.env["PATH"] = f"{program.parent}{os.pathsep}{regression.env['PATH']}"
        with scheduler(tmp_path / "scheduler") as (address, _):
            for old, new in [
                ("tcp://one:8786", address),
                ("project/.venv/bin/dask", str(Path(sys.executable).parent / "dask")),
                ("--nworkers 16", "--nworkers 1"),
            ]:
                assert old in loop
                loop = loop.replace(old, new)
            workers = subprocess.Popen(
                ["bash", "-euc", f"{loop}\nwait"], env=regression.env, stderr=subprocess.PIPE
            )
            sweep(regression, *SIX, "--scheduler", address, "--promote=0")
        # They end with their scheduler.
        log = workers.communicate()[1].decode()
    assert log.count("Registered to") == 2
    assert len(rows(regression)) == 6


@pytest.mark.slow
def test_another_worker_computes_a_point_whose_worker_has_reached_its_lifetime(
    regression: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """The point has not failed, not even once, and what was computed before is not lost."""
    starts = tmp_path / "starts"
    gate = f'    with open("{tmp_path}/gate"'
    note = f'    with open("{starts}", "a") as file:\n        file.write("x")\n'
    regression.edit("regression.py", gate, note + gate)
    regression.commit("Starts are counted")
    share(regression, tmp_path)
    none = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with scheduler(tmp_path / "scheduler", **none) as (address, _):
        worker = "worker", address, *WORKER
        process = start_sweep(
            regression, "--scheduler", address, "--promote=0", stderr=subprocess.PIPE
        )
        assert process.stderr
        assert process.stderr.readline() == b"waiting for the first worker\n"
        with host(tmp_path / "one", *worker, "--lifetime=20s") as leaving:
            let_pass(1)
            wait_for_points(regression, process, 1)
            leaving.wait()
        with host(tmp_path / "two", *worker):
            let_pass(100)
            message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    assert "died" not in message
    assert starts.read_text() == "xx" + "xxxxx"  # the second of these did not end
    assert len({row["key"] for row in rows(regression)}) == len(rows(regression)) == 6


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(shutil.which(name, path=SBIN) for name in ("slurmd", "munged")),
    reason="this is not root, or SLURM and munge are missing (Debian's slurm-wlm and munge)",
)
@pytest.mark.slow
def test_workers_of_slurm_end_by_plan(
    regression: Project, let_pass: Callable[[int], None], tmp_path: Path
) -> None:
    """A point whose worker ends before its job's time is up has not failed, not even once."""
    share(regression, tmp_path)
    page = (ROOT / "fairtrial/clusters.md").read_text()
    [block] = re.findall(r"^```text\n(mkdir .*\nsbatch .*\n(?:.*\n)*?)```$", page, re.MULTILINE)
    none = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with scheduler(tmp_path / "scheduler", **none) as (address, _):
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
            cwd=regression.path,
            env=regression.env,
            stderr=subprocess.PIPE,
        )
        while len(list(regression.path.glob("sweeps/slurm-*.out"))) < 3:
            assert process.poll() is None
            time.sleep(0.1)
        let_pass(100)
        message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    assert "died" not in message
    assert len({row["key"] for row in rows(regression)}) == len(rows(regression)) == 6
    for log in regression.path.glob("sweeps/slurm-*.out"):
        assert "TIME LIMIT" not in log.read_text()


@pytest.mark.slow
def test_a_worker_of_two_threads_is_refused(regression: Project, tmp_path: Path) -> None:
    with hosts(regression, tmp_path, threads=2) as (address, _):
        wait_for_two_workers(address)
        done = sweep(regression, *TWO, "--scheduler", address, ok=False)
    assert done.returncode == 2
    assert done.stderr.count("a worker has 2 threads; start it with one\n") == 2
    assert rows(regression) == []


@pytest.mark.slow
def test_a_scheduler_with_certificates(regression: Project, tmp_path: Path) -> None:
    """As fairtrial/clusters.md says; without them nobody is let in."""
    page = (ROOT / "fairtrial/clusters.md").read_text()
    [openssl] = re.findall(r"^openssl .*$", page, re.MULTILINE)
    [options] = re.findall(r"^dask scheduler (--protocol.*)$", page, re.MULTILINE)
    client = re.findall(r"^export (DASK_\w+)=\$PWD/(.*)$", page, re.MULTILINE)
    subprocess.run(openssl.split(), cwd=tmp_path, check=True, capture_output=True)
    words = re.sub(r"(?=sweep\.)", f"{tmp_path}/", options).split()
    with hosts(regression, tmp_path, options=words) as (address, _):
        arguments = ("-S", "fit.lr=0.02", "--promote=0", "--scheduler", address)
        refused = sweep(regression, *arguments, ok=False)
        regression.env |= {name: str(tmp_path / file) for name, file in client}
        sweep(regression, *arguments)
    assert address.startswith("tls://")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"--scheduler {address}: cannot be reached (TLS ")
    assert len(rows(regression)) == 1


@pytest.mark.slow
def test_a_point_that_a_stage_refuses_does_not_stop_the_rest(regression: Project) -> None:
    at_start(
        regression,
        'print("working")\nif params["fit"]["lr"] > 1:\n'
        "    raise ValueError(f\"params.yaml: fit.lr: {params['fit']['lr']} diverges\")",
    )
    grid = ("-S", "fit.lr=0.05,1.5", "-S", "fit.seed=0,1", "--promote=0")
    done = sweep(regression, *grid, ok=False)
    assert done.returncode == 1
    assert done.stderr.count("fit.lr=1.5 fit.seed=1: params.yaml: fit.lr: 1.5 diverges\n") == 1
    assert done.stderr.endswith("2 failed; the same command tries them again\n")
    assert "failed 3 times" not in done.stderr  # a second try would not help
    assert len(rows(regression)) == 2
    again = sweep(regression, *grid, ok=False)
    assert again.stdout.startswith("4 points, 2 of them done\n")


@pytest.mark.slow
def test_a_point_is_tried_three_times_and_its_last_lines_are_shown(
    regression: Project, tmp_path: Path
) -> None:
    tries = tmp_path / "tries"
    at_start(
        regression,
        f'with open("{tries}", "a+") as file:\n    file.write("x")\n    file.seek(0)\n'
        '    print("It will", "not do")\n    assert len(file.read()) > 3, "too early"',
    )
    one = ("-S", "fit.lr=0.02", "--promote=0")
    output = sweep(regression, *one, ok=False).stderr
    assert "failed 3 times\nstage fit failed\nIt will not do\nAssertionError: too early\n" in output
    assert tries.read_text() == "xxx"
    sweep(regression, *one)
    assert tries.read_text() == "xxxx"
    assert len(rows(regression)) == 1


@pytest.mark.slow
def test_a_table_of_scores_that_is_broken_is_a_failure(regression: Project) -> None:
    regression.edit("regression.py", "errors.round(6)", "errors.round(6) + np.nan")
    regression.commit("NaN for scores")
    done = sweep(regression, "-S", "fit.lr=0.02", ok=False)
    assert done.returncode == 1
    assert "failed 3 times\n" in done.stderr
    assert "scores.csv: line 2: 'nan' is not a number of at most 1e+100" in done.stderr
    assert rows(regression) == []


@pytest.mark.slow
def test_experiments_of_all_points_have_the_bits_of_the_table(regression: Project) -> None:
    # One worker, which has to make the points anew for the second setting.
    two = ("-S", "points.seed=0,1", "--workers=1", "--experiments")
    output = sweep(regression, *two).stdout
    assert output.count("reproduced bit for bit as experiment sweep-") == 2
    names = regression.run("dvc", "exp", "list", "--name-only").stdout.split()
    assert len([name for name in names if name.startswith("sweep-")]) == 2
    assert regression.status() == ""
    # One of the two was here before, and was not chosen.
    [chosen] = json.loads((regression.path / "sweeps/chosen.json").read_text()).values()
    assert chosen["settings"] == 2
    # Once more it has nothing to do, and says the same.
    assert sweep(regression, *two).stdout.endswith("\n".join(output.splitlines()[-2:]) + "\n")


@pytest.mark.slow
def test_a_project_whose_bits_do_not_come_out_again_keeps_its_experiment(
    regression: Project,
) -> None:
    regression.edit(
        "regression.py", "default_rng([of[", "default_rng([int(PARAMS.stat().st_mtime_ns), of["
    )
    regression.commit("A seed that is the time")
    [line] = [
        line
        for line in sweep(regression, "-S", "fit.lr=0.02").stdout.splitlines()
        if "not of the same bits" in line
    ]
    [name] = re.findall(r"^(sweep-\w+) is an experiment, ", line)
    values = re.findall(r"was (0\.\d+) in the sweep and is (0\.\d+) in the experiment; ", line)
    assert float(table(regression)[0]["val.squared_error.mean"]) == float(values[0][0])
    assert values[0][0] != values[0][1]
    assert line.endswith("scores.csv differ")
    assert name in regression.run("dvc", "exp", "list", "--name-only").stdout


@pytest.mark.slow
def test_a_stage_of_the_shell_in_another_folder_is_computed(regression: Project) -> None:
    """It stands between the data and the fit, and depends on parameters by its inputs alone."""
    path = regression.path / "dvc.yaml"
    before, fit, after = path.read_text().partition("\n  fit:\n")
    shift = (
        "\n  shift:\n    wdir: shifted\n    cmd: sed 's/val,/val,/' ../points.csv > points.csv && "
        "echo Shifted\n    deps: [../points.csv]\n    outs: [points.csv]\n"
    )
    path.write_text(before + shift + fit + after.replace("points.csv", "shifted/points.csv", 1))
    (regression.path / "shifted").mkdir()
    (regression.path / "shifted/README").write_text("For a stage.\n")
    regression.edit("regression.py", START, START.replace("POINTS", 'Path("shifted/points.csv")'))
    grid = ("-S", "points.seed=0,1", "--workers=1", "--experiments")
    done = sweep(regression, *grid, ok=False)
    assert done.stderr.startswith("not committed, so no worker can clone it: ")
    for file in ("dvc.yaml", "regression.py"):
        assert file in done.stderr
    regression.commit("A stage between")
    output = sweep(regression, *grid).stdout
    assert output.count("reproduced bit for bit as experiment") == 2
    one, two = rows(regression)
    assert one["md5"]["shifted/points.csv"] != two["md5"]["shifted/points.csv"]


@pytest.mark.slow
def test_what_a_parameter_names_has_to_be_committed_and_is_part_of_a_point(
    regression: Project,
) -> None:
    """A file by git, or a folder by the .dvc file that `dvc add` writes."""
    regression.edit("params.yaml", "  noise: 0.3", "  noise: 0.3\n  source: sources/a.txt")
    regression.edit(
        "dvc.yaml", "deps: [regression.py]", "deps: [regression.py, '${points.source}']"
    )
    path = regression.path / "sources"
    path.mkdir()
    (path / "a.txt").write_text("A\n")
    regression.commit("A source")
    (path / "b").mkdir()
    (path / "b/1.txt").write_text("B\n")
    arguments = ("-S", "points.source=sources/a.txt,sources/b", "--workers=1", "--promote=0")
    done = sweep(regression, *arguments, ok=False)
    assert done.returncode == 2
    assert "not committed, so no worker can clone it: ?? sources/b/; commit it first" in done.stderr
    regression.run("dvc", "add", "sources/b")
    assert "?? sources/b.dvc" in sweep(regression, *arguments, ok=False).stderr
    regression.commit("A folder")
    assert sweep(regression, *arguments).stdout.startswith("2 points, 0 of them done\n")
    assert sweep(regression, *arguments).stdout.startswith("2 points, 2 of them done\n")
    (path / "b/1.txt").write_text("C\n")
    regression.run("dvc", "add", "sources/b")
    regression.commit("Another folder")
    assert sweep(regression, *arguments).stdout.startswith("2 points, 1 of them done\n")
    missing = ("-S", "points.source=sources/none.txt", "--promote=0")
    done = sweep(regression, *missing, ok=False)
    assert "sources/none.txt is not committed, so no worker can get it; `dvc add" in done.stderr


@pytest.mark.slow
def test_other_code_is_another_point(regression: Project) -> None:
    one = ("-S", "fit.lr=0.02", "--promote=0")
    sweep(regression, *one)
    with (regression.path / "regression.py").open("a") as file:
        file.write("# Other code.\n")
    done = sweep(regression, *one, ok=False)
    assert done.returncode == 2
    assert done.stderr == (
        "not committed, so no worker can clone it: M regression.py; commit it first\n"
    )
    regression.commit("Other code")
    assert sweep(regression, *one).stdout.startswith("1 points, 0 of them done\n")
    first, second = rows(regression)
    assert first["key"] != second["key"]
    assert first["md5"] == second["md5"]


@pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")  # of a library of DVC's
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "fit.lr=-1,0,0.01"], "-S fit.lr=-1: params.yaml: fit.lr: has to be float and abov"),
        (
            ["-S", "fit.lrate=0.01"],
            "-S fit.lrate=0.01: Could not override 'fit.lrate'. Is it in params.yaml?",
        ),
        (["-S", "fit.lr"], "-S fit.lr: Error parsing override 'fit.lr'; write NAME=VALUES"),
        (["-S", "fit.lr=range(1,0)"], "-S fit.lr=range(1,0): the range has no values"),
        (["-S", "fit.lr=1", "-S", "fit.lr=2"], "-S: fit.lr more than once"),
        (["-S", "fit.seed=range(0,1000000000)"], "-S: more than 100,000 points; give fewer"),
        (["-S", "fit.lr=range(0,1,1e-30)"], "-S: more than 100,000 points; give fewer"),
        (
            ["-S", "fit.seed=range(0,1000)", "-S", "fit.lr=range(0.5,1000)"],
            "-S: more than 100,000 points; give fewer",
        ),
        (
            ["-S", "fit.seed=range(0,1,0)"],
            "-S fit.seed=range(0,1,0): range() arg 3 must not be zero",
        ),
        (["-S", "fit.lr=["], "-S fit.lr=[: no viable alternative"),
        (["-S", "fit.lr=interval(0,1)"], "-S fit.lr: an interval has no end of values; add "),
        (
            ["-S", "fit.lr=0.1", "--metric=accuracy"],
            "unknown metric 'accuracy'; known: squared_error, close",
        ),
        (["-S", "fit.lr=0.1", "--by=lr"], "--by lr: no parameter of params.yaml; write its dotted"),
        (["-S", "fit.lr=0.1", "--workers=0"], "--workers has to be 1 or more"),
        (["-S", "fit.lr=0.1", "--name=../x"], "--name ../x: use letters, digits, - and _"),
        (["-S", "fit.lr=0.1", "--scheduler=tcp://127.0.0.1:1"], "no git remote has "),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    reproduced_regression: Project,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    assert refused(reproduced_regression, monkeypatch, *arguments).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "check: regression:check",
            "check: regression:none",
            "dvc.yaml: check: regression:none ca",
        ),
        (
            "check: regression:check",
            "check: nowhere:check",
            "dvc.yaml: check: nowhere:check cannot",
        ),
        ("data: points", "data: pionts", "dvc.yaml: there is no stage pionts, the contract's data"),
        (
            "scores: scores.csv",
            "scores: score.csv",
            "dvc.yaml: no stage makes score.csv; add it to",
        ),
        ("cmd: python -m regression fit", "cmd: [1", "dvc.yaml: line "),
    ],
)
def test_a_bad_contract_is_refused_before_anything_runs(
    regression: Project, old: str, new: str, message: str
) -> None:
    regression.edit("dvc.yaml", old, new)
    regression.commit("Bad")
    done = sweep(regression, "-S", "fit.lr=0.02", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_points_that_the_check_refuses_are_left_out_on_request(regression: Project) -> None:
    grid = ("-S", "fit.lr=0.02,-1.0", "-S", "fit.seed=0,1", "--promote=0")
    done = sweep(regression, *grid, ok=False)
    assert done.returncode == 2
    problem, remedy = done.stderr.splitlines()
    reason = "params.yaml: fit.lr: has to be float and above 0, and is -1.0"
    assert problem == f"-S fit.lr=-1.0 fit.seed=0: {reason}"
    assert remedy == "--skip-invalid leaves such points out"
    output = sweep(regression, *grid, "--skip-invalid", "--name=some").stdout
    assert output.startswith(f"2 left out: {reason}\n2 points, 0 of them done\n")
    assert not (regression.path / "sweeps/sweep.csv").exists()
    assert len(table(regression, "some")) == 2
    # If all points are refused there is no sweep.
    none = ("-S", "fit.lr=-1.0,-2.0", "--skip-invalid")
    assert "has to be float" in sweep(regression, *none, ok=False).stderr


def test_workers_clone_a_remote_that_has_the_commit(
    regression: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not `origin`, which may lack it."""
    for name in ("origin", "mine"):
        regression.run("git", "init", "--quiet", "--bare", str(tmp_path / name))
        regression.run("git", "config", f"remote.{name}.url", str(tmp_path / name))
        fetch = f"+refs/heads/*:refs/remotes/{name}/*"
        regression.run("git", "config", f"remote.{name}.fetch", fetch)
    regression.run("git", "push", "--quiet", "origin", "HEAD:refs/heads/main")
    regression.edit("params.yaml", "  epochs: 5", "  epochs: 4")
    regression.commit("Later")
    regression.run("git", "push", "--quiet", "mine", "HEAD:refs/heads/main")
    monkeypatch.chdir(regression.path)
    assert code_location("tcp://127.0.0.1:1").url == str(tmp_path / "mine")
    regression.run("git", "push", "--quiet", "origin", "HEAD:refs/heads/main")
    assert code_location("tcp://127.0.0.1:1").url == str(tmp_path / "origin")


@pytest.mark.slow
def test_a_project_in_a_folder_of_a_repository(regression: Project, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    shutil.move(regression.path / ".git", root / ".git")
    path = regression.path.rename(root / "sub folder")
    moved = Project(path)
    moved.env["PYTHONPATH"] = str(ROOT)
    moved.commit("Moved into a folder")
    output = sweep(moved, "-S", "fit.lr=0.02,0.04").stdout
    assert "reproduced bit for bit as experiment" in output
    assert len(rows(moved)) == 2


def test_without_git_there_is_a_sentence(reproduced_regression: Project) -> None:
    project = Project(reproduced_regression.path)
    project.env |= {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(ROOT)}
    done = sweep(project, "-S", "fit.lr=0.02", ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("git cannot be run (")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_path_with_odd_characters(regression: Project) -> None:
    """DVC itself makes no experiment in a path with a # or a newline."""
    path = regression.path
    regression.path = path.rename(path.with_name("a, 'b'"))
    sweep(regression, *TWO)
    regression.path = regression.path.rename(path.with_name('"a" #b\nc'))
    sweep(regression, "-S", "fit.lr=0.06", "--promote=0")
    assert len(rows(regression)) == 3


def test_a_worker_with_other_packages_is_refused(regression: Project) -> None:
    text = "numpy==1.0.0 --hash=sha256:00\nnot-installed==1\nscipy==1.0 ; python_version < '3'\n"
    (regression.path / "requirements.txt").write_text(text)
    regression.commit("An old NumPy")
    done = sweep(regression, *TWO, "--workers=1", ok=False)
    assert done.returncode == 2
    expected = f"requirements.txt: numpy {np.__version__} instead of 1.0.0: install the pinned"
    assert done.stderr.count(expected) == 1
    assert "scipy" not in done.stderr
    assert rows(regression) == []
