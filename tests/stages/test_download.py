"""Downloads: the official files from a folder or a real server, or a refusal."""

import functools
import gzip
import hashlib
import shutil
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from stages.datasets import download
from stages.datasets.download import (
    DECOMPRESSED_MD5,
    Resource,
    download_dataset,
    download_file,
    resources,
)
from stages.datasets.mnist_5k import load_mnist_5k
from stages.storage.errors import InputError
from stages.storage.tensors import RAW_LAYOUT, read_split
from tests.helpers.project import MNIST, Project, needs_mnist

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, except that the answers in `faults` come first, one a request."""

    faults: ClassVar[list[str]] = []
    requests: ClassVar[list[str]] = []
    goes_on = threading.Event()  # ends a stalled answer

    def do_GET(self) -> None:
        self.requests.append(self.path)
        content = Path(self.translate_path(self.path)).read_bytes()
        match self.faults.pop(0) if self.faults else "none":
            case "404":
                self.send_error(404)
            case "503":
                self.send_error(503)
            case "cut short":
                self.answer(content[: len(content) // 2], len(content))
            case "stalled":
                self.answer(content[: len(content) // 2], len(content))
                self.wfile.flush()
                self.goes_on.wait(30)
            case "another content":
                self.answer(gzip.compress(b"something else"))
            case "no gzip":
                self.answer(b"<html>Please log in</html>")
            case "too long":
                self.answer(gzip.compress(bytes(download.MAX_BYTES + 1)))
            case _:
                self.answer(content)

    def answer(self, content: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(folder: Path) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.goes_on.set()
        server.shutdown()


@pytest.fixture
def small(tmp_path: Path) -> Resource:
    """A small file, to be served from `tmp_path`."""
    content = b"digits" * 1_000
    (tmp_path / "small.gz").write_bytes(gzip.compress(content, mtime=0))
    return Resource("small.gz", (), hashlib.md5(content).hexdigest(), True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of `tmp_path`, which is the mirror; nobody waits long for it."""
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    monkeypatch.setattr(Handler, "faults", [])
    monkeypatch.setattr(Handler, "requests", [])
    Handler.goes_on.clear()
    for url in serve(tmp_path):
        monkeypatch.setenv("MNIST_MIRROR", f"{url}/")
        yield url


@pytest.mark.parametrize("fault", ["503", "cut short", "stalled", "no gzip", "too long"])
def test_what_may_pass_is_tried_again(
    server: str, small: Resource, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Handler.faults += [fault, fault]
    assert download_file("mnist", small) == b"digits" * 1_000
    assert Handler.requests == ["/small.gz"] * 3
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if line.endswith("; trying again")]) == 2


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [
        ("404", 1, "the server answers 404"),
        ("another content", 1, "another content than the official one (its MD5 differs)"),
        ("503", 3, "HTTP Error 503"),
        ("cut short", 3, "cut short after "),
        ("stalled", 3, "timed out"),
        ("no gzip", 3, "not a gzip file"),
        ("too long", 3, "too long"),
    ],
)
def test_what_does_not_pass_is_refused(
    server: str, small: Resource, fault: str, requests: int, reason: str
) -> None:
    Handler.faults += [fault] * 3
    with pytest.raises(InputError) as caught:
        download_file("mnist", small)
    said = str(caught.value)
    assert said.startswith(f"mnist: {server}/small.gz: ")
    assert reason in said
    assert "unset MNIST_MIRROR to download, or set MNIST_MIRROR to a folder or URL" in said
    assert "\n" not in said
    assert len(Handler.requests) == requests


def test_the_next_place_is_asked_when_the_first_has_not_got_it(
    server: str, small: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR")
    Handler.faults += ["404"]
    two = small._replace(urls=(f"{server}/first/../small.gz", f"{server}/small.gz"))
    assert download_file("mnist", two) == b"digits" * 1_000


def test_without_network_and_mirror_both_ways_out_are_named(
    small: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    nobody = small._replace(urls=("http://127.0.0.1:9/small.gz",))
    with pytest.raises(InputError) as caught:
        download_file("mnist", nobody)
    assert "Connection refused" in str(caught.value)
    assert "connect to the network, or set MNIST_MIRROR to a folder" in str(caught.value)


def test_torchvision_names_four_files_of_each() -> None:
    for dataset in download.TORCHVISION_CLASSES:
        found = resources(dataset)
        assert len({resource.name for resource in found}) == 4
        assert all(url.endswith(resource.name) for resource in found for url in resource.urls)
        assert all(len(resource.md5) == 32 for resource in found)
    assert tuple(resource.md5 for resource in resources("mnist")) == DECOMPRESSED_MD5["mnist"]


@pytest.mark.parametrize(
    ("dataset", "folder", "first_labels"),
    [
        pytest.param("mnist", MNIST, [5, 0, 4, 1, 9, 2, 1, 3], marks=needs_mnist),
        pytest.param(
            "fashion-mnist",
            FASHION,
            [9, 0, 0, 3, 0, 2, 7, 2],
            marks=pytest.mark.skipif(
                not FASHION.exists(), reason="Debian's dataset-fashion-mnist is not installed"
            ),
        ),
    ],
)
def test_the_real_files_are_those_of_torchvision(
    dataset: str,
    folder: Path,
    first_labels: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchvision import datasets

    monkeypatch.setenv("MNIST_MIRROR", str(folder))
    found = download_dataset(dataset)
    kind = getattr(datasets, download.TORCHVISION_CLASSES[dataset])
    raw = tmp_path / kind.__name__ / "raw"
    raw.mkdir(parents=True)
    for file in folder.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    for name in ("train", "test"):
        theirs = kind(tmp_path, train=name == "train")
        np.testing.assert_array_equal(found[name]["images"][:, 0], theirs.data.numpy())
        np.testing.assert_array_equal(found[name]["labels"], theirs.targets.numpy())
    assert found["train"]["labels"][:8].tolist() == first_labels


def test_the_labels_of_qmnist_are_the_first_of_eight_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files made of other digits in QMNIST's format, since the real ones are not to be had."""
    digits = load_mnist_5k()
    listed = []
    for resource, part in zip(resources("qmnist"), ["train"] * 2 + ["test"] * 2, strict=True):
        split = digits[part]
        if "images" in resource.name:
            content = struct.pack(">4i", 2051, 2_500, 28, 28) + split["images"].tobytes()
        else:
            table = np.arange(8 * 2_500, dtype=">i4").reshape(-1, 8)
            table[:, 0] = split["labels"]
            content = struct.pack(">3i", 3074, *table.shape) + table.tobytes()
        packed = gzip.compress(content)
        (tmp_path / resource.name).write_bytes(packed)
        listed.append(resource._replace(md5=hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(download, "resources", lambda dataset: listed)
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    found = download_dataset("qmnist")
    for part in ("train", "test"):
        for name in ("images", "labels"):
            np.testing.assert_array_equal(found[part][name], digits[part][name])


def experiment(project: Project, mirror: str, ok: bool = True) -> str:
    """Run an experiment on MNIST from a mirror; return what is said on stderr."""
    project.env["MNIST_MIRROR"] = mirror
    changes = ("fetch.dataset=mnist", "prepare.sampling=first", "train.epochs=1")
    command = [part for change in changes for part in ("-S", change)]
    return project.run("dvc", "exp", "run", *command, ok=ok).stderr


@needs_mnist
@pytest.mark.parametrize("how", ["folder", "server"])
def test_an_experiment_on_mnist_from_a_mirror(project: Project, how: str) -> None:
    for url in serve(MNIST):
        said = experiment(project, str(MNIST) if how == "folder" else url)
    assert "%|" not in said  # a progress bar is for terminals
    for name, n in (("train", 60_000), ("test", 10_000)):
        split = read_split(project.path / f"data/raw/{name}.safetensors", RAW_LAYOUT)
        assert len(split["labels"]) == n
    train = read_split(project.path / "data/raw/train.safetensors", RAW_LAYOUT)
    content = gzip.decompress((MNIST / IMAGES).read_bytes())
    assert train["images"].tobytes() == content[16:]


@needs_mnist
@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        (IMAGES, "missing", "No such file or directory"),
        (IMAGES, "cut", "cut short after "),
        (LABELS, "another", "another content than the official one (its MD5 differs)"),
    ],
)
def test_an_experiment_on_damaged_files_is_refused_and_nothing_is_lost(
    project: Project, tmp_path: Path, file: str, damage: str, reason: str
) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(MNIST, mirror)
    mirror.chmod(0o755)
    whole = (mirror / file).read_bytes()
    (mirror / file).unlink()
    if damage != "missing":
        other = gzip.compress(bytes(10_008)) if damage == "another" else whole[:-100]
        (mirror / file).write_bytes(other)
    said = experiment(project, str(mirror), ok=False)
    assert f"mnist: {mirror}/{file}: {reason}" in said
    assert "Traceback" not in said
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    assert project.ran("repro") == []
