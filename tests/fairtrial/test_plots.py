"""The plots that are not DVC's own."""

from xml.etree import ElementTree

import pandas as pd

from fairtrial.search.chart import draw_chart, sweep_plots
from fairtrial.web.plots import Split, adapt_dvc_plot, precision_and_recall, recall_differences


def split(right: dict[str, int], images: int = 10) -> Split:
    """Return made-up predictions of so many images a class, some of them right."""
    names = list(right)
    other = dict(zip(names, names[1:] + names[:1], strict=True))
    rows = [
        {"label": name, "predicted": name if number < right[name] else other[name]}
        for name in sorted(names)
        for number in range(images)
    ]
    return Split("a", "val", pd.DataFrame(rows), names)


def test_classes_stand_in_their_order() -> None:
    plot = precision_and_recall([split({"zebra": 9, "ant": 8, "007": 7})])
    x = plot.spec["spec"]["layer"][0]["encoding"]["x"]
    assert (x["field"], x["sort"]) == ("class", ["zebra", "ant", "007"])
    recalls = {
        row["class"]: row["proportion"]
        for row in plot.spec["data"]["values"]
        if row["panel"] == "recall on val"
    }
    assert recalls == {"zebra": 0.9, "ant": 0.8, "007": 0.7}


def test_revisions_stand_in_the_order_of_the_legend() -> None:
    right = {"zebra": 9, "ant": 8}
    plot = precision_and_recall([split(right)._replace(revision=name) for name in "bca"])
    x_offset = plot.spec["spec"]["layer"][0]["encoding"]["xOffset"]
    assert x_offset == {"field": "revision", "sort": ["b", "c", "a"]}


def test_revisions_without_a_class_in_common_have_no_recalls_to_compare() -> None:
    digits, letters = split({"0": 9, "1": 8}), split({"a": 9, "b": 8})
    plot = recall_differences([digits, letters._replace(revision="b")])
    assert plot.spec["data"]["values"] == []
    same = recall_differences([digits, digits._replace(revision="b")])
    assert [row["points"] for row in same.spec["data"]["values"]] == [0, 0]
    assert same.spec["encoding"]["color"]["scale"]["domain"] == [-1, 1]


def test_a_chart_shows_what_a_sweep_varies_with_its_values() -> None:
    values = {"train.lr": [0.003, 0.01], "train.epochs": [2, 2], "accuracy": [0.5, 0.75]}
    plots = sweep_plots(pd.DataFrame(values), ["train.lr", "train.epochs"], "accuracy")
    svg = draw_chart(plots)["svg"]
    texts = [text.text for text in ElementTree.fromstring(svg).findall(".//{*}text")]
    assert {"train.lr", "0.003", "0.01"} <= set(texts)
    assert "train.epochs" not in texts


def test_of_many_classes_those_of_the_lowest_recall_are_shown() -> None:
    right = {f"class {number}": number % 10 for number in range(40)}
    plot = precision_and_recall([split(right)])
    assert plot.title == "Precision and recall of the 30 classes with the lowest recall"
    shown = [name for name, count in right.items() if count < 7]
    shown += [name for name, count in right.items() if count == 7][:2]
    x = plot.spec["spec"]["layer"][0]["encoding"]["x"]
    assert x["sort"] == [name for name in right if name in shown]
    assert {row["class"] for row in plot.spec["data"]["values"]} == set(shown)
    assert {row["images"] for row in plot.spec["data"]["values"] if "recall" in row["panel"]} == {
        10
    }


def test_a_class_that_looks_like_a_number_stays_a_name_in_the_confusion_matrix() -> None:
    spec = {
        "title": {"text": "Confusion matrix"},
        "data": {"values": [{"rev": "a", "label": "007", "predicted": "7"}]},
        "encoding": {"x": {"field": "predicted"}, "y": {"field": "label"}, "c": {"field": "rev"}},
    }
    [plot] = adapt_dvc_plot(spec, ["a"])
    data = plot.spec["data"]
    assert data["values"].splitlines() == ["rev,label,predicted", "a,007,7"]
    assert data["format"] == {"type": "csv", "parse": {"label": "string", "predicted": "string"}}
