"""Compare revisions: how much better is each than the first, and is that more than noise?

A revision is what git or DVC calls one: a commit, branch or tag, `workspace`, an experiment.

    python -m tools.compare HEAD~1 HEAD
    python -m tools.compare main workspace slower --md
"""

import argparse
import io
import json
import math
import sys
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from stages.storage.errors import InputError, run
from tools.analysis.revisions import flat, read_files
from tools.analysis.significance import Array, Difference, difference, holm, mcnemar, needed

PREDICTIONS = "metrics/predictions.csv"


class Revision(NamedTuple):
    name: str
    images: Array  # int64 (N, 2): where in the raw split each image stands, and its label
    correct: Array  # bool (R, N): which images each replica gets right
    params: dict[str, Any]  # by dotted name
    data: str  # the hash of the images


class Comparison(NamedTuple):
    """What can be said of B against A."""

    name: str
    difference: Difference
    p: float  # of the difference, corrected for how many are compared with A
    only_a: int  # images that only A's own model gets right
    only_b: int
    mcnemar: float | None  # None where the images differ
    remarks: list[str]
    verdict: str


def read(name: str, split: str) -> Revision:
    """Return what a revision says of a split; raises `InputError` where it says nothing."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    predictions, *texts = read_files(name, PREDICTIONS, "params.yaml", "dvc.lock")
    try:
        table = pd.read_csv(io.BytesIO(predictions))
        params, lock = (dict(YAML(typ="safe").load(text)) for text in texts)
    except (TypeError, ValueError, YAMLError) as error:
        raise InputError(
            f"{name}: its results cannot be read ({' '.join(str(error).split())}); "
            "`dvc repro` there makes them again"
        ) from None
    wanted = {"split", "index", "label", "predicted"}
    if not wanted <= set(table):
        raise InputError(
            f"{name}: {PREDICTIONS} has no column {', '.join(sorted(wanted - set(table)))}; "
            "`dvc repro` there makes it again"
        )
    mine = table[table["split"] == split].sort_values("index")
    if mine.empty:
        raise InputError(
            f"{name}: {PREDICTIONS} has no image of {split}; `dvc repro` there makes it again"
        )
    columns = ["predicted", *(column for column in table if column.startswith("replica_"))]
    correct = mine["label"].to_numpy() == mine[columns].to_numpy().T
    path = f"data/prepared/{split}.safetensors"
    try:
        [data] = [out["md5"] for out in lock["stages"]["prepare"]["outs"] if out["path"] == path]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{name}: dvc.lock does not say which {path} it is of; `dvc repro` there says it"
        ) from None
    values = dict(flat(params))
    used: dict[str, Any] = {}
    for stage in lock["stages"].values():
        used |= stage.get("params", {}).get("params.yaml", {})
    if changed := [key for key, value in flat(used) if values.get(key, value) != value]:
        raise InputError(
            f"{name}: params.yaml has another {', '.join(changed)} than its results were made "
            "with; `dvc repro` there makes them anew"
        )
    images = mine[["index", "label"]].to_numpy()
    return Revision(name, images, correct, values, data)


def same_images(first: Revision, other: Revision) -> bool:
    return first.data == other.data and np.array_equal(first.images, other.images)


def same_seeds(first: Revision, other: Revision) -> bool:
    seeds = [(one.params.get("train.seed"), len(one.correct)) for one in (first, other)]
    return seeds[0] == seeds[1]


def compare(first: Revision, others: list[Revision]) -> list[Comparison]:
    """Return how each of the others stands against the first."""
    gaps = [
        difference(
            first.correct, other.correct, same_images(first, other), same_seeds(first, other)
        )
        for other in others
    ]
    found = []
    for other, gap, p in zip(others, gaps, holm([gap.p for gap in gaps]), strict=True):
        remarks = []
        only_a, only_b, p_of_two = 0, 0, None
        if same_images(first, other):
            only_a, only_b, p_of_two = mcnemar(first.correct[0], other.correct[0])
        else:
            remarks.append(
                "unpaired: other images or labels "
                f"({len(first.images):,} against {len(other.images):,})"
            )
        if 1 in (len(first.correct), len(other.correct)):
            remarks.append("one seed: how much the seed does is not known and not allowed for")
        said = verdict(gap, p, first, other, len(others))
        found.append(Comparison(other.name, gap, p, only_a, only_b, p_of_two, remarks, said))
    return found


def verdict(gap: Difference, p: float, first: Revision, other: Revision, several: int) -> str:
    """Return in words whether B is better or worse, or what it would take to know."""
    interval = f"95 % CI {100 * gap.low:.1f} to {100 * gap.high:.1f}"
    if p < 0.05:
        word = "better" if gap.value > 0 else "worse"
        corrected = f", Holm-corrected p = {p:.2g}" if several > 1 else ""
        return f"{other.name} is {word} ({100 * gap.value:+.1f} points, {interval}{corrected})"
    said = f"no difference shown ({100 * gap.value:+.1f} points, {interval})"
    if np.array_equal(first.correct, other.correct):
        return f"{said}: the same images are right in both"
    numbers = needed(gap, len(other.images), len(other.correct))
    wanted = [
        f"{rounded(number)} {what}"
        for number, what in zip(numbers, ("images", "seeds"), strict=True)
        if number is not None
    ]
    if not wanted:
        return said
    size = f"{100 * abs(gap.value):.2g} points"
    return f"{said}; at this noise about {' and '.join(wanted)} would be needed to see {size}"


def rounded(number: int) -> str:
    """Return a number with two significant digits: more would be false precision."""
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // step) * step:,}"


def tables(first: Revision, others: list[Revision], found: list[Comparison]) -> list[pd.DataFrame]:
    """Return what differs in the parameters, the accuracies, and the differences."""
    all_of_them = [first, *others]
    names = [revision.name for revision in all_of_them]
    keys = sorted({key for revision in all_of_them for key in revision.params})
    missing = "(none)"
    rows = {key: [str(one.params.get(key, missing)) for one in all_of_them] for key in keys}
    changed = {key: row for key, row in rows.items() if len(set(row)) > 1}
    parameters = pd.DataFrame(changed.values(), changed.keys(), names, dtype=str)
    accuracies = []
    for revision in all_of_them:
        right, n = int(revision.correct[0].sum()), revision.correct.shape[1]
        interval = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
        shares = revision.correct.mean(1)
        spread = f" ± {100 * shares.std(ddof=1):.2f}" if len(shares) > 1 else ""
        accuracies.append(
            {
                "images": f"{n:,}",
                "accuracy %": f"{100 * right / n:.2f}",
                "95 % CI": f"{100 * interval.low:.2f} to {100 * interval.high:.2f}",
                "seeds": str(len(shares)),
                "mean ± sd %": f"{100 * shares.mean():.2f}{spread}",
            }
        )
    differences = [
        {
            "points": f"{100 * one.difference.value:+.2f}",
            "95 % CI": f"{100 * one.difference.low:+.2f} to {100 * one.difference.high:+.2f}",
            "p": f"{one.p:.2g}",
            "P(better)": f"{one.difference.wins:.0%}",
            "alone": "" if one.mcnemar is None else f"{one.only_b}, {one.only_a}",
            "McNemar": "" if one.mcnemar is None else f"{one.mcnemar:.2g}",
        }
        for one in found
    ]
    return [
        parameters.reset_index(names="parameter", allow_duplicates=True),
        pd.DataFrame(accuracies, names).reset_index(names="revision"),
        pd.DataFrame(differences, [one.name for one in found])
        .rename_axis(f"against {first.name}")
        .reset_index(),
    ]


def figures(found: dict[str, Any]) -> dict[str, str]:
    """Return what `metrics/evaluate.json` has of a split as cells of a table."""
    accuracy, replicas = found["accuracy"], found["replicas"]
    spread = "" if replicas["sd"] is None else f" ± {100 * replicas['sd']:.2f}"
    return {
        "images": f"{found['n']:,}",
        "accuracy %": f"{100 * accuracy['value']:.2f}",
        "95 % CI": f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}",
        "seeds": str(replicas["n"]),
        "mean ± sd %": f"{100 * replicas['mean']:.2f}{spread}",
        "together %": f"{100 * found['ensemble']:.2f}",
        "cross-entropy": f"{found['cross_entropy']:.4f}",
        "calibration error": f"{found['calibration_error']:.4f}",
    }


def words(found: list[Comparison], split: str) -> list[str]:
    """Return the remarks and the verdicts, a line each."""
    lines = [f"{one.name}: {remark}" for one in found for remark in one.remarks]
    lines += [one.verdict for one in found]
    if split == "test":
        lines.append("choose by val: what was chosen by test is not tested any more")
    return lines


def show(parts: list[pd.DataFrame], lines: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.width = max(console.width, 120)  # rather broken lines than figures cut off
    for part in parts:
        if part.empty:
            continue
        table = Table(box=None, header_style="bold", pad_edge=False)
        for number, column in enumerate(part):
            side: Literal["left", "right"] = "left" if number == 0 else "right"
            table.add_column(str(column), justify=side, no_wrap=True)
        for row in part.itertuples(index=False):
            table.add_row(*map(str, row))
        console.print(table)
        console.print()
    for line in lines:
        console.print(line, soft_wrap=True)


def as_json(first: Revision, split: str, found: list[Comparison]) -> str:
    """Return the comparisons as JSON; what is not known is null."""
    values = [{**one._asdict(), "difference": one.difference._asdict()} for one in found]
    for value in values:
        for key, number in value["difference"].items():
            if math.isnan(number):
                value["difference"][key] = None
    return json.dumps({"first": first.name, "split": split, "others": values}, indent=2)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.compare", description="Compare revisions with the first of them."
    )
    parser.add_argument("first", metavar="A")
    parser.add_argument("others", metavar="B", nargs="+")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="print Markdown")
    form.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--fail-if-worse", action="store_true", help="exit with 1 if one is worse beyond doubt"
    )
    asked = parser.parse_args()
    first, *others = (read(name, asked.split) for name in (asked.first, *asked.others))
    found = compare(first, others)
    parts, lines = tables(first, others, found), words(found, asked.split)
    if asked.json:
        print(as_json(first, asked.split, found))
    elif asked.md:
        print(
            "\n\n".join(
                part.to_markdown(index=False, disable_numparse=True)
                for part in parts
                if not part.empty
            )
        )
        print("\n" + "\n".join(f"- {line}" for line in lines))
    else:
        show(parts, lines)
    if asked.fail_if_worse and any(one.p < 0.05 and one.difference.value < 0 for one in found):
        sys.exit(1)


if __name__ == "__main__":
    run(main)
