"""Send the points of a sweep to the workers of a Dask cluster, local or remote."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.storage.errors import InputError
from tools.analysis.revisions import run_git
from tools.cluster import worker
from tools.cluster.scratch import scratch_folder

if TYPE_CHECKING:
    from distributed import Client

TRIES = 3  # of a point that fails


class CodeLocation(NamedTuple):
    """Where a worker gets the code and the data, as `tools.cluster.worker.compute` takes it."""

    url: str  # of the git repository
    commit: str
    cache: str | None  # the folder of DVC's cache, for workers on this machine


def code_location(scheduler: str | None) -> CodeLocation:
    """Return where the workers of a scheduler, or of this machine, get the code and the data.

    Raises `InputError` if remote workers cannot get the commit.
    """
    commit = run_git("rev-parse", "HEAD")
    if scheduler is None:
        from dvc.repo import Repo

        with Repo() as repo:
            return CodeLocation(str(Path.cwd()), commit, repo.cache.local_cache_dir)
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
    return CodeLocation(run_git("remote", "get-url", remote), commit, None)


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator["Client"]:
    """Yield a client of the cluster at an address, or of a local one with so many workers.

    A local cluster listens on this machine only, and only to those who have the certificate that
    is made for it in memory: whoever speaks to a scheduler or a worker runs code there.
    """
    try:
        import cloudpickle
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise InputError(
            "Dask is not installed; install it by `make repro` or `uv pip install --group sweep`"
        ) from None
    cloudpickle.register_pickle_by_value(worker)  # so that no worker needs to have it
    if scheduler:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, RuntimeError, TypeError, ValueError) as error:  # two are of missing keys
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
    """Let the workers get the code and the data, as far as they are there yet.

    params: the content of params.yaml of the first point. Raises `InputError` with the workers
    that cannot get them, and why.
    """
    # Dask sends a nested function by value, since a remote worker cannot import our modules.
    prepare = worker.prepare
    url, commit, cache = location

    def task(_: str) -> str:
        return prepare(url, commit, cache, params)

    submitted = [
        # Where a worker has left since, another one takes its task.
        client.submit(task, address, workers=address, allow_other_workers=True, pure=False)
        for address in client.nthreads()
    ]
    # A worker that dies of it is reported when it dies of a point, too.
    if problems := list(filter(None, client.gather(submitted, errors="skip"))):
        raise InputError(*problems, "docs/sweeps.md says what a worker needs")


def iter_results(
    client: "Client", location: CodeLocation, params: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Yield the key of each point as it is done, with its result or the message of its failure.

    params: the content of params.yaml for each key. A result is that of
    `tools.cluster.worker.compute`; a message is that of the last of `TRIES` failures.
    """
    from distributed import as_completed

    # Dask sends a nested function by value, with the variables that it refers to. They are plain
    # strings instead of a CodeLocation, because a remote worker cannot import our classes.
    compute = worker.compute
    url, commit, cache = location

    def task(params: str) -> dict[str, Any]:
        return compute(url, commit, cache, params)

    submitted = client.map(task, list(params.values()), key=list(params), retries=TRIES - 1)
    keys = dict(zip(submitted, params, strict=True))
    for future in as_completed(submitted):
        if future.status == "finished":
            yield keys[future], future.result()
        else:
            yield (
                keys[future],
                str(future.exception()) if future.status == "error" else future.status,
            )
