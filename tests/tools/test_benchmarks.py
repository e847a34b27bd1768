"""What the benchmarks compare with: all have to do the same work."""

import json
import shutil
from importlib.util import find_spec

import pytest

from benchmarks.bench import PEERS, peer, write_idx
from tests.helpers.project import Project


@pytest.fixture(scope="module")
def with_idx(reproduced: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("peers") / "project"
    project = Project(shutil.copytree(reproduced.path, folder))
    write_idx(project.path)
    return project


# The peers change when we change them; our own loop with every change.
@pytest.mark.parametrize(
    "script", [*(pytest.param(peer, marks=pytest.mark.slow) for peer in PEERS.values()), "ours"]
)
def test_all_peers_come_to_the_same_accuracy(with_idx: Project, script: str) -> None:
    if script == "lightning_trainer" and not find_spec("lightning"):
        pytest.skip("lightning is not installed; `make bench` does it")
    out = with_idx.run(*peer(script, "linear", 2)).stdout
    said = json.loads(out.splitlines()[-1])
    # After two epochs; pytorch/examples' normalized digits are learned sooner.
    assert 0.65 < said["val"] < 0.88
    assert 0.65 < said["train"] < 0.88
    assert said["loop"] > 0
