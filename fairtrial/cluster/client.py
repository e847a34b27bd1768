"""Send the points of a sweep to the workers of a Dask cluster, local or remote."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, NamedTuple

from fairtrial.cluster import worker
from fairtrial.project.errors import InputError
from fairtrial.project.revisions import run_git
from fairtrial.project.scratch import scratch_folder

if TYPE_CHECKING:
    from distributed import Client, Future

TRIES = 3  # of a point that fails


class CodeLocation(NamedTuple):
    """Where a worker gets the code and the data."""

    url: str  # of the git repository
    commit: str
    subfolder: str  # of the project in the repository; empty if it is the whole repository
    cache: str | None  # of DVC, if the worker has the same disk; else it pulls from the DVC remote
    states: str | None = None  # from the clone, for a training that a longer one continues


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
    remotes = [
        remote
        for remote in run_git("remote").splitlines()
        if run_git("for-each-ref", "--contains", commit, f"refs/remotes/{remote}/")
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
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"--scheduler {scheduler}: cannot be reached ({error}); give the address of a "
                "running one, as tcp://HOST:PORT, or as tls://HOST:PORT with its certificates as "
                "in fairtrial/clusters.md"
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
    that cannot get them, and why, or as `iter_results`.
    """
    task = _task(worker.prepare, location)
    with _name_lost_scheduler():
        addresses = list(client.nthreads())
        if not addresses:
            print("waiting for the first worker", file=sys.stderr)
        submitted = [
            # Where a worker has left since, another one takes its task.
            client.submit(task, params, workers=address, allow_other_workers=True, pure=False)
            for address in addresses
        ]
        # A worker that dies of it is reported when it dies of a point, too.
        problems = list(filter(None, client.gather(submitted, errors="skip")))
    if problems:
        raise InputError(*problems, "fairtrial/clusters.md says what a worker needs")


def iter_results(
    client: "Client", location: CodeLocation, params: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the result of each point as it arrives.

    params: the content of params.yaml for each key.

    A result is what `fairtrial.cluster.worker.compute` returns, or has only `failed`, the reason.
    Raises `InputError` if the scheduler is lost.
    """
    from distributed import as_completed

    with _name_lost_scheduler():
        # Nothing else refers to the futures: a worker forgets a result that has arrived here, and
        # the result is not computed again if that worker ends.
        task = _task(worker.compute, location)
        waiting = as_completed(
            client.map(task, list(params.values()), key=list(params), retries=TRIES - 1)
        )
        for future in waiting:
            key, result = future.key, _result(future)
            del future
            yield key, result


def _task(function: Callable[..., Any], location: CodeLocation) -> Callable[[str], Any]:
    """Return a function of a params.yaml that a worker can call.

    Dask sends a nested function by value, with the variables that it refers to. These are a plain
    dictionary, because a remote worker cannot import our classes.
    """
    arguments = location._asdict()

    def task(params: str) -> Any:
        return function(params, **arguments)

    return task


@contextlib.contextmanager
def _name_lost_scheduler() -> Iterator[None]:
    """Turn what Dask raises when the scheduler is lost into an `InputError`."""
    try:
        yield
    except (CancelledError, OSError) as error:
        reason = "the connection broke" if isinstance(error, CancelledError) else error
        raise InputError(
            f"--scheduler: cannot be reached any more ({reason}), and the points that were running "
            "are lost; start it and workers again, and then the sweep"
        ) from None


def _result(future: "Future[Any]") -> dict[str, Any]:
    """Return the result of a point, or why it failed."""
    from distributed import KilledWorker

    try:
        result: dict[str, Any] = future.result()
    except Exception as error:
        if future.status != "error":  # not of the point, but of the connection
            raise
        if isinstance(error, KilledWorker):
            workers = error.allowed_failures + 1
            return {"failed": f"{workers} workers died while they computed it"}
        return {"failed": f"failed {TRIES} times\n{error}"}
    return result
