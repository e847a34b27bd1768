"""Downloads from a real server or a folder: the official files, or a refusal."""

import contextlib
import functools
import gzip
import hashlib
import json
import os
import struct
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from torchvision import datasets

from anypictures.idx import decompress
from stages import fetch
from stages.datasets import download
from stages.datasets.card_files import load_idx
from stages.datasets.cards import Card, File
from stages.storage.errors import InputError
from stages.storage.split_files import read_split
from stages.storage.tensors import Array
from tests.helpers.cards import card, load
from tests.helpers.project import MNIST, Project, needs_mnist

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist
IMAGES = "train-images-idx3-ubyte.gz"
LABELS = "t10k-labels-idx1-ubyte.gz"
FILES = ("train_images", "train_labels", "test_images", "test_labels")  # of a card
MAX_BYTES = 100_000
CONTENT = b"digits" * 1_000


class Handler(SimpleHTTPRequestHandler):
    """Serve a folder, but answer the first requests with `faults`, one for each request."""

    faults: ClassVar[list[str]] = []
    requests: ClassVar[list[str]] = []
    stop_stalling = threading.Event()  # ends a stalled answer

    def do_GET(self) -> None:
        self.requests.append(self.path)
        content = Path(self.translate_path(self.path)).read_bytes()
        fault = self.faults.pop(0) if self.faults else "none"
        match fault:
            case "404":
                self.send_error(404)
            case "503":
                self.send_error(503)
            case "cut short":
                self.answer(content[: len(content) // 2], len(content))
            case "stalled":
                self.answer(content[: len(content) // 2], len(content))
                self.wfile.flush()
                self.stop_stalling.wait(600)
            case "drip":
                self.answer(b"", MAX_BYTES)
                with contextlib.suppress(OSError):  # until the client goes
                    while not self.stop_stalling.wait(0.01):
                        self.wfile.write(b"\0")
            case "other content":
                self.answer(gzip.compress(b"something else"))
            case "no gzip":
                self.answer(b"<html>Please log in</html>")
            case "too long":
                self.answer(gzip.compress(bytes(MAX_BYTES + 1)))
            case _:
                self.answer(content)

    def answer(self, content: bytes, length: int | None = None) -> None:
        """Send a body, with a header that gives its length as `length`."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if length is None else length))
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


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which there is no mirror."""
    path = tmp_path / "workspace"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.setattr(download, "BACKOFF", 0.0)
    return path


@pytest.fixture
def small_file(tmp_path: Path) -> File:
    """A small file, which lies in `tmp_path`."""
    (tmp_path / "small.gz").write_bytes(gzip.compress(CONTENT, mtime=0))
    return File(name="small.gz", decompressed_md5=hashlib.md5(CONTENT).hexdigest())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server of `tmp_path`, which is the mirror."""
    for name in ("faults", "requests"):
        monkeypatch.setattr(Handler, name, [])
    Handler.stop_stalling.clear()
    with serve(tmp_path) as url:
        monkeypatch.setenv("MNIST_MIRROR", f"{url}/")
        yield url


@pytest.fixture
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The parameter of the test; what would take long is given up earlier."""
    if request.param == "stalled":
        monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    if request.param == "drip":
        monkeypatch.setattr(download, "DEADLINE", 0.2)
    return str(request.param)


def fetched(file: File, *addresses: str) -> bytes:
    """Return what a file is decompressed to."""
    mirror = os.environ.get("MNIST_MIRROR")
    content = download.download(file, [mirror] if mirror else list(addresses), MAX_BYTES)
    return decompress(content, MAX_BYTES)


@pytest.mark.parametrize(
    "fault", ["503", "cut short", "stalled", "drip", "no gzip", "too long"], indirect=True
)
def test_a_fault_that_may_be_temporary_is_tried_again(
    server: str, small_file: File, fault: str
) -> None:
    Handler.faults += [fault, fault]
    assert fetched(small_file) == CONTENT
    assert Handler.requests == ["/small.gz"] * 3


@pytest.mark.parametrize(
    ("fault", "requests", "reason"),
    [
        ("404", 1, "the server answers 404"),
        ("other content", 1, "another content than the official one (its MD5 differs)"),
        ("503", 3, "too many 503 error responses"),
        ("cut short", 3, "IncompleteRead("),
        ("stalled", 3, "timed out"),
        ("drip", 3, "not complete after "),
        ("no gzip", 3, "not a gzip file"),
        ("too long", 3, "too long"),
    ],
    indirect=["fault"],
)
def test_a_fault_that_persists_is_an_error(
    server: str, small_file: File, fault: str, requests: int, reason: str
) -> None:
    Handler.faults += [fault] * 3
    with pytest.raises(InputError) as caught:
        fetched(small_file)
    message = str(caught.value)
    assert message.startswith(f"{server}/small.gz: ")
    assert reason in message
    assert "unset MNIST_MIRROR to download, or set MNIST_MIRROR to a folder or URL" in message
    assert "\n" not in message
    assert len(Handler.requests) == requests


def test_the_second_url_is_used_if_the_first_lacks_the_file(
    server: str, small_file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR")
    (tmp_path / "first").mkdir()
    (tmp_path / "first/small.gz").touch()
    Handler.faults += ["404"]
    assert fetched(small_file, f"{server}/first", f"{server}/") == CONTENT
    assert Handler.requests == ["/first/small.gz", "/small.gz"]


def test_without_network_and_mirror_the_error_names_both_remedies(
    small_file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    with pytest.raises(InputError) as caught:
        fetched(small_file, "http://127.0.0.1:9/")
    assert "Connection refused" in str(caught.value)
    assert "connect to the network, or set MNIST_MIRROR to a folder" in str(caught.value)


def test_a_pipe_in_a_mirror_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / IMAGES)  # reading it would wait for a writer
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match=r"gz: is not a regular file; name a folder that"):
        load("mnist")


def test_a_mirror_does_not_replace_the_digits_of_this_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load("mnist-5k")
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    assert np.array_equal(load("mnist-5k")["train"]["images"], expected["train"]["images"])


@pytest.mark.parametrize(
    ("name", "torchvision_class"),
    [
        ("mnist", datasets.MNIST),
        ("fashion-mnist", datasets.FashionMNIST),
        ("kmnist", datasets.KMNIST),
        ("qmnist", datasets.QMNIST),
    ],
)
def test_a_card_has_the_files_that_torchvision_lists(name: str, torchvision_class: Any) -> None:
    files = card(name).files
    of_card = [getattr(files, key) for key in FILES]
    if name == "qmnist":
        listed = [pair for key in ("train", "test") for pair in torchvision_class.resources[key]]
        urls = [f"{files.addresses[0]}{file.name}" for file in of_card]
        assert list(zip(urls, [file.md5 for file in of_card], strict=True)) == listed
    else:
        assert [(file.name, file.md5) for file in of_card] == torchvision_class.resources
        assert files.addresses == torchvision_class.mirrors
    if name in ("fashion-mnist", "kmnist"):
        assert list(card(name).classes) == torchvision_class.classes


@pytest.mark.parametrize(
    ("name", "torchvision_class", "folder", "first_labels"),
    [
        pytest.param("mnist", datasets.MNIST, MNIST, [5, 0, 4, 1, 9, 2, 1, 3], marks=needs_mnist),
        pytest.param(
            "fashion-mnist",
            datasets.FashionMNIST,
            FASHION,
            [9, 0, 0, 3, 0, 2, 7, 2],
            marks=pytest.mark.skipif(
                not FASHION.exists(), reason="Debian's dataset-fashion-mnist is not installed"
            ),
        ),
    ],
)
def test_the_official_files_give_the_arrays_of_torchvision(
    name: str,
    torchvision_class: Any,
    folder: Path,
    first_labels: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(folder))
    splits = load(name)
    raw = tmp_path / torchvision_class.__name__ / "raw"
    raw.mkdir(parents=True)
    for file in folder.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    for split in ("train", "test"):
        expected = torchvision_class(tmp_path, train=split == "train")
        np.testing.assert_array_equal(splits[split]["images"][:, 0], expected.data.numpy())
        np.testing.assert_array_equal(splits[split]["labels"], expected.targets.numpy())
    assert splits["train"]["labels"][:8].tolist() == first_labels


def idx(array: Array) -> bytes:
    """Return a compressed file in MNIST's format."""
    kind = {"u1": 0x08, "i4": 0x0C}[array.dtype.str[1:]]
    header = struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1, mtime=0)


def local_card(name: str, contents: dict[str, bytes], **changes: Any) -> Card:
    """Return a data card with the MD5 of other files, by their names there, and other facts."""
    values = card(name).model_dump(mode="json") | changes
    for key in FILES:
        file = values["files"][key]
        file["md5"] = hashlib.md5(contents[file["name"]]).hexdigest()
    return Card.model_validate_json(json.dumps(values))


def test_the_labels_of_qmnist_are_the_first_of_eight_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files hold other digits in QMNIST's format, because no mirror here has the real ones."""
    digits = load("mnist-5k")
    files = card("qmnist").files
    contents = {}
    for name, of_images, of_labels in (
        ("train", files.train_images, files.train_labels),
        ("test", files.test_images, files.test_labels),
    ):
        contents[of_images.name] = idx(digits[name]["images"][:, 0])
        table = np.arange(8 * 2_500, dtype=">i4").reshape(-1, 8)
        table[:, 0] = digits[name]["labels"]
        contents[of_labels.name] = idx(table)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    small = local_card("qmnist", contents, train=2_500, test=2_500)
    splits = load_idx(small)
    for name in ("train", "test"):
        for key in ("images", "labels"):
            np.testing.assert_array_equal(splits[name][key], digits[name][key])


SMALL = {
    f"{name}-{what}": content
    for name, n in (("train", 40), ("t10k", 20))
    for what, content in (
        ("images-idx3-ubyte.gz", idx(np.zeros((n, 28, 28), np.uint8))),
        ("labels-idx1-ubyte.gz", idx(np.arange(n, dtype=np.uint8) % 10)),
    )
}
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"


def load_small(folder: Path, members: dict[str, bytes], **changes: Any) -> dict[str, Any]:
    """Return the splits of a card of files in `folder`, each with the hash of its content."""
    values = {**card("mnist").model_dump(mode="json"), "train": 40, "test": 20, **changes}
    for name, content in (SMALL | members).items():
        (folder / name).write_bytes(content)
        md5 = hashlib.md5(content).hexdigest()
        kind = name.replace("t10k", "test").partition("-idx")[0].replace("-", "_")
        values["files"][kind] = {"name": name, "md5": md5}
    return load_idx(Card.model_validate_json(json.dumps(values)))


def test_small_files_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    assert load_small(tmp_path, {})["test"]["labels"].tolist() == [*range(10)] * 2


@pytest.mark.parametrize(
    ("members", "changes", "message"),
    [
        ({TRAIN_LABELS: idx(np.full(40, 10, np.uint8))}, {}, "the data card has 10 classes; corre"),
        ({TRAIN_LABELS: idx(np.ones(39, np.uint8))}, {}, "and 39 labels, but the data card says"),
        ({TRAIN_LABELS: b"no gzip"}, {}, f"{TRAIN_LABELS}: not a gzip file"),
        ({TRAIN_LABELS: gzip.compress(b"text")}, {}, f"{TRAIN_LABELS}: not an IDX file of bytes"),
        ({TRAIN_LABELS: bytes(10_000)}, {}, f"{TRAIN_LABELS}: longer than 1,380 bytes"),
        ({}, {"train": 41}, "but the data card says 41 of (28, 28); correct the card"),
        ({}, {"shape": [1, 32, 32]}, "but the data card says 40 of (32, 32); correct the card"),
        ({}, {"shape": [1, 24, 24]}, "images-idx3-ubyte.gz: too long"),
    ],
)
def test_files_that_contradict_their_card_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    members: dict[str, bytes],
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_small(tmp_path, members, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


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
    mirror = damaged_mirror(tmp_path / "mirror", file, damage)
    monkeypatch.setenv("MNIST_MIRROR", str(mirror))
    with pytest.raises(InputError) as caught:
        load("mnist")
    assert str(caught.value).startswith(f"{mirror}/{file}: {reason}")


def assert_raw_splits_are_mnist(project: Project) -> None:
    splits = {}
    for name in ("train", "test"):
        path = project.path / f"data/raw/{name}.safetensors"
        info, splits[name] = read_split(path)
        assert info == card("mnist").info
    assert len(splits["train"]["labels"]) == 60_000
    assert len(splits["test"]["labels"]) == 10_000
    content = gzip.decompress((MNIST / IMAGES).read_bytes())
    assert splits["train"]["images"].tobytes() == content[16:]


@needs_mnist
def test_fetch_writes_mnist_from_a_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project.set_params("fetch.source=sources/mnist.yaml")
    monkeypatch.chdir(project.path)
    monkeypatch.setenv("MNIST_MIRROR", str(MNIST))
    fetch.main()
    expected = "train: 60,000 images of 10 classes\ntest: 10,000 images of 10 classes\n"
    assert capsys.readouterr() == (expected, "")
    assert_raw_splits_are_mnist(project)


def run_experiment(project: Project, mirror: str, ok: bool = True) -> str:
    """Run an experiment on MNIST from a mirror, and return its stderr."""
    project.env["MNIST_MIRROR"] = mirror
    source = "fetch.source=sources/mnist.yaml"
    changes = source, "prepare.sampling=first", "train.epochs=1", "train.replicas=1"
    options = [option for change in changes for option in ("-S", change)]
    return project.run("dvc", "exp", "run", *options, ok=ok).stderr


@needs_mnist
@pytest.mark.slow
def test_an_experiment_on_mnist_from_a_server(project: Project) -> None:
    with serve(MNIST) as url:
        stderr = run_experiment(project, url)
    assert "%|" not in stderr  # progress bars are for terminals
    assert_raw_splits_are_mnist(project)
    metrics = json.loads((project.path / "metrics/evaluate.json").read_text())["evaluate"]
    assert metrics["test"]["n"] == 10_000


@needs_mnist
def test_an_experiment_on_a_damaged_mirror_is_refused_and_nothing_is_lost(
    project: Project, tmp_path: Path
) -> None:
    mirror = damaged_mirror(tmp_path / "mirror", IMAGES, "cut")
    stderr = run_experiment(project, str(mirror), ok=False)
    assert f"{mirror}/{IMAGES}: cut short after " in stderr
    assert "Traceback" not in stderr
    project.run("git", "checkout", "HEAD", ".")
    project.run("dvc", "checkout")
    assert project.ran("repro") == []
