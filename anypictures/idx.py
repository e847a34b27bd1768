"""Arrays in the format of MNIST's files, http://yann.lecun.com/exdb/mnist/."""

import math
import zlib
from typing import Any

import numpy as np

from anypictures.errors import PicturesError

Array = np.ndarray[Any, Any]
IDX_DTYPES = {0x08: "u1", 0x0C: ">i4"}
IDX_START = b"\0\0\x08", b"\0\0\x0c"
REMEDY = "copy the file again"


def parse_idx(content: bytes, max_bytes: int, name: str) -> Array:
    """Return the array of a file in the IDX format, which may be compressed.

    Raises `PicturesError` if it is in another format, or if it has more than `max_bytes`.
    """
    try:
        if not content.startswith(b"\0\0"):
            content = decompress(content, max_bytes)
    except ValueError as error:
        raise PicturesError(f"{name}: {error}; {REMEDY}") from None
    dimensions = content[3] if len(content) > 3 else 0
    dtype = np.dtype(IDX_DTYPES.get(content[2], "V") if dimensions else "V")
    offset = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(content[4:offset], ">u4").tolist())
    expected = offset + dtype.itemsize * math.prod(shape)
    if dtype.kind == "V" or len(shape) < dimensions or len(content) != expected:
        raise PicturesError(f"{name}: not an IDX file of bytes or integers; {REMEDY}")
    return np.frombuffer(content, dtype, offset=offset).reshape(shape)


def decompress(content: bytes, max_bytes: int) -> bytes:
    """Return the content of a gzip file; raises `ValueError` if it is broken, or too long."""
    decompressor = zlib.decompressobj(wbits=31)  # 31: gzip
    try:
        decompressed = decompressor.decompress(content, max_bytes)
    except zlib.error as error:
        raise ValueError(f"not a gzip file ({error})") from None
    if not decompressor.eof:
        too_long = bool(decompressor.unconsumed_tail)
        raise ValueError("too long" if too_long else f"cut short after {len(content):,} bytes")
    return decompressed
