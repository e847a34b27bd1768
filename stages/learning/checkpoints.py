"""Checkpoints: the weights of a model, or of its replicas, in a tensor file.

From the metadata of the file, which name the model, its width and its data set, the model can be
built again.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.learning.models import MODELS, Model, build_model
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.split_files import parse_info
from stages.storage.tensors import REMEDY, Array, read_metadata, read_tensors, write_tensors

CHECKPOINT = Path("data/checkpoints/model.safetensors")
REPLICAS = Path("data/checkpoints/replicas.safetensors")

MAX_WIDTH = 512  # as in `stages.params.train`, so that a forged checkpoint cannot claim memory


class Description(NamedTuple):
    """What the metadata of a checkpoint say of its model."""

    name: str
    width: int
    info: DatasetInfo

    def build(self, weights: Mapping[str, Array] | None = None) -> Model:
        """Return a model of this kind with these weights, or with random ones."""
        classes = len(self.info.classes)
        model = build_model(self.name, self.width, self.info.shape, classes, torch.Generator())
        if weights:
            model.load_state_dict({key: torch.from_numpy(array) for key, array in weights.items()})
        return model


def write_checkpoint(path: Path, model: Model, name: str, width: int, info: DatasetInfo) -> None:
    """Write the weights of a model; name, width and data set are those it was built with."""
    _write(path, model.state_dict(), name, width, info)


def write_replicas(
    path: Path, models: list[Model], name: str, width: int, info: DatasetInfo
) -> None:
    """Write the weights of all models but the first, stacked along a new first dimension."""
    weights = [model.state_dict() for model in models]
    stacked = {key: torch.stack([state[key] for state in weights])[1:] for key in weights[0]}
    _write(path, stacked, name, width, info)


def _write(
    path: Path, weights: dict[str, Tensor], name: str, width: int, info: DatasetInfo
) -> None:
    arrays = {key: tensor.cpu().numpy() for key, tensor in weights.items()}
    write_tensors(path, arrays, model=name, width=str(width), dataset=info.model_dump_json())


def read_checkpoint(path: Path) -> tuple[Model, DatasetInfo]:
    """Return the model of a checkpoint, and the data set that it was trained on.

    Raises `InputError` if the file has no model, or if a weight is NaN or infinite.
    """
    description, weights = _read(path, ())
    return description.build(weights), description.info


def read_replicas(path: Path) -> list[Model]:
    """Return the models that `write_replicas` wrote; raises `InputError` as `read_checkpoint`."""
    description, weights = _read(path, (None,))
    count, *others = {len(array) for array in weights.values()}
    if others:
        raise InputError(f"{path}: its tensors differ in the number of replicas; {REMEDY}")
    return [description.build({k: array[i] for k, array in weights.items()}) for i in range(count)]


def read_description(path: Path) -> Description:
    """Return what a checkpoint says of its model; raises `InputError` if it says nothing."""
    metadata = read_metadata(path)
    name, width = metadata.get("model"), metadata.get("width", "")
    if name not in MODELS:
        raise InputError(f"{path}: unknown model {name!r}; known: {', '.join(MODELS)}; {REMEDY}")
    if width not in map(str, [0] if name == "linear" else range(1, MAX_WIDTH + 1)):
        raise InputError(f"{path}: {name} cannot have the width {width[:9]!r}; {REMEDY}")
    return Description(name, int(width), parse_info(path, metadata))


def _read(path: Path, dimensions: tuple[None, ...]) -> tuple[Description, dict[str, Array]]:
    """Return what a checkpoint says of its model, and weights with dimensions before their own."""
    description = read_description(path)
    weights = description.build().state_dict().items()
    arrays = read_tensors(path, {key: ("F32", (*dimensions, *w.shape)) for key, w in weights})
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: {name} is not finite, and gives logits that are not finite; "
                "lower train.lr, and train again"
            )
    return description, arrays
