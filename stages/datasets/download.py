"""Download the files of a data card: tried again, continued where they broke off, verified.

urllib3 repeats requests that fail. What is ours is the rest: a download that broke off goes on from
its last byte, also in the next run; a file has a deadline and a largest size; its MD5 has to be the
card's.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from tqdm import tqdm
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError

from stages.datasets.cards import File
from stages.datasets.idx import UnusableFileError, verify
from stages.storage.errors import InputError

DOWNLOADS = Path(".dvc/tmp/downloads")  # files that are not complete, or not yet used
ATTEMPTS = 3  # of a request, and of a download that breaks off
BACKOFF = 1.0  # seconds before the third request, twice as many before the fourth
READ_TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 1_800.0  # seconds for a file


@contextlib.contextmanager
def downloaded(file: File, addresses: list[str], max_bytes: int) -> Iterator[BinaryIO]:
    """Yield a file, open to read, from the first address that has it.

    What was downloaded before a failure is kept, so that the next attempt, or the next run, goes
    on from there. Raises `InputError` if no address has it.
    """
    locations = [f"{address.rstrip('/')}/{file.name}" for address in addresses]
    problems = {}
    with exclusive_part(file) as part:
        for location in locations:
            for _ in range(ATTEMPTS):
                is_continued = part.seek(0, os.SEEK_END) > 0
                try:
                    download(location, part, max_bytes)
                    verify_part(part, file, max_bytes)
                except (UnusableFileError, HTTPError, OSError, ValueError) as error:
                    problems[location] = " ".join(str(error).split()) or type(error).__name__
                    # A part may have been of another file, and is gone now.
                    if isinstance(error, UnusableFileError) and not is_continued:
                        break
                    if isinstance(error, MaxRetryError):  # by urllib3
                        break
                else:
                    part.seek(0)
                    yield part
                    Path(part.name).unlink()
                    return
    mirror = os.environ.get("MNIST_MIRROR")
    alternative = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        "; ".join(f"{location}: {problem}" for location, problem in problems.items())
        + f"; {alternative}, or set MNIST_MIRROR to a folder or URL that holds {file.name}"
    )


@contextlib.contextmanager
def exclusive_part(file: File) -> Iterator[BinaryIO]:
    """Yield the file to which this process alone downloads; waits while another one does."""
    key = hashlib.sha256(file.model_dump_json().encode()).hexdigest()[:16]
    path = DOWNLOADS / f"{key}-{Path(file.name).name}"
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{path}.lock"))
            part = stack.enter_context(path.open("a+b"))
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error}); give permission there"
            ) from None
        yield part


def download(location: str, part: BinaryIO, max_bytes: int) -> None:
    """Append to the part what it lacks of the content of a URL."""
    deadline = time.monotonic() + DEADLINE
    start = part.seek(0, os.SEEK_END)
    retries = Retry(ATTEMPTS - 1, backoff_factor=BACKOFF, status_forcelist=range(500, 600))
    with PoolManager(retries=retries, timeout=Timeout(READ_TIMEOUT)) as pool:
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = pool.request("GET", location, headers=headers, preload_content=False)
        if start and response.status == 416:  # there is nothing from there on
            return
        if response.status >= 400:
            raise UnusableFileError(f"the server answers {response.status} {response.reason}")
        if start and response.status != 206:  # the server sends all of it
            start = 0
            part.truncate(0)
        copy(response, part, start, max_bytes, deadline)


def copy(
    response: BaseHTTPResponse, part: BinaryIO, start: int, max_bytes: int, deadline: float
) -> None:
    """Append the body of a response to the part, whose first `start` bytes are there."""
    length = response.headers.get("Content-Length")
    name = Path(part.name).name
    # disable=None shows the progress bar on a terminal only.
    total = start + int(length) if length else None
    with tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None
    ) as bar:
        # read1 returns what has arrived, without waiting for more.
        while part.tell() <= max_bytes and (block := response.read1(2**16)):
            part.write(block)
            part.flush()  # a kill loses nothing of it
            bar.update(len(block))
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {DEADLINE:,.0f} seconds")


def verify_part(part: BinaryIO, file: File, max_bytes: int) -> None:
    """Raise, and empty the part, if it is not the file of the card."""
    part.flush()
    try:
        verify(part, file, max_bytes)
    except (UnusableFileError, ValueError):
        part.truncate(0)
        raise
