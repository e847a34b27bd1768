"""The packages that a project pins in `requirements.txt`, and those that are installed."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fairtrial.project.errors import InputError

REQUIREMENTS = "requirements.txt"


def pinned_versions(requirements: str) -> dict[str, str]:
    """Return the versions that a requirements.txt pins for this Python, by package name."""
    from packaging.requirements import InvalidRequirement, Requirement

    pins = {}
    for line in re.findall(r"^[\w.-]+(?:\[[^\]\n]*\])?==[^\\\n#]+", requirements, re.MULTILINE):
        try:
            pin = Requirement(line.partition(" --")[0].strip())  # without hashes
        except InvalidRequirement:
            continue  # pip would refuse it; it pins nothing
        if not pin.marker or pin.marker.evaluate():
            pins[pin.name] = str(pin.specifier).removeprefix("==")
    return pins


def describe_versions(requirements: bytes, packages: Iterable[str]) -> str:
    """Return the versions that a requirements.txt pins of some packages, as one text."""
    versions = pinned_versions(requirements.decode(errors="replace"))
    return ", ".join(f"{name} {versions[name]}" for name in packages if name in versions)


def refuse_other_packages(folder: Path) -> None:
    """Raise `InputError` if an installed package is not of the version that a project pins.

    Packages that are pinned and not installed are left out: whatever needs one says so itself.
    """
    try:
        requirements = (folder / REQUIREMENTS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    problems = []
    for name, pinned in pinned_versions(requirements).items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            continue
        if installed.partition("+")[0] != pinned.partition("+")[0]:  # of torch for a CPU: 2.1+cpu
            problems.append(f"{name} {installed} instead of {pinned}")
    if problems:
        raise InputError(
            f"{REQUIREMENTS}: {', '.join(problems)}: install the pinned versions, because others "
            "may give other results"
        )
