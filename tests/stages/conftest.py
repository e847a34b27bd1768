"""What tests of several stages share."""

import importlib
from collections.abc import Callable

import pytest

from stages.storage.errors import InputError
from tests.helpers.project import Project


@pytest.fixture
def refusal(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that runs a stage in `project`, and returns why it refuses its input.

    The stage runs in this process, because a process of its own would take a second to import
    torch. tests/stages/test_params.py runs each stage by its command, and checks that a refusal
    is a line on stderr and exit status 2.
    """
    monkeypatch.chdir(project.path)

    def run(stage: str) -> str:
        with pytest.raises(InputError) as caught:
            importlib.import_module(f"stages.{stage}").main()
        return str(caught.value)

    return run
