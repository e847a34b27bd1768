"""The contract in `dvc.yaml`: what it may say, and how a bad one is refused."""

import json
from typing import Any

import pytest

from fairtrial.project.contract import Contract, parse_contract
from fairtrial.project.errors import InputError

GOOD: dict[str, Any] = {
    "scores": "scores.csv",
    "split": "val",
    "seed": "fit.seed",
    "replicas": "fit.replicas",
    "metrics": {"error": {"better": "lower"}, "close": {"better": "higher", "unit": "%"}},
}


def parse(contract: Any, **stage: Any) -> Contract:
    """Return the contract of a stage `fit`; JSON is YAML."""
    stages = {"fit": {**stage, "meta": {"fairtrial": contract}}, "other": {"cmd": "true"}}
    return parse_contract(json.dumps({"stages": stages}).encode(), "workspace")


def test_what_it_says() -> None:
    contract = parse({**GOOD, "budget": "fit.epochs", "data": "points", "check": "a.b:check"})
    assert (contract.stage, contract.scores) == ("fit", ("scores.csv",))
    assert contract.default_metric == "error"
    assert (contract.sign("error"), contract.sign("close")) == (-1, 1)
    assert contract.metric("close")[1].unit == "%"
    assert contract.metric()[0] == "error"
    assert parse(GOOD).budget is None


def test_tables_may_be_several_and_lie_beside_what_the_stage_makes() -> None:
    assert parse({**GOOD, "scores": ["a.csv", "b/c.csv"]}).scores == ("a.csv", "b/c.csv")
    assert parse(GOOD, wdir="sub/../model").scores == ("model/scores.csv",)


def changed(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD, **changes}.items() if value != "left out"}


PLACE = "dvc.yaml: stages.fit.meta.fairtrial"


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (None, f"{PLACE}: has no keys"),
        ("scores.csv", f"{PLACE}: has no keys"),
        (changed(stage="fit"), f"{PLACE}: has no keys, or a key stage"),
        (changed(seed="left out"), f"{PLACE}.seed: is missing; "),
        (changed(sed="x"), f"{PLACE}.sed: unknown key; did you mean seed?"),
        (changed(colour="x"), f"{PLACE}.colour: unknown key; known: scores, split, seed"),
        (changed(scores=[]), f"{PLACE}.scores: "),
        (changed(scores=3), f"{PLACE}.scores: "),
        (changed(scores={"a": "b"}), f"{PLACE}.scores: "),
        (changed(scores=["a", 3]), f"{PLACE}.scores.1: "),
        (changed(seed=3), f"{PLACE}.seed: "),
        (changed(split=""), f"{PLACE}.split: "),
        (changed(metrics={}), f"{PLACE}.metrics: "),
        (changed(metrics={"f1": {}}), f"{PLACE}.metrics.f1.better: is missing"),
        (changed(metrics={"f1": {"better": "more"}}), f"{PLACE}.metrics.f1.better: "),
        (
            changed(metrics={"f1": {"better": "lower", "units": "s"}}),
            f"{PLACE}.metrics.f1.units: unknown key; did you mean unit?",
        ),
        (changed(check="no function"), f"{PLACE}.check: "),
    ],
)
def test_a_bad_one_is_refused_with_its_place(contract: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(contract)
    [problem] = caught.value.args
    assert problem.startswith(message)
    assert "\n" not in problem


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        parse(changed(seed=3, colour="x", metrics={}))
    assert len(caught.value.args) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "HEAD: dvc.yaml: has no stages"),
        ("stages: 3", "HEAD: dvc.yaml: has no stages"),
        ("stages: {a: 3}", "HEAD: dvc.yaml: no stage has `meta: fairtrial:`"),
        ("stages: {a: {meta: fairtrial}}", "HEAD: dvc.yaml: no stage has `meta: fairtrial:`"),
        (
            "stages: {a: {meta: {fairtrial: 1}}, b: {meta: {fairtrial: 1}}}",
            "HEAD: dvc.yaml: the stages a and b have `meta: fairtrial:`; keep one of them",
        ),
        ("a: [", "HEAD: dvc.yaml: line "),
    ],
)
def test_a_pipeline_without_one_contract_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_contract(text.encode(), "HEAD")
    assert str(caught.value).startswith(message)


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    for ask in (parse(GOOD).metric, parse(GOOD).sign):
        with pytest.raises(InputError, match=r"^unknown metric 'rmse'; known: error, close$"):
            ask("rmse")
