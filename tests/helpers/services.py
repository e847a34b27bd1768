"""Servers on localhost, as a team has them: an S3 store and a host that is reached by SSH."""

import contextlib
import getpass
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

BUCKET = "results"
# The server takes any, but no client sends a request without them.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the test ends
"""
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
needs_sshd = pytest.mark.skipif(SSHD is None, reason="no sshd; on Debian: openssh-server")


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Yield the address of a server with S3's protocol, which has an empty `BUCKET`."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", S3_SERVER], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        )
        client.create_bucket(Bucket=BUCKET)
        yield address
        process.stdin.close()


@contextlib.contextmanager
def ssh_server(folder: Path, env: dict[str, str] | None = None) -> Iterator[tuple[str, Path]]:
    """Yield the address, `ssh://user@127.0.0.1:port`, of an SSH server, and a key that it accepts.

    folder: for its files; it has to be empty. env: the environment of whoever logs in.
    """
    assert SSHD
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",  # of the folders above, which belong to the test
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    if env:
        options["SetEnv"] = " ".join(f"{key}={value}" for key, value in env.items())
    (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in options.items()))
    if getpass.getuser() == "root":  # only then does it change the user
        Path("/run/sshd").mkdir(exist_ok=True)
    with subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            assert process.poll() is None, process.stderr and process.stderr.read()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"ssh://{getpass.getuser()}@127.0.0.1:{port}", folder / "user"
        process.kill()
