"""The predictions of a revision, read from its files."""

import json

import pytest

from stages.storage.errors import InputError
from fairtrial.project.results import parse_classes, parse_predictions

HEADER = "split,index,label,predicted,confidence,replica_1"


def test_names_of_classes_are_read_as_they_are() -> None:
    """Also those that look like a number, or like nothing."""
    classes = ["007", "7", "NA", "nan", "true", "a, b", "ü"]
    rows = [f'val,{n},"{name}","{name}",0.5,7' for n, name in enumerate(classes)]
    table = parse_predictions("\n".join([HEADER, *rows]).encode(), classes, "x")
    assert table["label"].tolist() == table["predicted"].tolist() == classes
    assert table["replica_1"].tolist() == ["7"] * len(classes)
    assert table["index"].tolist() == list(range(len(classes)))
    assert table["confidence"].tolist() == [0.5] * len(classes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("val,0,a,7,0.5,a", "another value than a class in its column predicted"),
        ("val,0,a,a,0.5,", "another value than a class in its column replica_1"),
        ("val,0,,a,0.5,a", "another value than a class in its column label"),
        ("val,0.5,a,a,0.5,a", "another value than a whole number in its column index"),
        ("val,,a,a,0.5,a", "another value than a whole number in its column index"),
        ("val,0,a,a,nan,a", "no confidences from 0 to 1"),
        ("val,0,a,a,1.5,a", "no confidences from 0 to 1"),
        ("val,0,a,a,1,a\nval,0,a,a,1,a", "image 0 of val twice"),
    ],
)
def test_another_value_is_refused(row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_predictions(f"{HEADER}\n{row}\n".encode(), ["a", "007"], "x")


def test_the_classes_are_those_of_the_metrics() -> None:
    assert parse_classes(b'{"val": {"recall": {"b": 1, "a": null}}}', "x") == ["b", "a"]


def test_before_they_had_names_they_were_numbered() -> None:
    assert parse_classes(json.dumps({"val": {"recall": [0.5] * 3}}).encode(), "x") == list("012")


@pytest.mark.parametrize("text", ["{}", "[]", "3", "{", '{"val": {"recall": 3}}', "[" * 100_000])
def test_metrics_without_classes_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"x: metrics/evaluate.json names no classes \("):
        parse_classes(text.encode(), "x")
