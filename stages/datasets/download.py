"""Download the files of a data card: tried again where that may help, and verified.

urllib3 repeats requests that fail. What is ours is the rest: a download that breaks off is
repeated; a file has a deadline and a largest size; its MD5 has to be the card's.
"""

import os
import time

from tqdm import tqdm
from urllib3 import PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError

from stages.datasets.card_files import UnusableFileError, verify
from stages.datasets.cards import File
from stages.storage.errors import InputError

ATTEMPTS = 3  # of a request, and of a download that breaks off
BACKOFF = 1.0  # seconds before the third request, twice as many before the fourth
READ_TIMEOUT = 20.0  # seconds without a byte
DEADLINE = 1_800.0  # seconds for a file


def download(file: File, addresses: list[str], max_bytes: int) -> bytes:
    """Return a file from the first address that has it; raises `InputError` if none has it."""
    problems = {}
    for location in [f"{address.rstrip('/')}/{file.name}" for address in addresses]:
        for _ in range(ATTEMPTS):
            try:
                content = read_url(location, max_bytes)
                verify(content, file, max_bytes)
                return content
            except (UnusableFileError, HTTPError, TimeoutError, ValueError) as error:
                problems[location] = " ".join(str(error).split()) or type(error).__name__
                if isinstance(error, UnusableFileError | MaxRetryError):  # tried often enough
                    break
    mirror = os.environ.get("MNIST_MIRROR")
    alternative = "unset MNIST_MIRROR to download" if mirror else "connect to the network"
    raise InputError(
        "; ".join(f"{location}: {problem}" for location, problem in problems.items())
        + f"; {alternative}, or set MNIST_MIRROR to a folder or URL that holds {file.name}"
    )


def read_url(location: str, max_bytes: int) -> bytes:
    """Return the content of a URL, or its beginning if it is longer than `max_bytes`."""
    deadline, content = time.monotonic() + DEADLINE, bytearray()
    retries = Retry(ATTEMPTS - 1, backoff_factor=BACKOFF, status_forcelist=range(500, 600))
    with PoolManager(retries=retries, timeout=Timeout(READ_TIMEOUT)) as pool:
        response = pool.request("GET", location, preload_content=False)
        if response.status >= 400:
            raise UnusableFileError(f"the server answers {response.status} {response.reason}")
        total = int(response.headers.get("Content-Length") or 0) or None
        name = location.rpartition("/")[2]
        # disable=None shows the progress bar on a terminal only.
        bar = tqdm(total=total, unit="B", unit_scale=True, desc=name, disable=None)
        with response, bar:
            # read1 returns what has arrived, without waiting for more.
            while len(content) <= max_bytes and (block := response.read1(2**16)):
                content += block
                bar.update(len(block))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {DEADLINE:,.0f} seconds")
    return bytes(content)
