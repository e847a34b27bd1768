"""Checkpoints: the weights of a model, or of its replicas, in a tensor file.

The metadata of the file name the model and its width, so that it can be built again.
"""

from pathlib import Path

import numpy as np
import torch

from stages.learning.models import MODEL_NAMES, MODELS_WITH_WIDTH, Model, build_model
from stages.storage.errors import InputError
from stages.storage.tensors import (
    REMEDY,
    Array,
    Layout,
    read_metadata,
    read_tensors,
    write_tensors,
)

CHECKPOINT = Path("data/checkpoints/model.safetensors")
REPLICAS = Path("data/checkpoints/replicas.safetensors")

MAX_WIDTH = 512  # as in `stages.params.train`, so that a forged checkpoint cannot claim memory


def write_checkpoint(path: Path, model: Model, name: str, width: int) -> None:
    """Write the weights of a model; name and width are those it was built with."""
    tensors = {key: tensor.cpu().numpy() for key, tensor in model.state_dict().items()}
    write_tensors(path, tensors, model=name, width=str(width))


def write_replicas(path: Path, models: list[Model], name: str, width: int) -> None:
    """Write the weights of all models but the first, stacked along a new first dimension."""
    weights = [model.state_dict() for model in models]
    tensors = {
        key: torch.stack([state[key] for state in weights])[1:].cpu().numpy() for key in weights[0]
    }
    write_tensors(path, tensors, model=name, width=str(width))


def read_checkpoint(path: Path) -> Model:
    """Return the model of a checkpoint; raises `InputError` if the file holds none."""
    model, name, width = empty_model(path)
    layout = {key: ("F32", tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
    return load_weights(name, width, _read_finite(path, layout))


def read_replicas(path: Path) -> list[Model]:
    """Return the models that `write_replicas` wrote; raises `InputError` as `read_checkpoint`."""
    model, name, width = empty_model(path)
    layout = {key: ("F32", (None, *tensor.shape)) for key, tensor in model.state_dict().items()}
    tensors = _read_finite(path, layout)
    count, *others = {len(array) for array in tensors.values()}
    if others:
        raise InputError(f"{path}: its tensors differ in the number of replicas; {REMEDY}")
    return [
        load_weights(name, width, {key: array[number] for key, array in tensors.items()})
        for number in range(count)
    ]


def _read_finite(path: Path, layout: Layout) -> dict[str, Array]:
    """Return the tensors of a checkpoint; raises `InputError` if one has NaN or infinity."""
    tensors = read_tensors(path, layout)
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: {name} is not finite, and gives logits that are not finite; "
                "lower train.lr, and train again"
            )
    return tensors


def empty_model(path: Path) -> tuple[Model, str, int]:
    """Return a model as the metadata of a checkpoint describe it, its name and its width.

    Raises `InputError` if they describe none.
    """
    metadata = read_metadata(path)
    name, width = metadata.get("model"), metadata.get("width", "")
    if name not in MODEL_NAMES:
        raise InputError(
            f"{path}: holds no model of {', '.join(MODEL_NAMES)} but {name!r}; {REMEDY}"
        )
    if width not in map(str, range(1, MAX_WIDTH + 1) if name in MODELS_WITH_WIDTH else [0]):
        raise InputError(f"{path}: {width[:9]!r} is no width of {name}; {REMEDY}")
    return build_model(name, int(width), torch.Generator()), name, int(width)


def load_weights(name: str, width: int, weights: dict[str, Array]) -> Model:
    """Return the model of that name and width with these weights."""
    model = build_model(name, width, torch.Generator())
    model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
    return model
