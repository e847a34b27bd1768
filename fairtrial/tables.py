"""Tables of scores, and how they are printed: aligned on a terminal, as Markdown or as LaTeX.

Names and values are shown as they are, whatever somebody wrote into a branch: characters that a
terminal would not print, or that Markdown or LaTeX would interpret, are escaped.
"""

import re
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError, printable
from fairtrial.project.lock import LOCK
from fairtrial.project.revisions import describe_commit, read_files
from fairtrial.project.scores import Revision
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.statistics.comparison import Comparison
from fairtrial.statistics.significance import mean_interval

if TYPE_CHECKING:
    from pandas.io.formats.style import Styler

PACKAGES = "torch", "torchvision", "tensorflow", "jax", "scikit-learn", "numpy", "dvc"


def params_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return all parameters, a row for each and a column for each revision."""
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
    """Return the same for equal values: 0 and 0.0 are the same number, but not false."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number", repr(float(value)) if abs(value) < 2**53 else repr(value)
    return type(value).__name__, repr(value)


def scores_table(revisions: list[Revision], name: str, metric: Metric) -> pd.DataFrame:
    """Return the scores of revisions on their split, a row for each.

    The second and third columns are about the first replica and its examples, the last two about
    all replicas.
    """
    unit = f" {metric.unit}".rstrip()
    rows = []
    for revision in revisions:
        scores = revision.scores[name]
        low, high = map(metric.text, mean_interval(scores[0]))
        means = scores.mean(1)
        sd = means.std(ddof=1) if len(means) > 1 else None
        rows.append(
            {
                "revision": revision.name,
                "examples": f"{len(revision.examples):,}",
                f"{name}{unit}": metric.text(scores[0].mean()),
                "95 % CI": f"{low} to {high}",
                "seeds": str(len(means)),
                f"mean ± sd{unit}": mean_text(means.mean(), sd, metric),
            }
        )
    return pd.DataFrame(rows)


def mean_text(mean: float, sd: float | None, metric: Metric) -> str:
    """Return a mean over replicas with their standard deviation, which one replica lacks."""
    return metric.text(mean) if sd is None else f"{metric.text(mean)} ± {metric.text(sd)}"


def difference_table(
    first: Revision, comparisons: list[Comparison], metric: Metric
) -> pd.DataFrame:
    """Return the differences from the first revision, a row for each comparison."""
    rows = [_difference_cells(first.name, one, metric) for one in comparisons]
    if all(one.mcnemar_p is None for one in comparisons):
        rows = [{key: row[key] for key in list(row)[:5]} for row in rows]
    return pd.DataFrame(rows)


def _difference_cells(first: str, comparison: Comparison, metric: Metric) -> dict[str, str]:
    name, value, low, high, p = comparison[:5]
    mcnemar_p = comparison.mcnemar_p
    unit = metric.points.strip() if metric.unit == "%" else f"difference{metric.points}"

    def signed(number: float) -> str:
        return metric.text(number, "+.2f", "+.4g")

    return {
        f"against {first}": name,
        unit: signed(value),
        "95 % CI": "" if low is None or high is None else f"{signed(low)} to {signed(high)}",
        "p": "" if p is None else f"{p:.2g}",
        "seeds won": f"{comparison.won:g} of {comparison.pairs}" if comparison.pairs else "",
        "only B, only A": "" if mcnemar_p is None else f"{comparison.only_b}, {comparison.only_a}",
        "McNemar": "" if mcnemar_p is None else f"{mcnemar_p:.2g}",
    }


def provenance_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return the commit, data and packages of revisions, a row an entry and a column a revision."""
    from fairtrial.project.packages import pinned_versions

    columns = {}
    for revision in revisions:
        [lock] = read_files(revision.name, LOCK)
        stages = parse_yaml(lock, f"{revision.name}: {LOCK}")["stages"]
        outs = stages.get(revision.contract.data, {}).get("outs", [])
        try:
            [requirements] = read_files(revision.name, "requirements.txt")
        except InputError:
            requirements = b""  # not every project pins its packages
        versions = pinned_versions(requirements.decode(errors="replace"))
        columns[revision.name] = {
            "commit": describe_commit(revision.name),
            "examples": f"{len(revision.examples):,} of {revision.split}",
            **{f"MD5 of {out['path']}": str(out.get("md5")) for out in outs},
            "packages": ", ".join(
                f"{package} {versions[package]}" for package in PACKAGES if package in versions
            ),
        }
    return pd.DataFrame(columns).fillna("").reset_index(names="")


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
