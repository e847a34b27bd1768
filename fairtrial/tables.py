"""Tables of results, and how they are printed: aligned on a terminal, as Markdown or as LaTeX.

Names and values in them are shown as they are, whatever somebody wrote into a branch: what a
terminal would not print is escaped, and so is what Markdown or LaTeX would take for its own.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from scipy import stats

from fairtrial.project.errors import InputError, printable
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.statistics.comparison import Comparison
from fairtrial.project.scores import Revision
from fairtrial.project.revisions import describe_commit, read_files
from fairtrial.project.packages import pinned_versions

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

PACKAGES = ("torch", "torchvision", "numpy", "dvc")  # whose versions a report names


def params_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return all parameters, a row a parameter and a column a revision."""
    keys = dict.fromkeys(key for revision in revisions for key in revision.params)
    rows = [[str(revision.params.get(key, "(none)")) for revision in revisions] for key in keys]
    names = [revision.name for revision in revisions]
    table = pd.DataFrame(rows, list(keys), names, dtype=str)
    return table.reset_index(names="parameter", allow_duplicates=True)


def changed_params_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return the parameters that are not the same in all revisions, as `params_table` does."""
    table = params_table(revisions)
    is_changed = [
        len({_comparable(revision.params.get(key)) for revision in revisions}) > 1
        for key in table["parameter"]
    ]
    return table[is_changed]


def _comparable(value: Any) -> tuple[str, str]:
    """Return what is equal for equal values: 0 and 0.0 are the same number, but not false."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", repr(float(value)) if abs(value) < 2**53 else repr(value)
    return type(value).__name__, repr(value)


def accuracy_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return the accuracies of the revisions on their split, a row each."""
    rows = []
    for revision in revisions:
        n = revision.correct.shape[1]
        correct = int(revision.correct[0].sum())
        interval = stats.binomtest(correct, n).proportion_ci(0.95, "wilson")
        accuracies = revision.correct.mean(1)
        sd = accuracies.std(ddof=1) if len(accuracies) > 1 else None
        accuracy = {"value": correct / n, "low": interval.low, "high": interval.high}
        replicas = {"n": len(accuracies), "mean": accuracies.mean(), "sd": sd}
        rows.append({"revision": revision.name, **_accuracy_cells(n, accuracy, replicas)})
    return pd.DataFrame(rows)


def difference_table(first: Revision, comparisons: list[Comparison]) -> pd.DataFrame:
    """Return the differences from the first revision, one row per comparison."""
    return pd.DataFrame([_difference_cells(first.name, one) for one in comparisons])


def _difference_cells(first: str, comparison: Comparison) -> dict[str, str]:
    name, value, low, high, p = comparison[:5]
    is_paired = comparison.mcnemar_p is not None
    return {
        f"against {first}": name,
        "points": f"{100 * value:+.2f}",
        "95 % CI": "" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}",
        "p": "" if p is None else f"{p:.2g}",
        "seeds won": f"{comparison.won:g} of {comparison.pairs}" if comparison.pairs else "",
        "only B, only A": f"{comparison.only_b}, {comparison.only_a}" if is_paired else "",
        "McNemar": f"{comparison.mcnemar_p:.2g}" if is_paired else "",
    }


def metrics_table(names: list[str]) -> pd.DataFrame:
    """Return `metrics/evaluate.json` of revisions, a row a revision and split, val before test."""
    rows = []
    for name in names:
        [content] = read_files(name, "metrics/evaluate.json")
        with refuse_other_versions(name):
            for split, metrics in sorted(json.loads(content).items(), reverse=True):
                rows.append({"revision": name, "split": split, **metrics_cells(metrics)})
    return pd.DataFrame(rows)


def metrics_cells(metrics: dict[str, Any]) -> dict[str, str]:
    """Return the metrics of a split, as `metrics/evaluate.json` has them, as cells of a table."""
    return {
        **_accuracy_cells(metrics["n"], metrics["accuracy"], metrics["replicas"]),
        "ensemble %": f"{100 * metrics['ensemble']:.2f}",
        "cross-entropy": f"{metrics['cross_entropy']:.4f}",
        "calibration error": f"{metrics['calibration_error']:.4f}",
    }


def _accuracy_cells(n: int, accuracy: dict[str, float], replicas: dict[str, Any]) -> dict[str, str]:
    """Return the cells of an accuracy on n images: value, low and high; n, mean and sd of seeds."""
    sd = "" if replicas["sd"] is None else f" ± {100 * replicas['sd']:.2f}"
    return {
        "images": f"{n:,}",
        "accuracy %": f"{100 * accuracy['value']:.2f}",
        "95 % CI": f"{100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}",
        "seeds": str(replicas["n"]),
        "mean ± sd %": f"{100 * replicas['mean']:.2f}{sd}",
    }


def provenance_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return the commit, data and packages of revisions, a row an entry and a column a revision."""
    columns = {}
    for revision in revisions:
        name = revision.name
        paths = "metrics/prepare.json", "dvc.lock", "requirements.txt"
        prepared, lock, requirements = read_files(name, *paths)
        with refuse_other_versions(name):
            versions = pinned_versions(requirements.decode())
            outs = parse_yaml(lock.decode(), f"{name}: dvc.lock")["stages"]["prepare"]["outs"]
            columns[name] = {
                "commit": describe_commit(name),
                "data set": dataset_title(revision),
                "images": ", ".join(
                    f"{summary['n']:,} {split}" for split, summary in json.loads(prepared).items()
                ),
                **{f"MD5 of {out['path']}": out["md5"] for out in outs if "data/" in out["path"]},
                "packages": ", ".join(
                    f"{package} {versions[package]}" for package in PACKAGES if package in versions
                ),
            }
    return pd.DataFrame(columns).fillna("").reset_index(names="")


def dataset_title(revision: Revision) -> str:
    """Return the title of the data set that a revision is about, or the name of its pictures.

    Raises `InputError` if its data card has none.
    """
    source = revision.params.get("fetch.source")
    if source is None:  # before data sets had cards
        return str(revision.params.get("fetch.dataset", "unknown data"))
    if not str(source).endswith(".yaml"):
        return Path(str(source)).name
    [card] = read_files(revision.name, str(source))
    with refuse_other_versions(revision.name):
        return str(parse_yaml(card.decode(), f"{revision.name}: {source}")["title"])


@contextlib.contextmanager
def refuse_other_versions(name: str) -> Iterator[None]:
    """Raise `InputError` where a file of a revision lacks what this version of the tools reads."""
    try:
        yield
    except (
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise InputError(
            f"{name}: its results have another form than this version reads ({error!r}); "
            "`dvc repro` there makes them again, or compare with `python -m fairtrial.compare`"
        ) from None


def print_tables(tables: list[pd.DataFrame], lines: list[str]) -> None:
    """Print tables in aligned columns, without those that are empty, and then lines."""
    from rich.console import Console
    from rich.table import Table

    # Cells are printed as they are and never cut: the terminal wraps what is too wide for it.
    console = Console(width=10_000, highlight=False, markup=False, emoji=False)
    for frame in tables:
        if frame.empty:
            continue
        table = Table(box=None, header_style="bold", pad_edge=False)
        for index, column in enumerate(frame):
            justify: Literal["left", "right"] = "left" if index == 0 else "right"
            table.add_column(printable(str(column)), justify=justify, no_wrap=True)
        for row in frame.itertuples(index=False):
            table.add_row(*(printable(str(cell)) for cell in row))
        console.print(table)
        console.print()
    for line in lines:
        console.print(printable(line), soft_wrap=True)


def to_markdown(tables: list[pd.DataFrame], lines: list[str]) -> str:
    """Return tables, without those that are empty, and a list of lines as Markdown."""
    texts = [
        frame.astype(str)
        .map(escape_markdown)
        .rename(columns=escape_markdown)
        .to_markdown(index=False, disable_numparse=True)
        for frame in tables
        if not frame.empty
    ]
    return "\n\n".join([*texts, "\n".join(f"- {escape_markdown(line)}" for line in lines)])


def escape_markdown(text: str) -> str:
    """Return a text for a cell or a list; an underscore within a word means nothing."""
    return re.sub(r"[\\`*\[\]<>|&~]|\b_|_\b", r"\\\g<0>", printable(text))


def to_latex(tables: list[pd.DataFrame], lines: list[str]) -> str:
    """Return tables, without those that are empty, and lines as LaTeX, for the package booktabs."""
    texts = [_style_latex(frame) for frame in tables if not frame.empty]
    rendered = [
        text.to_latex(hrules=True, column_format="l" + "r" * (len(text.columns) - 1))
        for text in texts
    ]
    if lines:
        list_of_lines = _style_latex(pd.DataFrame({"line": lines})).hide(axis="columns")
        rendered.append(list_of_lines.to_latex(column_format="l"))
    return "\n".join(rendered)


def _style_latex(frame: pd.DataFrame) -> "Styler":
    """Return a table with its cells and columns escaped for LaTeX."""

    def protect(text: str) -> str:
        # After the end of a row, LaTeX takes these for arguments of its command.
        return f"{{}}{text}" if text.startswith(("[", "*")) else text

    columns = [printable(str(column)) for column in frame]
    return (
        frame.astype(str)
        .map(printable)
        .set_axis(columns, axis=1)
        .style.hide(axis="index")
        .format(protect, escape="latex")
        .format_index(protect, escape="latex", axis=1)
    )
