"""Fetch a data set, split into a training pool and a test split.

Reads section `fetch` of `params.yaml`. What has to be downloaded comes from the official
servers, or from the folder or URL that the environment variable MNIST_MIRROR names. Writes
`data/raw/{train,test}.safetensors`: images uint8 (N, 1, 28, 28), labels uint8 (N,).

    python -m stages.fetch
"""

from pathlib import Path

from stages.datasets.mnist_5k import load_mnist_5k
from stages.params import load_params
from stages.params.fetch import Fetch
from stages.storage.errors import run
from stages.storage.tensors import write_tensors


def main() -> None:
    dataset = load_params(Fetch, "fetch").dataset
    if dataset == "mnist-5k":
        splits = load_mnist_5k()
    else:
        # Here, because HTTP takes as long to import as all else together.
        from stages.datasets.download import download_dataset

        splits = download_dataset(dataset)
    for name, split in splits.items():
        write_tensors(Path(f"data/raw/{name}.safetensors"), split)
        print(f"{name}: {len(split['labels']):,} images")


if __name__ == "__main__":
    run(main)
