"""The folder of sweeps, and which settings were chosen there as the best of how many.

A choice is kept by the parameters, without the seed and the number of replicas: so it is found
from a branch, a tag, a copy or a longer training of what was chosen, too.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fairtrial.project.contract import Contract
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_json

SWEEPS = Path("sweeps")
CHOSEN = SWEEPS / "chosen.json"


class Chosen(BaseModel):
    """From how many settings one was chosen, and by what."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    settings: Annotated[int, Field(ge=1)]  # the largest number, of several choices
    splits: list[str]
    seeds: list[Any]


_FILE = TypeAdapter(dict[str, Chosen])


def record_chosen(points: list[dict[str, Any]], settings: int, contract: Contract) -> None:
    """Note that the settings of these parameters were chosen as the best of a number of settings.

    points: the parameters of each, by dotted name, with which it was scored on the split of the
        contract.
    """
    chosen = load_chosen()
    for params in points:
        key = settings_key(params, contract)
        seed = params.get(contract.seed)
        old = chosen.get(key, Chosen(settings=1, splits=[], seeds=[]))
        chosen[key] = Chosen(
            settings=max(settings, old.settings),
            splits=sorted({*old.splits, contract.split}),
            seeds=[*old.seeds, *([] if seed in old.seeds else [seed])],
        )
    write_json(CHOSEN, {key: one.model_dump() for key, one in chosen.items()})


def load_chosen() -> dict[str, Chosen]:
    """Return what was chosen in sweeps, by `settings_key`."""
    try:
        return _FILE.validate_json(CHOSEN.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(
            f"{CHOSEN}: invalid ({problem}); remove it, and give the number of points by --best-of"
        ) from None


def settings_key(params: dict[str, Any], contract: Contract) -> str:
    """Return a name for parameters that does not depend on the seed and the number of replicas."""
    rest = {
        key: value for key, value in params.items() if key not in (contract.seed, contract.replicas)
    }
    text = json.dumps(rest, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
