"""The same bits whichever instructions a CPU has and however many threads it runs."""

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.project import ROOT

# Of all results of tests/same_bits/trainings.py. After a change that is meant to change them, take the
# value that this test finds.
EXPECTED = "49f74cbf2c2740783db0b87b8824dd6209a679b76c4f0268800f25fa13799232"

# On a CPU with AVX-512 each of these gives other results in float32.
ENVIRONMENTS = {
    "as it is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL for any CPU": {"MKL_CBWR": "COMPATIBLE"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "two threads, no vectors, MKL for any CPU": {
        "OMP_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
    },
}


def run(environment: dict[str, str], precision: str = "exact") -> dict[str, Any]:
    out = subprocess.run(
        [sys.executable, "-m", "tests.same_bits.trainings", precision],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    found: dict[str, Any] = json.loads(out)
    return found


def digest(found: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found["results"], sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_environment_gives_the_committed_bits(name: str) -> None:
    environment = ENVIRONMENTS[name]
    found = run(environment)
    # That the variable was heeded:
    assert found["threads"] == int(environment.get("OMP_NUM_THREADS", "1"))
    wanted = environment.get("ATEN_CPU_CAPABILITY")
    assert wanted is None or found["capability"].lower() == wanted
    assert len(set(found["results"].values())) == len(found["results"]) >= 43
    assert digest(found) == EXPECTED


def test_float32_shows_that_the_environments_differ() -> None:
    found = {name: run(environment, "float32") for name, environment in ENVIRONMENTS.items()}
    if found["as it is"]["capability"] == "DEFAULT":
        pytest.skip("this CPU has no vector instructions to switch off")
    different = {json.dumps(of["results"], sort_keys=True) for of in found.values()}
    # Without AVX-512, "as it is" and "AVX2" are one.
    assert len(different) >= len(ENVIRONMENTS) - (found["as it is"]["capability"] != "AVX512")
