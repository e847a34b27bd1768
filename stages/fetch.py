"""Fetch a data set, split into a training pool and a test split.

Reads section `fetch` of `params.yaml`, and what it names: a data card, or a folder or a tar file
of labelled pictures. What has to be downloaded comes from the addresses of the card, or from the
folder or URL that the environment variable MNIST_MIRROR names. Writes
`data/raw/{train,test}.safetensors`: images uint8 (N, C, H, W), labels uint8 or uint16 (N,).

    python -m stages fetch
"""

from pathlib import Path

from stages.datasets.cards import find_card
from stages.datasets.idx import load_idx
from stages.params import load_params
from stages.params.fetch import Fetch
from stages.storage.dataset_info import DatasetInfo
from stages.storage.errors import InputError
from stages.storage.split_files import write_split
from stages.storage.tensors import Array


def load_source(params: Fetch) -> tuple[DatasetInfo, dict[str, dict[str, Array]]]:
    """Return the data set that `fetch.source` names, and its splits.

    Raises `InputError` if there is none, or if it is not as the parameters say.
    """
    try:
        card = find_card(params)
    except ValueError as error:
        raise InputError(f"params.yaml: fetch: {error}") from None
    if card:
        return card.info, load_idx(card)
    # Here, because Pillow takes a while to import.
    from stages.datasets.folders import load_pictures

    return load_pictures(Path(params.source), params)


def main() -> None:
    params = load_params(Fetch, "fetch")
    info, splits = load_source(params)
    for name, split in splits.items():
        if not len(split["labels"]):
            raise InputError(
                f"params.yaml: fetch.source: {params.source} has no pictures for {name}; add more"
            )
    for name, split in splits.items():
        write_split(Path(f"data/raw/{name}.safetensors"), info, split)
        print(f"{name}: {len(split['labels']):,} images of {len(info.classes)} classes")
