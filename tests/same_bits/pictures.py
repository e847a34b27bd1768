"""Print the SHA-256 of pictures of many kinds and of what is read from them, one line of JSON.

python -m tests.same_bits.pictures
"""

import hashlib
import io
import itertools
import json
from typing import Any

import numpy as np
from PIL import Image

from anypictures.decoding import decode_picture, fit_picture, in_bytes, on_background
from tests.helpers.shapes import CLASSES, draw_shape

# How a picture is saved: its mode, its format, and what the format is told.
FILES: list[tuple[str, str, dict[str, Any]]] = [
    *((mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("RGB", "JPEG", {"quality": 80, "subsampling": number}) for number in (0, 1, 2)),
    ("RGB", "JPEG", {"quality": 90, "progressive": True}),
    ("L", "JPEG", {"quality": 50}),
    ("CMYK", "JPEG", {"quality": 90}),
    ("RGB", "BMP", {}),
    ("P", "GIF", {}),
    ("CMYK", "TIFF", {"compression": "tiff_lzw"}),
    ("RGB", "TIFF", {"compression": "tiff_deflate"}),
    ("RGB", "WEBP", {"quality": 70}),
    ("RGBA", "WEBP", {"lossless": True}),
]
ENLARGED = 7  # times, for a JPEG that is reduced while it is decoded
SIZES = (8, 28, 32, 128)


def photograph(class_name: str, random: np.random.Generator) -> Image.Image:
    """Return a shape with noise, RGBA: a file of it has every frequency and transparency."""
    picture = draw_shape(class_name, random).convert("RGBA")
    noise = random.integers(-40, 40, (picture.height, picture.width, 4))
    return Image.fromarray((np.asarray(picture) + noise).clip(0, 255).astype(np.uint8))


def convert(picture: Image.Image, mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode in ("CMYK", "P"):  # Pillow makes these of RGB
        picture = picture.convert("RGB")
    return picture.convert(mode)


def result(content: bytes) -> dict[str, str]:
    """Return the hash of a picture's file, and of each image that is made of it."""
    images = hashlib.sha256()
    for size, mode in itertools.product(SIZES, ("grey", "rgb")):
        picture = on_background(in_bytes(decode_picture(content, "picture"), (0, 65_535)), "white")
        images.update(fit_picture(picture, size, mode).tobytes())
    return {"file": hashlib.sha256(content).hexdigest(), "images": images.hexdigest()}


def main() -> None:
    random = np.random.default_rng(0)
    results = {}
    for class_name, (mode, format_name, options) in itertools.product(CLASSES, FILES):
        picture = convert(photograph(class_name, random), mode)
        if format_name == "JPEG":
            width, height = (ENLARGED * side for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, format_name, **options)
        results[f"{class_name}, {mode} as {format_name} {options}"] = result(buffer.getvalue())
    print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
