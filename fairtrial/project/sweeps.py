"""The folder of sweeps, and which experiments were chosen there as the best of how many."""

import json
from pathlib import Path

from fairtrial.project.errors import InputError
from fairtrial.project.files import write_json

SWEEPS = Path("sweeps")
CHOSEN = SWEEPS / "chosen.json"


def record_chosen(names: list[str], points: int) -> None:
    """Note that the experiments of these names were chosen as the best of this number of points."""
    write_json(CHOSEN, {**load_chosen(), **dict.fromkeys(names, points)})


def load_chosen() -> dict[str, int]:
    """Return from how many points each experiment of a sweep was chosen, by its name."""
    try:
        chosen: dict[str, int] = json.loads(CHOSEN.read_text(encoding="utf-8"))
        if not all(type(points) is int and points > 0 for points in chosen.values()):
            raise ValueError("a number of points is not a whole number above 0")
    except FileNotFoundError:
        return {}
    except (AttributeError, OSError, RecursionError, ValueError) as error:
        raise InputError(
            f"{CHOSEN}: invalid ({error}); remove it, and give the number of points by --best-of"
        ) from None
    return chosen
