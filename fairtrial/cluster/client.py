"""Send the points of a sweep to the workers of a Dask cluster, local or remote."""

import contextlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from fairtrial.cluster import worker
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import run_git
from fairtrial.project.scratch import scratch_folder

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3  # of a point that fails


class SchedulerLostError(Exception):
    """The scheduler, or the way to it, is gone in the middle of a sweep."""


class FailedPointError(Exception):
    """A point has no result for a reason that is not its parameters."""


class CodeLocation(NamedTuple):
    """Where a worker gets the code and the data, as `fairtrial.cluster.worker.compute` takes it."""

    url: str  # of the git repository
    commit: str
    subfolder: str  # of the project in the repository
    cache: str | None  # the folder of DVC's cache, for workers on this machine
    states: str | None = None  # a folder that keeps the states of trainings, for longer ones


def code_location(scheduler: str | None) -> CodeLocation:
    """Return where the workers of a scheduler, or of this machine, get the code and the data.

    Raises `InputError` if remote workers cannot get the commit.
    """
    commit = run_git("rev-parse", "HEAD")
    subfolder = run_git("rev-parse", "--show-prefix")
    if scheduler is None:
        from dvc.repo import Repo

        with Repo() as repo:
            cache = repo.cache.local_cache_dir
        return CodeLocation(run_git("rev-parse", "--show-toplevel"), commit, subfolder, cache)
    branches = run_git(
        "branch", "--remotes", "--contains", commit, "--format=%(refname:lstrip=2)"
    ).splitlines()
    remotes = [
        remote
        for remote in run_git("remote").splitlines()
        if any(branch.startswith(f"{remote}/") for branch in branches)
    ]
    if not remotes:
        raise InputError(
            f"no git remote has {commit[:9]}, so the workers cannot clone it; `git push` first"
        )
    remote = "origin" if "origin" in remotes else remotes[0]
    return CodeLocation(run_git("remote", "get-url", remote), commit, subfolder, None)


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator["Client"]:
    """Yield a client of the cluster at an address, or of a local one with this many workers.

    A local cluster listens on this machine only, and only to those who have the certificate that
    is made for it in memory: whoever can talk to a scheduler or a worker can run code there.
    """
    try:
        import cloudpickle
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise InputError(
            "Dask is not installed; `pip install distributed cryptography` installs it"
        ) from None
    cloudpickle.register_pickle_by_value(worker)  # so that no worker needs to have it
    if scheduler:
        # The sweep itself says if the scheduler is lost.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            client = Client(scheduler, timeout=10)
        except (
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # or no key
            raise InputError(
                f"--scheduler {scheduler}: cannot be reached ({error}); give the address of a "
                "running one, as tcp://HOST:PORT, or as tls://HOST:PORT with its certificates as "
                "in docs/sweeps.md"
            ) from None
        with client:
            yield client
        return
    # Dask starts web servers, which know no certificate, in any case: these have no page.
    no_pages: dict[str, list[str]] = {
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }
    with (
        dask.config.set(no_pages),
        scratch_folder("sweep-") as folder,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            security=True,
            dashboard_address="127.0.0.1:0",  # None would mean 8787, and a warning if it is taken
            scheduler_kwargs={"dashboard": False},
            local_directory=str(folder),
            # Ctrl-C reaches the workers, too; it is the client that ends them.
            preload="import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
            silence_logs=logging.CRITICAL,  # the client reports failures
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def prepare_workers(client: "Client", location: CodeLocation, params: str) -> None:
    """Let the workers that are there already get the code and the data.

    params: the content of params.yaml of the first point. Raises `InputError` with the workers
    that cannot get them, and why; `SchedulerLostError` as `iter_results`.
    """
    # Dask sends a nested function by value, since a remote worker cannot import our modules.
    prepare = worker.prepare
    url, commit, subfolder, cache, _ = location

    def task(_: str) -> str:
        return prepare(url, commit, subfolder, cache, params)

    with _name_lost_scheduler():
        submitted = [
            # Where a worker has left since, another one takes its task.
            client.submit(task, address, workers=address, allow_other_workers=True, pure=False)
            for address in client.nthreads()
        ]
        # A worker that dies of it is reported when it dies of a point, too.
        problems = list(filter(None, client.gather(submitted, errors="skip")))
    if problems:
        raise InputError(*problems, "docs/sweeps.md says what a worker needs")


def iter_results(
    client: "Client", location: CodeLocation, params: dict[str, str]
) -> Iterator[tuple[int, dict[str, dict[str, Any] | str | FailedPointError]]]:
    """Yield the number of workers and the new results, at least once a second.

    params: the content of params.yaml for each key.

    A result, by the key of its point, is what `fairtrial.cluster.worker.compute` returns, or a
    `FailedPointError`. Raises `SchedulerLostError` if the scheduler is lost.
    """
    from distributed import as_completed

    # Dask sends a nested function by value, with the variables that it refers to. They are plain
    # strings instead of a CodeLocation, because a remote worker cannot import our classes.
    compute = worker.compute
    url, commit, subfolder, cache, states = location

    def task(params: str) -> dict[str, Any] | str:
        return compute(url, commit, subfolder, cache, params, states)

    # Nothing else refers to the futures: a worker forgets a result that has arrived here, and the
    # result is not computed again if that worker ends.
    waiting = as_completed(
        client.map(task, list(params.values()), key=list(params), retries=TRIES - 1)
    )
    while waiting.count():
        with _name_lost_scheduler():
            for _ in range(10):
                if waiting.has_ready():
                    break
                time.sleep(0.1)
            futures = waiting.next_batch(block=False)
            workers = len(client.nthreads())
            results = {future.key: _result(future) for future in futures}
        del futures
        yield workers, results


@contextlib.contextmanager
def _name_lost_scheduler() -> Iterator[None]:
    """Turn what Dask raises when the scheduler is lost into a `SchedulerLostError`."""
    try:
        yield
    except CancelledError:  # by Dask, when the connection breaks
        raise SchedulerLostError("the connection broke") from None
    except OSError as error:
        raise SchedulerLostError(str(error)) from None


def _result(future: "Future[Any]") -> dict[str, Any] | str | FailedPointError:
    """Return the result of a point, or why it failed."""
    from distributed import KilledWorker

    try:
        result: dict[str, Any] | str = future.result()
    except Exception as error:
        if future.status != "error":  # not of the point, but of the connection
            raise
        if isinstance(error, KilledWorker):
            workers = error.allowed_failures + 1
            return FailedPointError(f"{workers} workers died while they computed it")
        return FailedPointError(f"failed {TRIES} times\n{error}")
    return result
