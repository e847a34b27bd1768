"""Download the files of a data card: tried again, continued where they broke off, verified.

urllib3 repeats requests that fail. What is ours is the rest: a download that broke off goes on from
its last byte, also in the next run; a file has a deadline and a largest size; its MD5 has to be the
card's.
"""

import hashlib
import os
import time
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from tqdm import tqdm
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError

from stages.datasets.cards import File
from stages.datasets.idx import UnusableFileError, verify
from stages.storage.errors import InputError

DOWNLOADS = Path(".dvc/tmp/downloads")  # files that are not complete
ATTEMPTS = 3  # of a request, and of a download that breaks off
BACKOFF = 1.0  # seconds before the third request, twice as many before the fourth
READ_TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 1_800.0  # seconds for a file


def download(file: File, addresses: list[str], max_bytes: int) -> bytes:
    """Return a file from the first address that has it; waits while another process gets it.

    What was downloaded before a failure is kept, so that the next attempt, or the next run, goes
    on from there. Raises `InputError` if no address has it.
    """
    key = hashlib.sha256(file.model_dump_json().encode()).hexdigest()[:16]
    path = DOWNLOADS / f"{key}-{Path(file.name).name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            content = download_part(path, file, addresses, max_bytes)
            path.unlink()
            return content
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error}); give permission there") from None


def download_part(path: Path, file: File, addresses: list[str], max_bytes: int) -> bytes:
    """Return the file after completing the part of it that `path` has."""
    problems = {}
    for location in [f"{address.rstrip('/')}/{file.name}" for address in addresses]:
        for _ in range(ATTEMPTS):
            with path.open("a+b") as part:
                had_part = part.tell() > 0
                try:
                    complete(part, location, max_bytes)
                    part.seek(0)
                    content = part.read()
                    try:
                        verify(content, file, max_bytes)
                        return content
                    except (UnusableFileError, ValueError):
                        part.truncate(0)
                        raise
                except (UnusableFileError, HTTPError, TimeoutError, ValueError) as error:
                    problems[location] = " ".join(str(error).split()) or type(error).__name__
                    # A part may have been of another file, and is gone now.
                    if isinstance(error, UnusableFileError) and not had_part:
                        break
                    if isinstance(error, MaxRetryError):  # by urllib3
                        break
    mirror = os.environ.get("MNIST_MIRROR")
    alternative = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        "; ".join(f"{location}: {problem}" for location, problem in problems.items())
        + f"; {alternative}, or set MNIST_MIRROR to a folder or URL that holds {file.name}"
    )


def complete(part: BinaryIO, location: str, max_bytes: int) -> None:
    """Append to the part what it lacks of the content of a URL."""
    deadline, start = time.monotonic() + DEADLINE, part.tell()
    retries = Retry(ATTEMPTS - 1, backoff_factor=BACKOFF, status_forcelist=range(500, 600))
    headers = {"Range": f"bytes={start}-"} if start else {}
    with PoolManager(retries=retries, timeout=Timeout(READ_TIMEOUT)) as pool:
        response = pool.request("GET", location, headers=headers, preload_content=False)
        if start and response.status == 416:  # there is nothing from there on
            return
        if response.status >= 400:
            raise UnusableFileError(f"the server answers {response.status} {response.reason}")
        if start and response.status != 206:  # the server sends all of it
            start = 0
            part.truncate(0)
        length = response.headers.get("Content-Length")
        # disable=None shows the progress bar on a terminal only.
        bar = tqdm(
            total=start + int(length) if length else None,
            initial=start,
            unit="B",
            unit_scale=True,
            desc=location.rpartition("/")[2],
            disable=None,
        )
        with response, bar:
            # read1 returns what has arrived, without waiting for more.
            while part.tell() <= max_bytes and (block := response.read1(2**16)):
                part.write(block)
                part.flush()  # a kill loses nothing of it
                bar.update(len(block))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {DEADLINE:,.0f} seconds")
