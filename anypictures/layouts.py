"""Where labels and splits stand in the paths of pictures: SPLIT/CLASS/NAME, or CLASS/NAME.

Folders within a class are read, as `torchvision.datasets.ImageFolder` reads them.
"""

import os
from collections.abc import Sequence

from anypictures.containers import Container
from anypictures.decoding import MAX_BYTES
from anypictures.errors import PicturesError
from anypictures.examples import Example, Source, class_name, split_of

LITTER = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"}
DOCUMENTS = {
    *(".txt", ".md", ".rst", ".pdf", ".rtf", ".html", ".csv", ".tsv", ".json", ".jsonl", ".xml"),
    *(".yaml", ".yml", ".toml", ".log", ".py", ".ipynb", ".docx", ".xlsx"),
}
NO_SUFFIX = {"README", "LICENSE", "LICENCE"}


def left_out(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names without those that operating systems leave, and a remark that counts them.

    Hidden files, such as `.DS_Store` and `._1.png`, are among these.
    """
    kept = [name for name in names if not is_litter(name)]
    count = len(names) - len(kept)
    return kept, [f"{count:,} hidden files and files of operating systems left out"] * bool(count)


# By text alone: a data set may have 10⁵ names, each of which would take pathlib 10 µs.
def is_litter(name: str) -> bool:
    return any(part[:1] == "." or part.lower() in LITTER for part in name.split("/"))


def is_document(name: str) -> bool:
    last = name.rpartition("/")[2]
    return os.path.splitext(last)[1].lower() in DOCUMENTS or last.upper() in NO_SUFFIX  # noqa: PTH122


def common_folder(names: Sequence[str]) -> str:
    """Return the folders around everything, as `a/b/`, or nothing.

    They are neither splits nor the folder of a class: at least one more is below them.
    """
    if not names:
        return ""
    # The least and the greatest of them differ first where any of them do.
    first, last = (name.split("/") for name in (min(names), max(names)))
    depth = 1 + min(name.count("/") for name in names)
    common = 0
    while common < depth - 2 and first[common] == last[common] and not split_of(first[common]):
        common += 1
    return "".join(f"{part}/" for part in first[:common])


def read_folders(place: str, container: Container, names: Sequence[str]) -> Source:
    """Return the pictures of a container, by their folders.

    Raises `PicturesError` with all files that are in the folder of no class.
    """
    documents, pictures = list[str](), list[str]()
    for name in names:
        (documents if is_document(name) else pictures).append(name)
    remarks = []
    if documents:
        remarks.append(f"{len(documents):,} documents, such as {documents[0]}, left out")
    start = common_folder(pictures)
    if start:
        remarks.append(f"the classes are in {start}")
    examples, problems = [], []
    has_split_below = all(
        len(parts := name.removeprefix(start).split("/")) > 2 and split_of(parts[1])
        for name in pictures
    )
    for name in pictures:
        *folders, _ = name.removeprefix(start).split("/")
        if has_split_below:  # CLASS/SPLIT/NAME
            folders[:2] = folders[1::-1]
        split = split_of(folders[0]) if folders else None
        if len(folders) <= (split is not None):
            problems.append(
                f"{place}/{name}: not in the folder of a class; move it to "
                f"{start}{f'{folders[0]}/' if folders else ''}CLASS/, or remove it"
            )
            continue
        examples.append(Example(name, class_name(folders[split is not None]), split))
    if problems:
        raise PicturesError(*problems)
    return Source(examples, lambda example: container.read(example.file, MAX_BYTES), remarks)
