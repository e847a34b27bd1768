"""Train and score every point of a grid of parameters, on all cores or on a cluster.

A setting is written as for `dvc exp run -S`, with Hydra's choices and ranges. Every point that is
done is kept in `sweeps/points.jsonl` as it arrives: a sweep that was stopped goes on where it was,
and no point is computed twice. At the end there are `sweeps/sweep.csv` and `sweeps/sweep.png`, and
the best points become experiments of DVC's.

    python -m tools.sweep -S 'train.lr=0.003,0.01,0.03' -S 'train.weight_decay=0,0.01'
    python -m tools.sweep -S 'train.seed=range(0,100)' --scheduler tcp://somewhere:8786
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from tqdm import tqdm

from stages.storage.errors import InputError, run
from stages.storage.files import write_bytes
from tools.analysis.revisions import flat, read_files
from tools.cluster import worker

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

# Each worker imports this module, too: what takes long is imported where it is used.

POINTS = Path("sweeps/points.jsonl")
TABLE, PICTURE = Path("sweeps/sweep.csv"), Path("sweeps/sweep.png")
METRIC = "evaluate.val.replicas.mean"
LOWER_IS_BETTER = ("loss", "cross_entropy", "calibration_error")  # as the names of metrics end
TRIES = 3  # of a point that fails
SHOWN = 20  # points in the table on the terminal


Row = dict[str, Any]  # what came out of a point, and its key
Rows = dict[str, Row]  # by their keys


class Point(NamedTuple):
    overrides: list[str]  # as -S takes them
    params: str  # the content of params.yaml
    key: str  # a hash of all that decides the result

    @property
    def settings(self) -> dict[str, str]:
        return dict(override.split("=", 1) for override in self.overrides)

    @property
    def name(self) -> str:
        return f"sweep-{self.key[:8]}"


def grid(settings: list[str]) -> list[Point]:
    """Return the points of a grid; raises `InputError` with all that is wrong with any of them."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
    from hydra.errors import HydraException

    from stages.check import Params
    from stages.params import load_params

    if changed := git("status", "--porcelain", "--", "stages", "requirements.txt"):
        raise InputError(f"not committed, so that no worker has it: {changed}; commit it first")
    code = git("rev-parse", "HEAD:stages", "HEAD:requirements.txt")
    try:
        sweeps = get_hydra_sweeps({"params.yaml": settings})
    except (DvcException, HydraException) as error:
        raise InputError(
            f"-S: {str(error).splitlines()[0]}; write NAME=VALUES, as in docs/sweeps.md"
        ) from None
    names = [setting.partition("=")[0] for setting in settings]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"-S: {', '.join(twice)} more than once; give all values in one -S")
    if not sweeps:
        raise InputError(f"-S: {' '.join(settings)} has no values; see docs/sweeps.md")
    base = Path("params.yaml").read_bytes()
    points: dict[str, Point] = {}
    problems: dict[str, str] = {}  # and the first point that has each
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        file = Path("params.yaml")
        for overrides in (sweep["params.yaml"] for sweep in sweeps):
            file.write_bytes(base)
            try:
                apply_overrides(file, overrides)
                params = load_params(Params).model_dump()
            except DvcException as error:
                said = str(error.__cause__ or error).splitlines()[0]
                problems.setdefault(f"{said} Is it in params.yaml?", " ".join(overrides))
            except InputError as error:
                for said in str(error).splitlines():
                    problems.setdefault(said, " ".join(overrides))
            else:
                facts = json.dumps([code, params], sort_keys=True)
                key = hashlib.sha256(facts.encode()).hexdigest()
                points[key] = Point(overrides, file.read_text(), key)
    if problems:
        lines = (f"-S {overrides}: {said}" for said, overrides in problems.items())
        raise InputError("\n".join(lines))
    return list(points.values())


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise InputError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def source(scheduler: str | None) -> tuple[str, str, str | None]:
    """Return for `tools.cluster.worker.compute` the place and the commit in git, and DVC's cache or None."""
    commit = git("rev-parse", "HEAD")
    if scheduler is None:
        from dvc.repo import Repo

        with Repo() as repo:
            return str(Path.cwd()), commit, repo.cache.local_cache_dir
    if not git("branch", "--remotes", "--contains", commit):
        raise InputError(f"no git remote has {commit[:9]}, so that no worker can; `git push` first")
    return git("remote", "get-url", "origin"), commit, None


def kept() -> Rows:
    """Return the rows of all points that were ever done, by their keys.

    The last line is left out, and taken from the file, if it was cut off while it was written.
    """
    if not POINTS.exists():
        return {}
    *lines, last = POINTS.read_bytes().split(b"\n")
    if last:
        os.truncate(POINTS, POINTS.stat().st_size - len(last))
    try:
        rows = [json.loads(line) for line in lines]
        return {row["key"]: row for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{POINTS}: not as a sweep writes it ({error}); move it away to begin anew"
        ) from None


@contextlib.contextmanager
def cluster(scheduler: str | None, workers: int) -> Iterator["Client"]:
    """Yield a client of the cluster at an address, or of one on the cores of this machine."""
    try:
        import cloudpickle
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise InputError(
            "Dask is not installed; `make repro` sees to it, or `uv pip install --group sweep`"
        ) from None
    cloudpickle.register_pickle_by_value(worker)  # so that no worker needs to have it
    if scheduler:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            raise InputError(
                f"--scheduler {scheduler}: cannot be reached ({error}); "
                "name one that runs, as tcp://HOST:PORT"
            ) from None
        with client:
            yield client
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",  # None means 8787, with a warning where that is taken
            local_directory=folder,
            # Ctrl-C reaches the workers, too; we end them.
            preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
            silence_logs=logging.CRITICAL,  # a failure is told by us
        ) as local,
        Client(local) as client,
    ):
        yield client


def computed(
    points: list[Point], client: "Client", source: tuple[str, str, str | None]
) -> Iterator[tuple[Point, Row | str]]:
    """Yield each point as it is done, with its row, or with what its last failure said."""
    from distributed import as_completed

    compute = worker.compute

    def task(params: str) -> Row:  # sent as it is, since it is a function within a function
        return compute(*source, params)

    params = [one.params for one in points]
    submitted = client.map(task, params, key=[one.key for one in points], retries=TRIES - 1)
    futures = dict(zip(submitted, points, strict=True))
    for future in as_completed(futures):
        one = futures.pop(future)
        if future.status == "finished":
            yield one, {"key": one.key, "overrides": one.overrides, **future.result()}
        else:
            yield one, str(future.exception()) if future.status == "error" else future.status


def value(row: Row, metric: str) -> float:
    """Return a metric by its dotted name; raises `InputError` if there is none of that name."""
    found: Any = row["metrics"]
    for part in metric.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, int | float) or metric.startswith("evaluate.test"):
        figures = (name for name, of in flat(row["metrics"]) if isinstance(of, int | float))
        known = [name for name in figures if not name.startswith("evaluate.test")]
        raise InputError(f"--metric {metric}: not a figure of val; there are {', '.join(known)}")
    return found


def table(points: list[Point], rows: Rows, metric: str) -> "pd.DataFrame":
    """Return a table of points, in their order: what was set, and what came out."""
    import pandas as pd

    lines = []
    for one in points:
        row = rows[one.key]
        found = dict(flat({**row["metrics"], "md5": row["md5"]}))
        lines.append(
            {
                "experiment": one.name,
                **one.settings,
                metric: found.pop(metric),
                **{name: of for name, of in found.items() if not isinstance(of, list)},
                "seconds": row["seconds"],
            }
        )
    return pd.DataFrame(lines)


def on_terminal(points: list[Point], rows: Rows, metric: str) -> "pd.DataFrame":
    """Return the first points with what one looks at, as text; the test is not among it."""
    import pandas as pd

    from tools.compare import figures

    lines = []
    for one in points[:SHOWN]:
        row = rows[one.key]
        found = figures(row["metrics"]["evaluate"]["val"])
        line = {"experiment": one.name, **one.settings}
        if metric != METRIC:
            line[metric] = f"{value(row, metric):.4f}"
        line |= {name: found[name] for name in ("accuracy %", "95 % CI", "seeds", "mean ± sd %")}
        lines.append(line)
    return pd.DataFrame(lines)


def picture(full: "pd.DataFrame", settings: list[str], metric: str) -> bytes:
    """Return a PNG of the metric against each parameter, with a bar of one standard deviation."""
    import pandas as pd
    import vl_convert

    places = {name: f"setting {number}" for number, name in enumerate(settings)}
    rows = full[settings].rename(columns=places)
    rows["value"] = full[metric]
    if metric.endswith(".replicas.mean"):
        sd = full[metric.removesuffix("mean") + "sd"].astype(float).fillna(0)
        rows["low"], rows["high"] = rows["value"] - sd, rows["value"] + sd
    panels = []
    for name, place in places.items():
        x: dict[str, Any] = {"field": place, "title": name, "type": "nominal"}
        numbers = pd.to_numeric(full[name], errors="coerce")
        if numbers.notna().all():
            wide = numbers.min() > 0 and numbers.max() >= 10 * numbers.min()
            scale = {
                "type": "log" if wide else "linear",
                "zero": False,
                "nice": False,
                "padding": 15,
            }
            x |= {"type": "quantitative", "scale": scale}
            if numbers.nunique() <= 8:  # and not round ones between
                x["axis"] = {"values": sorted(numbers.unique().tolist())}
            rows[place] = numbers
        y = {"type": "quantitative", "scale": {"zero": False}, "title": metric}
        dot = {"y": {**y, "field": "value"}}
        mark = {"type": "point", "filled": True, "size": 50, "opacity": 1}
        layers = [{"mark": mark, "encoding": dot}]
        if "low" in rows:
            ends = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
            layers.insert(0, {"mark": {"type": "rule", "opacity": 0.4}, "encoding": ends})
        encoding = {"x": x}
        if len(settings) == 2:
            [other] = (other for other in settings if other != name)
            encoding["color"] = {
                "field": places[other],
                "title": other,
                "type": "nominal",
                "legend": {"symbolOpacity": 1},
            }
        panels.append({"width": 300, "height": 250, "encoding": encoding, "layer": layers})
    spec = {
        "data": {"values": rows.to_dict("records")},
        "hconcat": panels,
        "resolve": {"scale": {"color": "independent"}},
    }
    png: bytes = vl_convert.vegalite_to_png(spec, scale=2)
    return png


def promote(one: Point, row: Row) -> None:
    """Make a point an experiment of DVC's; raises `InputError` if its bits are not the table's."""
    from ruamel.yaml import YAML

    dvc = [sys.executable, "-m", "dvc", "exp"]
    names = subprocess.run([*dvc, "list", "--name-only"], capture_output=True, text=True).stdout
    if one.name not in names.split():
        changes = [argument for override in one.overrides for argument in ("-S", override)]
        command = [*dvc, "run", "--temp", "--name", one.name, *changes]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise InputError(f"{one.name}: {' '.join(done.stderr.split()[-60:])}")
    [lock] = read_files(one.name, "dvc.lock")
    outs = YAML(typ="safe").load(lock)["stages"]["train"]["outs"]
    found = {Path(out["path"]).stem: out["md5"] for out in outs}
    if any(found[name] != md5 for name, md5 in row["md5"].items()):
        raise InputError(
            f"{one.name}: its checkpoints are not those of the table; with train.precision=float32 "
            "another kind of CPU gives other bits, and with exact this should not be"
        )


@contextlib.contextmanager
def alone() -> Iterator[TextIO]:
    """Yield the file of rows, for this sweep alone; raises `InputError` if another one has it."""
    POINTS.parent.mkdir(exist_ok=True)
    with POINTS.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{POINTS}: another sweep runs here; wait for its end") from None
        yield file


def fill(
    todo: list[Point],
    rows: Rows,
    file: TextIO,
    client: "Client",
    origin: tuple[str, str, str | None],
    rank: Callable[[Row], float],
) -> int:
    """Compute points, and keep their rows in `file` as they arrive; return how many failed."""
    best = math.inf
    failed = 0
    with tqdm(total=len(todo), unit="point", disable=None) as bar:
        for one, row in computed(todo, client, origin):
            if isinstance(row, str):
                failed += 1
                tqdm.write(f"{' '.join(one.overrides)}: failed {TRIES} times\n{row}", sys.stderr)
            else:
                file.write(f"{json.dumps(row)}\n")
                file.flush()
                rows[one.key] = row
                best = min(best, rank(row))
            bar.update()
            running = min(len(todo) - bar.n, len(client.nthreads()))
            found = "none yet" if best == math.inf else f"{abs(best):.4f}"
            bar.set_postfix_str(f"{running} running, {failed} failed, best {found}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.sweep", description="Train and score a grid of parameters."
    )
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        required=True,
        metavar="NAME=VALUES",
        dest="settings",
        help="a parameter and its values, as train.lr=0.01,0.03; may be given again for another",
    )
    parser.add_argument("--metric", default=METRIC, help="what the best is by (%(default)s)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster that runs")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="on this machine")
    parser.add_argument("--promote", type=int, default=1, metavar="N", help="best ones for DVC")
    parser.add_argument("--experiments", action="store_true", help="all of them for DVC")
    asked = parser.parse_args()
    if asked.workers < 1 or asked.promote < 0:
        parser.error("--workers has to be 1 or more, and --promote 0 or more")

    sign = 1 if asked.metric.endswith(LOWER_IS_BETTER) else -1

    def rank(row: Row) -> float:
        return sign * value(row, asked.metric)

    files = read_files("workspace", *(f"metrics/{stage}.json" for stage in worker.MEASURED))
    metrics = dict(zip(worker.MEASURED, map(json.loads, files), strict=True))
    rank({"metrics": metrics})  # there is such a metric
    points = grid(asked.settings)
    origin = source(asked.scheduler)
    with alone() as file:
        rows = kept()
        todo = [one for one in points if one.key not in rows]
        print(f"{len(points):,} points, of which {len(points) - len(todo):,} are done", flush=True)
        failed = 0
        if todo:
            try:
                with cluster(asked.scheduler, min(asked.workers, len(todo))) as client:
                    failed = fill(todo, rows, file, client, origin, rank)
            except KeyboardInterrupt:
                there = f"{sum(one.key in rows for one in points)} of {len(points)} points"
                print(f"{there} are done, and the same command goes on", file=sys.stderr)
                raise
    done = sorted((one for one in points if one.key in rows), key=lambda one: rank(rows[one.key]))
    if done:
        from tools.compare import show

        full = table(done, rows, asked.metric)
        write_bytes(TABLE, full.to_csv(index=False).encode())
        write_bytes(PICTURE, picture(full, list(done[0].settings), asked.metric))
        where = f"{TABLE} and {PICTURE} have all of this sweep"
        show([on_terminal(done, rows, asked.metric)], [where])
    for one in done[: None if asked.experiments else asked.promote]:
        promote(one, rows[one.key])
        print(f"{one.name} is an experiment of the same bits: dvc exp apply {one.name}")
    if failed:
        print(f"{failed} failed; the same command tries them again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    run(main)
