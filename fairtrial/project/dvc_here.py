"""Run DVC with the configuration of this folder for all revisions, each of which may be anybody's.

A configuration can name programs that give credentials, and folders of databases that run code when
DVC reads them.

    python -m fairtrial.project.dvc_here plots diff main HEAD
"""

import sys

from dvc.cli import main
from dvc.config import Config
from dvc.repo import Repo

if __name__ == "__main__":
    Repo.config = Config.from_cwd()
    sys.exit(main(sys.argv[1:]))
