"""Write a page on which the model of a revision classifies what you draw.

The page needs no network and no other file. Its model computes in the browser, in float64.

    python -m tools draw
    python -m tools draw HEAD~1 --output draw.html
"""

import argparse
import base64
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from fairtrial.project.revisions import read_files
from stages.storage.errors import InputError, printable, shorten
from stages.storage.files import write_bytes
from tools.vega_library import content_security_policy

CANVAS = Path(__file__).with_name("canvas")
CHECKPOINT = "data/checkpoints/model.safetensors"
DRAWN = "linear", "mlp", "cnn"  # the models that canvas/model.js has
MAX_BYTES = 2_000_000  # of a checkpoint that a page carries


def load_model(revision: str) -> dict[str, Any]:
    """Return the model of a revision as `canvas/model.js` reads it.

    Raises `InputError` if there is none, if it is too large for a page, or if it was trained on
    other images than drawings.
    """
    [content] = read_files(revision, CHECKPOINT)
    remedy = "classify pictures with `python -m tools predict` instead"
    if len(content) > MAX_BYTES:
        raise InputError(f"{revision}: no page holds a model of {len(content):,} bytes; {remedy}")
    # Here, because torch takes a second.
    from stages.learning.checkpoints import read_checkpoint, read_description

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(content)
        try:
            model, info = read_checkpoint(path)
            name, width, _ = read_description(path)
        except InputError as error:
            raise InputError(f"{revision}: {error}".replace(str(path), CHECKPOINT)) from None
    if name not in DRAWN:
        raise InputError(f"{revision}: canvas/model.js lacks the model {name}; add it, or {remedy}")
    if not info.ink_box:
        raise InputError(f"{revision}: trained on {info.title}, which are no drawings; {remedy}")
    return {
        **info.model_dump(include={"title", "ink_box", "classes"}),
        "size": info.shape[1],
        "revision": revision,
        "name": name,
        "width": width,
        "weights": {
            key: {"shape": tensor.shape, "values": base64.b64encode(tensor.numpy()).decode()}
            for key, tensor in model.state_dict().items()
        },
    }


def main(args: argparse.Namespace) -> None:
    model = load_model(args.revision)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(CANVAS), autoescape=True, undefined=jinja2.StrictUndefined
    )
    scripts = [(CANVAS / name).read_text(encoding="utf-8") for name in ("model.js", "canvas.js")]
    policy = content_security_policy(scripts, images="data:")
    page = environment.get_template("page.html")
    write_bytes(args.output, page.render(policy=policy, model=model, scripts=scripts).encode())
    print(shorten(printable(f"{args.output}: open it; it has the model of {args.revision}")))
