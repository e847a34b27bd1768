"""Make DVC experiments of the best points of a sweep."""

import subprocess
import sys
from pathlib import Path

from fairtrial.project.errors import InputError
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.project.revisions import read_files
from fairtrial.project.pipeline import TRAIN
from fairtrial.search.grid import Point
from fairtrial.search.rows import Row


def promote(point: Point, row: Row) -> None:
    """Make a DVC experiment of a point, unless there is one already.

    Raises `InputError` if its checkpoints do not have the MD5s of the row.
    """
    dvc = [sys.executable, "-m", "dvc", "exp"]
    listing = [*dvc, "list", "--name-only"]
    names = subprocess.run(listing, capture_output=True, encoding="utf-8", errors="replace").stdout
    if point.name not in names.split():
        # With the equals sign, so that none is taken for an option, whatever it begins with.
        options = [f"--set-param={override}" for override in point.overrides]
        command = [*dvc, "run", "--temp", "--name", point.name, *options]
        result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        if result.returncode != 0:
            raise InputError(f"{point.name}: {' '.join(result.stderr.split()[-60:])}")
    [lock] = read_files(point.name, "dvc.lock")
    outs = parse_yaml(lock.decode(), f"{point.name}: dvc.lock")["stages"][TRAIN]["outs"]
    # Pairs, because metrics may have the stem of a checkpoint.
    produced = {(Path(out["path"]).stem, out["md5"]) for out in outs}
    if not row["md5"].items() <= produced:
        raise InputError(
            f"{point.name}: its checkpoints are not those of the table; if your pictures are not "
            "those of the last commit, `dvc add` and commit them; with train.precision=float32 "
            "another kind of CPU gives other bits; otherwise this is an error of ours"
        )
