"""Downloads from a real server or a folder: the official files, or a refusal."""

import contextlib
import functools
import gzip
import hashlib
import json
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from stages.datasets.mnist_5k import load_mnist_5k

from stages import fetch
from stages.datasets import download
from stages.datasets.download import (
    DECOMPRESSED_MD5,
    Resource,
    download_dataset,
    download_file,
    resources,
)
from stages.storage.errors import InputError
from stages.storage.tensors import RAW_LAYOUT, read_split
from tests.helpers.project import MNIST, Project, needs_mnist

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"


class Handler(SimpleHTTPRequestHandler):
    """Serve a folder, but answer the first requests with `faults`, one for each request."""

    faults: ClassVar[list[str]] = []
    requests: ClassVar[list[str]] = []
    stop_stalling = threading.Event()  # ends a stalled answer

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
                self.stop_stalling.wait(30)
            case "other content":
                self.answer(gzip.compress(b"something else"))
            case "no gzip":
                self.answer(b"<html>Please log in</html>")
            case "too long":
                self.answer(gzip.compress(bytes(download.MAX_BYTES + 1)))
            case _:
                self.answer(content)

    def answer(self, content: bytes, length: int | None = None) -> None:
        """Send a body, with a header that gives its length as `length`."""
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder, and yield its URL."""
    handler = functools.partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        poll_interval = 0.01  # seconds until the server notices `shutdown`
        thread = threading.Thread(target=server.serve_forever, args=[poll_interval], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.stop_stalling.set()
        server.shutdown()


@pytest.fixture
def small_file(tmp_path: Path) -> Resource:
    """A small file, which lies in `tmp_path`."""
    content = b"digits" * 1_000
    (tmp_path / "small.gz").write_bytes(gzip.compress(content, mtime=0))
    return Resource("small.gz", (), hashlib.md5(content).hexdigest(), True)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server of `tmp_path`, which is the mirror."""
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    monkeypatch.setattr(download, "MAX_BYTES", 100_000)
    monkeypatch.setattr(Handler, "faults", [])
    monkeypatch.setattr(Handler, "requests", [])
    Handler.stop_stalling.clear()
    with serve(tmp_path) as url:
        monkeypatch.setenv("MNIST_MIRROR", f"{url}/")
        yield url


@pytest.fixture
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The parameter of the test; one that is "stalled" is given up after a second."""
    if request.param == "stalled":
        monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    return str(request.param)


@pytest.mark.parametrize(
    "fault", ["503", "cut short", "stalled", "no gzip", "too long"], indirect=True
)
def test_a_fault_that_may_be_temporary_is_tried_again(
    server: str, small_file: Resource, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Handler.faults += [fault, fault]
    assert download_file("mnist", small_file) == b"digits" * 1_000
    assert Handler.requests == ["/small.gz"] * 3
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.endswith("; trying again")]) == 2


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [
        ("404", 1, "the server answers 404"),
        ("other content", 1, "another content than the official one (its MD5 differs)"),
        ("503", 3, "HTTP Error 503"),
        ("cut short", 3, "cut short after "),
        ("stalled", 3, "timed out"),
        ("no gzip", 3, "not a gzip file"),
        ("too long", 3, "too long"),
    ],
    indirect=["fault"],
)
def test_a_fault_that_persists_is_an_error(
    server: str, small_file: Resource, fault: str, requests: int, reason: str
) -> None:
    Handler.faults += [fault] * 3
    with pytest.raises(InputError) as caught:
        download_file("mnist", small_file)
    message = str(caught.value)
    assert message.startswith(f"mnist: {server}/small.gz: ")
    assert reason in message
    assert "unset MNIST_MIRROR to download, or set MNIST_MIRROR to a folder or URL" in message
    assert "\n" not in message
    assert len(Handler.requests) == requests


def test_the_second_url_is_used_if_the_first_lacks_the_file(
    server: str, small_file: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR")
    Handler.faults += ["404"]
    urls = f"{server}/first/../small.gz", f"{server}/small.gz"
    assert download_file("mnist", small_file._replace(urls=urls)) == b"digits" * 1_000
    assert Handler.requests == ["/first/../small.gz", "/small.gz"]


def test_without_network_and_mirror_the_error_names_both_remedies(
    small_file: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    unreachable = small_file._replace(urls=("http://127.0.0.1:9/small.gz",))
    with pytest.raises(InputError) as caught:
        download_file("mnist", unreachable)
    assert "Connection refused" in str(caught.value)
    assert "connect to the network, or set MNIST_MIRROR to a folder" in str(caught.value)


@pytest.mark.parametrize("dataset", download.TORCHVISION_CLASSES)
def test_torchvision_lists_four_files_of_each_data_set(dataset: str) -> None:
    files = resources(dataset)
    assert len({file.name for file in files}) == 4
    for file in files:
        assert file.urls
        assert all(url.endswith(file.name) for url in file.urls)
        assert len(file.md5) == 32
    if dataset in DECOMPRESSED_MD5:
        assert tuple(file.md5 for file in files) == DECOMPRESSED_MD5[dataset]


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
def test_the_official_files_give_the_arrays_of_torchvision(
    dataset: str,
    folder: Path,
    first_labels: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torchvision import datasets

    monkeypatch.setenv("MNIST_MIRROR", str(folder))
    splits = download_dataset(dataset)
    torchvision_class = getattr(datasets, download.TORCHVISION_CLASSES[dataset])
    raw = tmp_path / torchvision_class.__name__ / "raw"
    raw.mkdir(parents=True)
    for file in folder.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    for name in ("train", "test"):
        expected = torchvision_class(tmp_path, train=name == "train")
        np.testing.assert_array_equal(splits[name]["images"][:, 0], expected.data.numpy())
        np.testing.assert_array_equal(splits[name]["labels"], expected.targets.numpy())
    assert splits["train"]["labels"][:8].tolist() == first_labels


def test_the_labels_of_qmnist_are_the_first_of_eight_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files hold other digits in QMNIST's format, because no mirror here has the real ones."""
    digits = load_mnist_5k()
    files = []
    for resource, name in zip(resources("qmnist"), ["train"] * 2 + ["test"] * 2, strict=True):
        split = digits[name]
        if "images" in resource.name:
            content = struct.pack(">4i", 2051, 2_500, 28, 28) + split["images"].tobytes()
        else:
            table = np.arange(8 * 2_500, dtype=">i4").reshape(-1, 8)
            table[:, 0] = split["labels"]
            content = struct.pack(">3i", 3074, *table.shape) + table.tobytes()
        compressed = gzip.compress(content, compresslevel=1)
        (tmp_path / resource.name).write_bytes(compressed)
        files.append(resource._replace(md5=hashlib.md5(compressed).hexdigest()))
    monkeypatch.setattr(download, "resources", lambda dataset: files)
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    splits = download_dataset("qmnist")
    for name in ("train", "test"):
        for key in ("images", "labels"):
            np.testing.assert_array_equal(splits[name][key], digits[name][key])


def damaged_mirror(folder: Path, file: str, damage: str) -> Path:
    """Make a folder with the files of MNIST, of which one is damaged."""
    folder.mkdir()
    for path in MNIST.iterdir():
        if path.name != file:
            (folder / path.name).symlink_to(path)
    if damage == "cut":
        (folder / file).write_bytes((MNIST / file).read_bytes()[:-100])
    elif damage == "other content":
        (folder / file).write_bytes(gzip.compress(bytes(10_008)))
    return folder


@needs_mnist
@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        (IMAGES, "missing", "No such file or directory"),
        (IMAGES, "cut", "cut short after "),
        (LABELS, "other content", "another content than the official one (its MD5 differs)"),
    ],
)
def test_a_folder_with_a_damaged_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, damage: str, reason: str
) -> None:
    monkeypatch.setattr(download, "RETRY_DELAY", 0.0)
    mirror = damaged_mirror(tmp_path / "mirror", file, damage)
    monkeypatch.setenv("MNIST_MIRROR", str(mirror))
    with pytest.raises(InputError) as caught:
        download_dataset("mnist")
    assert str(caught.value).startswith(f"mnist: {mirror}/{file}: {reason}")


def assert_raw_splits_are_mnist(project: Project) -> None:
    splits = {
        name: read_split(project.path / f"data/raw/{name}.safetensors", RAW_LAYOUT)
        for name in ("train", "test")
    }
    assert len(splits["train"]["labels"]) == 60_000
    assert len(splits["test"]["labels"]) == 10_000
    content = gzip.decompress((MNIST / IMAGES).read_bytes())
    assert splits["train"]["images"].tobytes() == content[16:]


@needs_mnist
def test_fetch_writes_mnist_from_a_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.set_params("fetch.dataset=mnist")
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("MNIST_MIRROR", str(MNIST))
    fetch.main()
    assert capsys.readouterr() == ("train: 60,000 images\ntest: 10,000 images\n", "")
    assert_raw_splits_are_mnist(project)


def run_experiment(project: Project, mirror: str, ok: bool = True) -> str:
    """Run an experiment on MNIST from a mirror, and return its stderr."""
    project.env["MNIST_MIRROR"] = mirror
    changes = "fetch.dataset=mnist", "prepare.sampling=first", "train.epochs=1", "train.replicas=1"
    options = [option for change in changes for option in ("-S", change)]
    return project.run("dvc", "exp", "run", *options, ok=ok).stderr


@needs_mnist
def test_an_experiment_on_mnist_from_a_server(project: Project) -> None:
    with serve(MNIST) as url:
        stderr = run_experiment(project, url)
    assert "%|" not in stderr  # progress bars are for terminals
    assert_raw_splits_are_mnist(project)
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())
    assert metrics["test"]["n"] == 10_000


@needs_mnist
def test_an_experiment_on_a_damaged_mirror_is_refused_and_nothing_is_lost(
    project: Project, tmp_path: Path
) -> None:
    mirror = damaged_mirror(tmp_path / "mirror", IMAGES, "cut")
    stderr = run_experiment(project, str(mirror), ok=False)
    assert f"mnist: {mirror}/{IMAGES}: cut short after " in stderr
    assert "Traceback" not in stderr
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    assert project.ran("repro") == []
