"""Say which digit a picture shows: any PNG or JPEG of one digit on an even background.

A picture is first brought to the form of MNIST's (LeCun et al. 1998, doi:10.1109/5.726791): the
strokes without their background, in a box of 20 x 20 pixels whose centre of mass is the middle
of 28 x 28. A folder stands for the pictures in it. A picture is labelled by a sub-folder named
after a digit, or by a name that begins with one, such as 7.png and 7-second.jpg.

    python -m tools.predict digit.png
    python -m tools.predict photos --json
"""

import argparse
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from stages.storage.errors import InputError, run
from stages.storage.tensors import Array

LONGEST = 800  # pixels of a side beyond which a picture is made smaller, for speed
FAINT = 30  # of 255: what differs less from the background is not drawn
SUFFIXES = (".png", ".jpg", ".jpeg")


def read_picture(path: Path) -> Image.Image:
    """Return a picture upright and in colour; raises `InputError` if the file holds none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of details that do not keep it from being read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG", "JPEG"]) as file:
                file.draft("RGB", (LONGEST, LONGEST))  # a JPEG is read the faster
                picture = ImageOps.exif_transpose(file)
                if picture.mode == "I;16":  # 16 bits a pixel, of which Pillow would take the lower
                    picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
                picture = picture.convert("RGBA")
    except FileNotFoundError:
        raise InputError(f"{path}: not found; name a PNG or JPEG, or a folder of them") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(
            f"{path}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; save it smaller"
        ) from None
    except UnidentifiedImageError:
        raise InputError(f"{path}: not a PNG or JPEG; save it as one") from None
    except (OSError, SyntaxError, ValueError) as error:  # SyntaxError: a broken PNG, to Pillow
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"{path}: cannot be read ({error.strerror}); mend that") from None
        raise InputError(f"{path}: not a whole picture ({error}); save it again") from None
    picture.thumbnail((LONGEST, LONGEST))
    # What is transparent shows the paper, which is white unless the strokes are.
    for paper in ("white", "black"):
        seen = Image.alpha_composite(Image.new("RGBA", picture.size, paper), picture).convert("RGB")
        if strokes(np.asarray(seen)).any():
            return seen
    raise InputError(f"{path}: nothing is drawn on it; draw a digit in a darker or lighter colour")


def strokes(pixels: Array) -> Array:
    """Return how much stroke there is in each pixel, float32 (H, W) from 0 to 1.

    pixels: uint8 (H, W, 3). The background is the median colour of the border, and what differs
    from it no more than most of the border does. Specks are left out.
    """
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    background = np.median(border, 0).astype(np.float32)
    noise = np.abs(border - background).max(1)
    usual = np.median(noise)
    usual += 6 * np.median(np.abs(noise - usual))  # four standard deviations
    ink = np.maximum(np.abs(pixels - background).max(2) - usual, 0)
    ink /= max(ink.max(), FAINT)
    parts, count = ndimage.label(ink > 0.1, np.ones((3, 3)))
    if ink.max() < 1:
        return np.zeros_like(ink)
    sizes = ndimage.sum_labels(ink, parts, np.arange(1, count + 1))
    drawn = np.concatenate([[False], sizes > 0.05 * sizes.max()])
    return np.where(drawn[parts], ink, 0)


def as_mnist(picture: Image.Image) -> Array:
    """Return a digit as MNIST has it, uint8 (28, 28), light on black."""
    ink = strokes(np.asarray(picture))
    [box] = ndimage.find_objects((ink > 0).astype(int))
    digit = Image.fromarray(ink[box])
    scale = 20 / max(digit.size)
    width, height = (max(1, round(scale * side)) for side in digit.size)
    small = np.asarray(digit.resize((width, height), Image.Resampling.BOX))
    image = np.zeros((28, 28), np.uint8)
    top, left = (
        min(max(round(14 - centre), 0), 28 - side)
        for centre, side in zip(ndimage.center_of_mass(small), small.shape, strict=True)
    )
    image[top : top + height, left : left + width] = np.rint(255 * small / small.max())
    return image


def label_of(path: Path) -> int | None:
    """Return the digit that a picture's folder or its name says it is, if they do."""
    said = re.fullmatch(r"\d", path.parent.name) or re.match(r"\d(?!\d)", path.name)
    return int(said[0]) if said else None


def inside(folder: Path) -> list[Path]:
    """Return the pictures in a folder and in those in it; raises `InputError` if one is closed."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror}); mend that")

    found = []
    for at, _, names in os.walk(folder, onerror=refuse):
        found += [Path(at, name) for name in names if name.lower().endswith(SUFFIXES)]
    if not found:
        raise InputError(f"{folder}: no picture is in it; name a folder of PNGs or JPEGs")
    return sorted(found)


def pictures(names: list[Path]) -> list[Path]:
    """Return the files, with those in a folder in its place."""
    found = []
    for name in names:
        # Not Path.is_dir, which raises where it may not look.
        found += inside(name) if os.path.isdir(name) else [name]  # noqa: PTH112
    return found


def read_all(paths: list[Path]) -> Array:
    """Return what the files show, uint8 (N, 1, 28, 28); all that cannot be read are named."""
    images, problems = [], []
    for path in paths:
        try:
            images.append(as_mnist(read_picture(path)))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return np.stack(images)[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.predict", description="Say which digits pictures show."
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="PNG, JPEG or folder")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("data/checkpoints/model.safetensors"),
        help="the model (default: that of the workspace)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    paths = pictures(asked.files)
    images = read_all(paths)

    import torch  # here: a bad picture is refused before the second that this takes
    from tabulate import tabulate

    from stages.evaluate import probabilities, wilson_interval
    from stages.learning.checkpoints import read_checkpoint
    from stages.learning.models import predict

    model = read_checkpoint(asked.checkpoint)
    found = probabilities(predict(model, torch.from_numpy(images)).numpy())
    rows: list[dict[str, Any]] = [
        {
            "file": str(path),
            "label": label_of(path),
            "predicted": int(shares.argmax()),
            "confidence": round(shares.max().item(), 6),
            "probabilities": shares.round(6).tolist(),
        }
        for path, shares in zip(paths, found, strict=True)
    ]
    right = [row["predicted"] == row["label"] for row in rows if row["label"] is not None]
    accuracy = None
    if right:
        low, high = wilson_interval(sum(right), len(right))
        accuracy = {"value": sum(right) / len(right), "low": low, "high": high, "n": len(right)}
    if asked.json:
        print(json.dumps({"pictures": rows, "accuracy": accuracy}, indent=2))
        return
    if paths == asked.files and len(rows) == 1:
        print("{predicted}, with a confidence of {confidence:.1%}".format(**rows[0]))
        return
    columns = ["file", "label", "predicted", "confidence"]
    lines = [[row[column] for column in columns[:3]] + [f"{row['confidence']:.1%}"] for row in rows]
    print(tabulate(lines, columns, colalign=("left", "right", "right", "right")))
    if accuracy:
        print(
            f"\naccuracy {accuracy['value']:.1%} (95 % interval {accuracy['low']:.1%} to "
            f"{accuracy['high']:.1%}, n = {accuracy['n']:,} with a label)"
        )


if __name__ == "__main__":
    run(main)
