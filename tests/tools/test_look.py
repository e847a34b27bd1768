"""The command `python -m tools look`."""

import numpy as np
from PIL import Image

from tests.helpers.project import Project
from tests.helpers.shapes import CLASSES, make_shapes
from tests.helpers.sources import noise
from tools.look import near_copies


def test_it_shows_what_fetch_reads_and_changes_nothing(small_project: Project) -> None:
    project = small_project
    make_shapes(project.path / "data/pictures", 12)
    (project.path / "data/pictures/README.md").write_text("about")
    project.set_params("fetch.mode=rgb", "fetch.size=16")
    before = project.status()
    command = ["python", "-m", "tools", "look", "data/pictures", "--output", "../look.png"]
    out = project.run(*command).stdout
    assert "train: " in out and ": circle " in out
    assert "formats: {'PNG RGB': 48}" in out
    assert "1 documents, such as README.md, left out" in out
    with Image.open(project.path.parent / "look.png") as picture:
        assert picture.height > len(CLASSES) * 84
    assert project.status() == before


def test_near_copies_are_counted() -> None:
    train = noise(20, 1, 16, 16)
    test = noise(10, 1, 16, 16)
    assert near_copies({"train": train, "test": test}) == 0
    flat = np.stack([np.full((1, 16, 16), 10 * i, np.uint8) for i in range(20)])
    assert near_copies({"train": flat, "test": flat[:5] + np.uint8(1)}) == 5
