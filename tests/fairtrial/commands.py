"""Commands of fairtrial in the process of a test, for those that refuse their input at once."""

import argparse

import pytest

from fairtrial import sweep
from fairtrial.project.errors import InputError
from tests.helpers.project import Project


def refused(project: Project, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Return why a sweep of a project is refused; nothing may have run or been written."""
    monkeypatch.chdir(project.path)
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    with pytest.raises(InputError) as caught:
        sweep.main(parser.parse_args(arguments))
    assert not (project.path / "sweeps").exists()
    assert len(caught.value.args) <= 3
    return str(caught.value)
