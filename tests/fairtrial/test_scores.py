"""The reader of tables of scores, and the reader of YAML."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from fairtrial.project.errors import InputError
from fairtrial.project.scores import Revision, parse_scores
from fairtrial.project.yaml_reader import MAX_CHARS, MAX_DEPTH, parse_yaml
from tests.fairtrial.replicas import CONTRACT

COLUMNS = "accuracy.0,accuracy.1,loss.0,loss.1"
HEADER = f"split,example,group,label,{COLUMNS}"
ROWS = ["val,b,g,7,1,0,0.25,1e3", "test,b,g,7,0,0,-1,2", "val,a,h,x,0,0,3,4"]


def parse(*lines: str, header: str = HEADER, replicas: object = 2, split: str = "val") -> Revision:
    content = "\n".join([header, *lines, ""]).encode()
    params = {"train.replicas": replicas}
    return parse_scores("x", split, {"scores.csv": content}, params, CONTRACT)


def test_a_split_has_its_examples_in_the_order_of_their_identities() -> None:
    revision = parse(*ROWS)
    assert revision.examples.tolist() == ["a", "b"]
    assert revision.labels is not None and revision.labels.tolist() == ["x", "7"]
    assert revision.groups is not None and revision.groups.tolist() == ["h", "g"]
    assert revision.scores["accuracy"].tolist() == [[0, 1], [0, 0]]
    assert revision.scores["loss"].tolist() == [[3, 0.25], [4, 1000]]
    assert revision.replicas == 2
    assert parse(*ROWS, split="test").scores["loss"].tolist() == [[-1], [2]]
    assert parse(*reversed(ROWS)).scores["loss"].tolist() == revision.scores["loss"].tolist()


def test_columns_may_have_any_order_and_others_are_left_alone() -> None:
    header = "loss.1,accuracy.1,note,example,loss.0,accuracy.0,split,f1.0"
    revision = parse("4,0,hello,a,3,1,val,9", header=header)
    assert revision.scores["accuracy"].tolist() == [[1], [0]]
    assert revision.scores["loss"].tolist() == [[3], [4]]
    assert revision.labels is revision.groups is None


def test_names_are_read_as_they_are() -> None:
    """Also those that look like a number, or like nothing."""
    names = ["007", "7", "NA", "nan", "", "a, b", "ü", "two\nlines"]
    revision = parse(*(f'val,"{name}",g,"{name}",0,0,0,0' for name in names))
    assert revision.labels is not None
    assert revision.examples.tolist() == revision.labels.tolist() == sorted(names)


def test_several_tables_are_one() -> None:
    contents = {
        name: f"split,example,{COLUMNS}\n{rows}\n".encode()
        for name, rows in (("a.csv", "val,b,1,1,1,1"), ("b.csv", "val,a,0,0,0,0\ntest,a,0,0,0,0"))
    }
    params = {"train.replicas": 2}
    assert parse_scores("x", "val", contents, params, CONTRACT).examples.tolist() == ["a", "b"]
    contents["b.csv"] = contents["a.csv"]
    with pytest.raises(InputError, match=r"x: a\.csv and b\.csv: example b of val is there twice"):
        parse_scores("x", "val", contents, params, CONTRACT)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("val,a,g,7,1,0,x,1", "line 2: 'x' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,,1", "line 2: '' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,nan,1", "line 2: 'nan' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,-inf,1", "line 2: '-inf' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,-2e100,1", "line 2: '-2e100' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,1e999,1", "line 2: '1e999' is not a number of at most 1e+100"),
        ("val,a,g,7,True,0,1,1", "line 2: 'True' is not a number of at most 1e+100"),
        ("val,a,g,7,1,0,1", "line 2: has 7 values for 8 columns"),
        ("val,a,b,g,7,1,0,1,1", "line 2: has 9 values for 8 columns"),
        (f"val,a,g,7,1,0,1,1\n{ROWS[0]}\n{ROWS[0]}", "example b of val is there twice"),
        ("dev,a,g,7,1,0,1,1", "no example of split 'val'; known splits: dev"),
        ('val,"a,g,7,1,0,1,1', "line "),
        (f"val,{'a' * 200_000},g,7,1,0,1,1", "cannot be read (field larger than"),
        ("", "no example of split 'val'; known splits: none"),
    ],
)
def test_another_value_is_refused(row: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(row)
    [problem] = caught.value.args
    assert problem.startswith(f"x: scores.csv: {message}")


@pytest.mark.parametrize(
    ("header", "replicas", "message"),
    [
        ("", 1, "x: scores.csv: no column split, example"),
        (f"split,{COLUMNS}", 2, "x: scores.csv: no column example"),
        (f"{HEADER},label", 2, "x: scores.csv: several columns label"),
        (
            HEADER,
            1,
            "x: scores.csv: needs the columns accuracy.0 to accuracy.0, because train.repli",
        ),
        (
            HEADER,
            3,
            "x: scores.csv: needs the columns accuracy.0 to accuracy.2, because train.repli",
        ),
        ("split,example,f1.0", 1, "x: scores.csv: needs the columns accuracy.0 to accuracy.0, "),
        ("split,example,accuracy.0", 1, "x: scores.csv: needs the columns loss.0 to loss.0, beca"),
        (HEADER, 0, "x: params.yaml: train.replicas, the number of replicas, has to be a whole"),
        (HEADER, 10**12, "x: params.yaml: train.replicas, the number of replicas, has to be a wh"),
        (HEADER, True, "x: params.yaml: train.replicas, the number of replicas, has to be a whol"),
        (HEADER, None, "x: params.yaml: train.replicas, the number of replicas, has to be a whol"),
    ],
)
def test_other_columns_are_refused(header: str, replicas: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(*ROWS, header=header, replicas=replicas)
    [problem] = caught.value.args
    assert problem.startswith(message)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_scores_or_a_sentence(content: bytes, at: int) -> None:
    good = "\n".join([HEADER, *ROWS, ""]).encode()
    for text in (content, good[:at] + content + good[at:]):
        try:
            revision = parse_scores("x", "val", {"a": text}, {"train.replicas": 2}, CONTRACT)
        except InputError as error:
            assert error.args
        else:
            assert all(np.isfinite(table).all() for table in revision.scores.values())


@pytest.mark.parametrize(
    "text",
    ["a: 1\nb: [x, 0.5, null]", "a: &a {b: 1}\nc: {<<: *a, d: 2}", "", "\ufeffa: 1", "a: 1_000"],
)
def test_yaml_is_what_dvc_reads(text: str) -> None:
    assert parse_yaml(text.encode(), "x") == YAML(typ="safe").load(text.removeprefix("\ufeff"))


DOUBLED = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: 1\na: 2",
        "\x00",
        "a: *b",
        'a: "\\UFFFFFFFF"',
        "9" * 10_000,
        "a: 2020-13-45",
        "!!python/object:x y",
        "a: !!binary x",
        "<<: 3",
        b"\xff",
        "[" * 100_000,
        "- " * 3_000 + "a",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "a: &a [*a]",
        DOUBLED,
        f"a: {'x' * MAX_CHARS}",
        "a: [" + "1," * 200_000 + "]",
    ],
)
def test_hostile_yaml_is_refused_soon(text: str | bytes) -> None:
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x")
    [problem] = caught.value.args
    assert problem.startswith("x: ")
    assert "\n" not in problem
    assert time.process_time() - start < 5
