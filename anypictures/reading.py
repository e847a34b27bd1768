"""Pictures read as images, in processes that do many of them at once."""

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from anypictures.decoding import (
    Decoded,
    border_level,
    decode_picture,
    fit_picture,
    in_bytes,
    on_background,
    polarity,
)
from anypictures.errors import PicturesError
from anypictures.idx import Array

FEW_LEVELS = 13  # of 256: 5 %
THIN = 4  # times as long as it is wide
COLOURFUL = 24  # of 255: the mean difference of a picture's colours
ALL = 0.0, 65_535.0  # of 16 bits, until the values of all pictures are known


class Reading(NamedTuple):
    """How pictures become images, the same for all of a data set."""

    size: int
    mode: str
    style: str
    ends: tuple[float, float] | None = None  # values deeper than 8 bits that are black and white
    background: str = "white"


class Work(NamedTuple):
    """A picture to read: a file's content, or pixels, or why there is neither."""

    name: str  # for messages
    content: bytes | Array | str


class Read(NamedTuple):
    """A picture as an image, and what is remarkable about it; or a problem."""

    problem: str = ""
    image: Array | None = None  # uint8 (C, H, W)
    border: int = 0  # the median of the image's outermost pixels
    identity: str = ""  # a hash of the picture's pixels
    kind: str = ""  # its format and its mode
    dimensions: tuple[int, int] = (1, 1)  # width, height
    levels: int = 255  # between its darkest and its lightest value
    values: tuple[str, float, float] | None = None  # deeper than 8 bits: dtype, least, greatest
    pages: bool = False
    transparent: bool = False
    vanishes: tuple[bool, bool] = (False, False)  # on white, on black
    colourful: bool = False


def read_pictures(works: Sequence[Work], reading: Reading) -> list[Read]:
    return [read_picture(work, reading) for work in works]


def read_picture(work: Work, reading: Reading) -> Read:
    if isinstance(work.content, str):
        return Read(work.content)
    try:
        if isinstance(work.content, bytes):
            decoded = decode_picture(work.content, work.name)
        else:
            decoded = decoded_array(work.content)
    except PicturesError as error:
        return Read(str(error))
    as_stored = in_bytes(decoded, reading.ends or ALL)
    picture = on_background(as_stored, reading.background)
    values, transparent = decoded.values, decoded.picture.mode == "RGBA"
    image = polarity(fit_picture(picture, reading.size, reading.mode), reading.style)
    found = Read(
        image=image,
        border=border_level(image),
        identity=identity(picture if values is None else values),
        kind=f"{decoded.format} {decoded.mode}",
        dimensions=picture.size,
        levels=levels(picture),
        pages=decoded.pages,
        transparent=transparent,
        colourful=reading.mode == "grey" and is_colourful(picture),
    )
    if values is not None:
        found = found._replace(values=(values.dtype.str, float(values.min()), float(values.max())))
    elif transparent:
        white, black = (on_background(as_stored, colour) for colour in ("white", "black"))
        found = found._replace(vanishes=(levels(white) == 0, levels(black) == 0))
    return found


def decoded_array(pixels: Array) -> Decoded:
    """Return pixels (H, W) or (H, W, 3) as a decoded picture."""
    mode = f"{pixels.dtype.name}, {'grey' if pixels.ndim == 2 else 'RGB'}"
    if pixels.dtype == np.uint8:
        picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        return Decoded("array", mode, picture)
    picture = Image.new("RGB", pixels.shape[1::-1])
    return Decoded("array", mode, picture, pixels)


def identity(picture: Image.Image | Array) -> str:
    """Return a name of a picture RGB, or of deeper values, that depends on nothing but these."""
    if isinstance(picture, Image.Image):
        size, pixels = picture.size, picture.tobytes()
    else:  # the same values in another type are the same
        size, pixels = picture.shape, picture.astype("<f8").tobytes()
    return sha256(f"{size}".encode() + pixels).hexdigest()[:16]


def levels(picture: Image.Image) -> int:
    """Return how far the values of a picture RGB reach in that of its channels with most."""
    extrema = cast(tuple[tuple[int, int], ...], picture.getextrema())
    return max(high - low for low, high in extrema)


def is_colourful(picture: Image.Image) -> bool:
    small = np.asarray(picture.resize((8, 8), Image.Resampling.BOX)).astype(int)
    return bool((small.max(2) - small.min(2)).mean() > COLOURFUL)
