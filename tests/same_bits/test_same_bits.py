"""The same bits whichever instructions a CPU has and however many threads it runs."""

import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.project import ROOT

# The SHA-256 of all results of tests/same_bits/trainings.py and tests/same_bits/pictures.py. After
# a change that is meant to change them, take the values that these tests compute.
EXPECTED_PICTURES = "0cc8fd76ac1da0f9276a25d86d52e69abba98eb1bc78451d77ecacf8c14f7be1"
EXPECTED = "a0fea72ff81675be7328f62c6c97780ddd7e4492154b126f06a9dffbba2d7f46"

# A thread that waits sleeps. By default it spins, which takes 58 s of CPU time instead of 10 on two
# busy cores, and changes nothing in what is computed.
TWO_THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}

# On a CPU with AVX-512 each of these gives other results by torch in float32.
ENVIRONMENTS = {
    "as it is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL for any CPU": {"MKL_CBWR": "COMPATIBLE"},
    "two threads": TWO_THREADS,
    "two threads, no vectors, MKL for any CPU": {
        **TWO_THREADS,
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_CBWR": "COMPATIBLE",
    },
}
# `make test` compares these two, and `make test-all` the others too.
FAST = ("as it is", "AVX2")


def run(module: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """Run a module of tests/same_bits with one thread and return what it prints."""
    out = subprocess.run(
        [sys.executable, "-m", f"tests.same_bits.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    output: dict[str, Any] = json.loads(out)
    return output


def digest(results: object) -> str:
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in ENVIRONMENTS],
)
def test_every_environment_gives_the_committed_bits(name: str) -> None:
    environment = ENVIRONMENTS[name]
    output = run("trainings", **environment)
    # torch has taken the variables into account:
    assert output["threads"] == int(environment.get("OMP_NUM_THREADS", "1"))
    capability = environment.get("ATEN_CPU_CAPABILITY")
    assert capability is None or output["capability"].lower() == capability
    assert len(set(output["results"].values())) == len(output["results"]) >= 46
    assert digest(output["results"]) == EXPECTED


def test_pictures_of_every_kind_give_the_committed_images() -> None:
    results = run("pictures")["results"]
    assert len({result["images"] for result in results.values()}) > 60
    assert digest(results) == EXPECTED_PICTURES


@pytest.mark.slow
def test_float32_shows_that_the_environments_differ() -> None:
    outputs = {
        name: run("trainings", "float32", **environment)
        for name, environment in ENVIRONMENTS.items()
    }
    if outputs["as it is"]["capability"] == "DEFAULT":
        pytest.skip("this CPU has no vector instructions to switch off")
    different = {json.dumps(output["results"], sort_keys=True) for output in outputs.values()}
    # Without AVX-512, "as it is" and "AVX2" are one.
    assert len(different) >= len(ENVIRONMENTS) - (outputs["as it is"]["capability"] != "AVX512")
