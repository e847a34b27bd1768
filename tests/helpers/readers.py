"""The readers of files that others may have made, each with a few good inputs to start from.

A reader writes the bytes to a file in the current folder and reads it. It returns if they are
good, and raises one of `REFUSALS` if they are not. Anything else is a defect.
"""

import json
import math
import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch
from PIL import ExifTags, Image

from fairtrial.project import errors
from fairtrial.project.chosen import CHOSEN, load_chosen
from fairtrial.project.contract import parse_contract
from fairtrial.project.scores import parse_scores
from stages.check import Params
from stages.learning.checkpoints import read_checkpoint, read_replicas, write_checkpoint
from stages.learning.models import build_model
from stages.params import load_params
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.split_files import read_split, write_split
from stages.storage.tensors import read_metadata, write_tensors
from stages.storage.yaml_reader import parse_yaml
from tests.helpers.cards import DIGITS
from tests.helpers.project import DEFAULT

REFUSALS = (InputError, errors.InputError)
CONTRACT = parse_contract((DEFAULT / "dvc.yaml").read_bytes(), "workspace")
TENSORS = Path("fuzzed.safetensors")
PICTURE = Path("fuzzed.png")
PARTS = DatasetInfo(title="Parts", shape=(3, 16, 16), classes=("bolt", "nut"), style="natural")


class Reader(NamedTuple):
    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    words: list[str]  # of which inputs are made, beside their bytes


def read_params(content: bytes) -> None:
    Path("params.yaml").write_bytes(content)
    load_params(Params)


def read_yaml_text(content: bytes) -> None:
    parse_yaml(content.decode(errors="surrogateescape"), "fuzzed.yaml")


def read_split_file(content: bytes) -> None:
    TENSORS.write_bytes(with_checksum(content))
    read_metadata(TENSORS)
    read_split(TENSORS)


def read_checkpoint_file(content: bytes) -> None:
    TENSORS.write_bytes(with_checksum(content))
    read_metadata(TENSORS)
    if b"replicas" in content:
        read_replicas(TENSORS)
    else:
        read_checkpoint(TENSORS)


def read_picture_file(content: bytes) -> None:
    PICTURE.write_bytes(with_crcs(content))
    for info in (PARTS, DIGITS):
        images = import_module("tools.preprocessing").to_image(PICTURE, info)[None]
        assert images.shape == (1, *info.shape)
        assert images.dtype == np.uint8


def read_scores(content: bytes) -> None:
    scores = parse_scores("fuzzed", "val", {"scores.csv": content}, {"train.replicas": 2}, CONTRACT)
    assert all(np.isfinite(table).all() for table in scores.scores.values())


def read_points(content: bytes) -> None:
    goal = import_module("fairtrial.search.goal").Goal(CONTRACT, "accuracy")
    points_file = import_module("fairtrial.search.points_file")
    points_file.POINTS.parent.mkdir(exist_ok=True)
    points_file.POINTS.write_bytes(content)
    with points_file.exclusive_lock() as file:
        points_file.load_rows(file, ["0a" * 32], goal)


def read_chosen(content: bytes) -> None:
    CHOSEN.parent.mkdir(exist_ok=True)
    CHOSEN.write_bytes(content)
    load_chosen()


def with_checksum(content: bytes) -> bytes:
    """Return a tensor file whose length and checksum are right, so that the rest of it is read.

    content: the header, a line break, and the data.
    """
    header, _, data = content.partition(b"\n")
    file = struct.pack("<Q", len(header)) + header + data
    try:
        about = json.loads(json.loads(header)["__metadata__"]["about"])
        if about.pop("sha256") == "right":
            tensors = safetensors.numpy.load(file)
            write_tensors(TENSORS, tensors, **about)
            return TENSORS.read_bytes()
    except Exception:  # whatever is wrong with it, the reader has to find
        pass
    return file


def split_header_and_data(file: bytes) -> bytes:
    """Return a tensor file in the form that `with_checksum` takes."""
    end = 8 + struct.unpack("<Q", file[:8])[0]
    header = json.loads(file[8:end])
    about = json.loads(header["__metadata__"]["about"])
    header["__metadata__"]["about"] = json.dumps({**about, "sha256": "right"})
    return json.dumps(header).encode() + b"\n" + file[end:]


def with_crcs(content: bytes) -> bytes:
    """Return a PNG in which the checksum of every chunk is right; other files as they are."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    result, position = content[:8], 8
    while position + 12 <= len(content):
        length = int.from_bytes(content[position : position + 4], "big")
        chunk = content[position + 4 : position + 8 + length]
        result += content[position : position + 4] + chunk
        result += zlib.crc32(chunk).to_bytes(4, "big")
        position += 12 + length
    return result + content[position:]


def split_seeds() -> list[bytes]:
    seeds = []
    for info, labels in ((DIGITS, [3, 7]), (PARTS, [1, 0])):
        images = np.arange(2 * math.prod(info.shape)).astype(np.uint8).reshape(2, *info.shape)
        tensors = {"images": images, "labels": np.array(labels)}
        write_split(TENSORS, info, tensors)
        seeds.append(split_header_and_data(TENSORS.read_bytes()))
    return seeds


def checkpoint_seeds() -> list[bytes]:
    seeds = []
    for name, width in (("linear", 0), ("mlp", 1), ("cnn", 1)):
        for info in (DIGITS, PARTS):
            classes = len(info.classes)
            model = build_model(name, width, info.shape, classes, torch.Generator())
            write_checkpoint(TENSORS, model, name, width, info)
            seeds.append(split_header_and_data(TENSORS.read_bytes()))
    return seeds


def picture_seeds() -> list[bytes]:
    digit = np.full((20, 16, 3), 230, np.uint8)
    digit[4:16, 7:9] = (20, 40, 90)
    picture = Image.fromarray(digit)
    transparent = picture.convert("RGBA")
    transparent.putalpha(Image.fromarray(255 - digit[..., 0]))
    depth = Image.fromarray(digit[..., 0].astype(np.uint16) * 257)
    rotated = Image.Exif()
    rotated[ExifTags.Base.Orientation] = 6
    rotated[ExifTags.Base.Make] = "a maker"
    rotated[ExifTags.Base.XResolution] = 72.0
    rotated.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] = 100
    rotated.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.5)
    files: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((picture.convert(mode), "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB")),
        (picture.quantize(3), "PNG", {"transparency": 0}),
        (transparent, "PNG", {}),
        (depth, "PNG", {}),
        (picture, "PNG", {"exif": rotated, "save_all": True, "append_images": [picture]}),
        (picture, "JPEG", {"exif": rotated}),
        (picture.convert("L"), "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}),
    ]
    seeds = []
    for image, form, options in files:
        buffer = BytesIO()
        image.save(buffer, form, **options)
        seeds.append(buffer.getvalue())
    return seeds


def params_seeds() -> list[bytes]:
    content = (DEFAULT / "params.yaml").read_bytes()
    lines = [line for line in content.splitlines() if not line.lstrip().startswith(b"#")]
    return [content, b"\n".join(line.partition(b" #")[0] for line in lines)]


def scores_seeds() -> list[bytes]:
    header = "split,example,label,accuracy.0,accuracy.1,cross_entropy.0,cross_entropy.1"
    return [f"{header}\nval,a,3,1,0,0.5,1.25\ntest,b,4,0,0,2,3e-05\n".encode()]


def points_seeds() -> list[bytes]:
    summary = {"mean": 0.5, "sd": 0.1, "replicas": 2, "n": 500}
    row = {
        "key": "0a" * 32,
        "overrides": ["train.lr=0.1"],
        "metrics": {"val": {"accuracy": summary}},
        "md5": {"data/checkpoints/model.safetensors": "0b" * 16},
        "seconds": 1.5,
    }
    line = json.dumps(row).encode() + b"\n"
    return [line, line + line[:-9]]


YAML_WORDS = [
    *"- : ? & * &a *a << | > ' [ ] { } , # % @ ` ! !! !!str --- ... ~ null true yes".split(),
    *"0x1F 0o17 0b1 1e5 .inf .nan 1_000 2001-01-01 \\u0041 \\x00 \\UFFFFFFFF \\N \\L".split(),
    *"fetch: prepare: train: evaluate: lr: seed: model: mlp linear batch_size: full".split(),
    *('"', "\n", "\n  ", "\t", "\r", "\ufeff", "\u2028", "\x85", "- - - ", "? ? "),
]
TENSOR_WORDS = [
    *'images labels index data_offsets dtype shape __metadata__ about sha256 right "I32"'.split(),
    *'"U8" "BOOL" "F32" "F64" "BF16" "F8_E4M3" 784 18446744073709551615 -1 [] {} null'.split(),
    *"model width linear mlp cnn replicas weight bias 0 1 512 NaN Infinity".split(),
    *"dataset title shape classes style strokes light_on_black natural ink_box 8 128".split(),
]

READERS = {
    "params": Reader(read_params, params_seeds, YAML_WORDS),
    "yaml": Reader(read_yaml_text, params_seeds, YAML_WORDS),
    "split": Reader(read_split_file, split_seeds, TENSOR_WORDS),
    "checkpoint": Reader(read_checkpoint_file, checkpoint_seeds, TENSOR_WORDS),
    "picture": Reader(
        read_picture_file,
        picture_seeds,
        "IHDR PLTE IDAT IEND tRNS gAMA iCCP cHRM sRGB tEXt zTXt iTXt pHYs eXIf acTL fcTL".split(),
    ),
    "scores": Reader(
        read_scores,
        scores_seeds,
        'split example label group accuracy.0 accuracy.1 val nan inf 1e400 -1 " ,'.split(),
    ),
    "points": Reader(
        read_points,
        points_seeds,
        'key overrides metrics md5 seconds val mean sd null NaN 1e400 -1 [] {} "" \\ud800'.split(),
    ),
    "chosen": Reader(
        read_chosen,
        lambda: [b'{"a": {"settings": 1, "splits": ["val"], "seeds": [0]}}'],
        "null NaN 1e400 {} [] 0".split(),
    ),
}
# Of parts that a project may have removed.
for name, module in (("picture", "tools.preprocessing"), ("points", "fairtrial.search")):
    if not find_spec(module):
        del READERS[name]
