"""Checkpoints: the weights of a model, or of its replicas, in a tensor file.

From the metadata of the file, which name the model, its width and its data set, the model can be
built again.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

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

    def build(self) -> Model:
        """Return a model of this kind, with random weights."""
        classes = len(self.info.classes)
        return build_model(self.name, self.width, self.info.shape, classes, torch.Generator())


def write_checkpoint(path: Path, model: Model, name: str, width: int, info: DatasetInfo) -> None:
    """Write the weights of a model; name, width and data set are those it was built with."""
    weights = {key: tensor.cpu().numpy() for key, tensor in model.state_dict().items()}
    _write(path, weights, name, width, info)


def write_replicas(
    path: Path, models: list[Model], name: str, width: int, info: DatasetInfo
) -> None:
    """Write the weights of all models but the first, stacked along a new first dimension."""
    weights = [model.state_dict() for model in models]
    stacked = {key: torch.stack([state[key] for state in weights])[1:] for key in weights[0]}
    _write(path, {key: tensor.cpu().numpy() for key, tensor in stacked.items()}, name, width, info)


def _write(path: Path, weights: dict[str, Array], name: str, width: int, info: DatasetInfo) -> None:
    write_tensors(path, weights, model=name, width=str(width), dataset=info.model_dump_json())


def read_checkpoint(path: Path) -> tuple[Model, DatasetInfo]:
    """Return the model of a checkpoint, and the data set that it was trained on.

    Raises `InputError` if the file has no model.
    """
    description = read_description(path)
    tensors = _read(path, description, ())
    model = description.build()
    model.load_state_dict({key: torch.from_numpy(array) for key, array in tensors.items()})
    return model, description.info


def read_replicas(path: Path) -> list[Model]:
    """Return the models that `write_replicas` wrote; raises `InputError` as `read_checkpoint`."""
    description = read_description(path)
    tensors = _read(path, description, (None,))
    count, *others = {len(array) for array in tensors.values()}
    if others:
        raise InputError(f"{path}: its tensors differ in the number of replicas; {REMEDY}")
    models = [description.build() for _ in range(count)]
    for number, model in enumerate(models):
        model.load_state_dict({k: torch.from_numpy(array[number]) for k, array in tensors.items()})
    return models


def read_description(path: Path) -> Description:
    """Return what a checkpoint says of its model; raises `InputError` if it says nothing."""
    metadata = read_metadata(path)
    name, width = metadata.get("model"), metadata.get("width", "")
    if name not in MODELS:
        raise InputError(f"{path}: unknown model {name!r}; known: {', '.join(MODELS)}; {REMEDY}")
    if width not in map(str, [0] if name == "linear" else range(1, MAX_WIDTH + 1)):
        raise InputError(f"{path}: {name} cannot have the width {width[:9]!r}; {REMEDY}")
    return Description(name, int(width), parse_info(path, metadata))


def _read(
    path: Path, description: Description, more_dimensions: tuple[None, ...]
) -> dict[str, Array]:
    """Return the weights of models; raises `InputError` if one is NaN or infinite."""
    weights = description.build().state_dict().items()
    tensors = read_tensors(
        path, {key: ("F32", (*more_dimensions, *weight.shape)) for key, weight in weights}
    )
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(
                f"{path}: {name} is not finite, and gives logits that are not finite; "
                "lower train.lr, and train again"
            )
    return tensors
