"""Tables of scores, and how they are printed: aligned on a terminal, as Markdown or as LaTeX.

Names and values are shown as they are, whatever somebody wrote into a branch: characters that a
terminal would not print, or that Markdown or LaTeX would interpret, are escaped.
"""

import re
from collections.abc import Callable, Iterator

import pandas as pd
from tabulate import tabulate

from fairtrial.project.contract import Metric
from fairtrial.project.errors import InputError, printable
from fairtrial.project.revisions import describe_commit, read_files
from fairtrial.project.scores import Revision
from fairtrial.project.staleness import LOCK
from fairtrial.project.yaml_reader import parse_yaml
from fairtrial.statistics.comparison import Comparison
from fairtrial.statistics.significance import Array, mean_interval

PACKAGES = "torch", "torchvision", "tensorflow", "jax", "scikit-learn", "numpy", "dvc"


def params_table(revisions: list[Revision], only_changed: bool = False) -> pd.DataFrame:
    """Return the parameters, a row for each and a column for each revision."""
    rows = []
    for key in dict.fromkeys(key for revision in revisions for key in revision.params):
        first, *others = (revision.params.get(key) for revision in revisions)
        # 0 and 0.0 are the same number, but not false.
        is_changed = any(
            other != first or isinstance(other, bool) != isinstance(first, bool) for other in others
        )
        if is_changed or not only_changed:
            rows.append([key, *(str(revision.params.get(key, "(none)")) for revision in revisions)])
    heads = ["parameter", *(revision.name for revision in revisions)]
    return pd.DataFrame(rows, columns=heads, dtype=str)


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
        rows.append(
            {
                "revision": revision.name,
                "examples": f"{len(revision.examples):,}",
                f"{name}{unit}": metric.text(scores[0].mean()),
                "95 % CI": f"{low} to {high}",
                "seeds": str(revision.replicas),
                f"mean ± sd{unit}": spread_text(scores, metric),
            }
        )
    return pd.DataFrame(rows)


def spread_text(scores: Array, metric: Metric) -> str:
    """Return the mean of scores (R, N), with the standard deviation over the replicas."""
    means = scores.mean(1)
    return mean_text(means.mean(), means.std(ddof=1) if len(means) > 1 else None, metric)


def mean_text(mean: float, sd: float | None, metric: Metric) -> str:
    """Return a mean over replicas with their standard deviation, which one replica lacks."""
    return metric.text(mean) if sd is None else f"{metric.text(mean)} ± {metric.text(sd)}"


def difference_table(
    first: Revision, comparisons: list[Comparison], metric: Metric
) -> pd.DataFrame:
    """Return the differences from the first revision, a row for each comparison."""
    unit = metric.points.strip() if metric.unit == "%" else f"difference{metric.points}"

    def signed(number: float) -> str:
        return metric.text(number, "+.2f", "+.4g")

    rows = []
    for one in comparisons:
        row = {
            f"against {first.name}": one.name,
            unit: signed(one.value),
            "95 % CI": "",
            "p": "" if one.p is None else f"{one.p:.2g}",
            "seeds won": f"{one.won:g} of {one.pairs}" if one.pairs else "",
        }
        if one.low is not None and one.high is not None:
            row["95 % CI"] = f"{signed(one.low)} to {signed(one.high)}"
        if one.mcnemar_p is not None:
            row["only B, only A"] = f"{one.only_b}, {one.only_a}"
            row["McNemar"] = f"{one.mcnemar_p:.2g}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def provenance_table(revisions: list[Revision]) -> pd.DataFrame:
    """Return the commit, data and packages of revisions, a row an entry and a column a revision."""
    from fairtrial.project.packages import describe_versions

    columns = {}
    for revision in revisions:
        [lock] = read_files(revision.name, LOCK)
        stages = parse_yaml(lock, f"{revision.name}: {LOCK}")["stages"]
        outs = stages.get(revision.contract.data, {}).get("outs", [])
        try:
            [requirements] = read_files(revision.name, "requirements.txt")
        except InputError:
            requirements = b""  # not every project pins its packages
        columns[revision.name] = {
            "commit": describe_commit(revision.name),
            "examples": f"{len(revision.examples):,} of {revision.split}",
            **{f"MD5 of {out['path']}": str(out.get("md5")) for out in outs},
            "packages": describe_versions(requirements, PACKAGES),
        }
    return pd.DataFrame(columns).fillna("").reset_index(names="")


def print_tables(tables: list[pd.DataFrame], lines: list[str]) -> None:
    """Print tables in aligned columns, without those that are empty, and then lines."""
    for table in _rendered(tables, "plain", printable):
        print(table, end="\n\n")
    for line in lines:
        print(printable(line))


def to_markdown(tables: list[pd.DataFrame], lines: list[str]) -> str:
    """Return tables, without those that are empty, and a list of lines as Markdown."""
    texts = _rendered(tables, "pipe", escape_markdown)
    return "\n\n".join([*texts, "\n".join(f"- {escape_markdown(line)}" for line in lines)])


def to_latex(tables: list[pd.DataFrame], lines: list[str]) -> str:
    """Return tables, without those that are empty, and lines as LaTeX, for the package booktabs."""
    tables = [*tables, pd.DataFrame({"result": lines}, dtype=str)]
    text = "\n".join(_rendered(tables, "latex_booktabs", printable))
    text = re.sub(r"^ +| +(?= )", "", text, flags=re.MULTILINE)
    text = re.sub(r"\b(\d[\d.]*)e(?:\+|(-))0*(\d+)\b", r"$\1 \\times 10^{\2\3}$", text)
    text = text.replace("\u00b1", r"$\pm$")
    # After the end of a row, LaTeX takes these for arguments of its command.
    return re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)


def escape_markdown(text: str) -> str:
    """Return a text for a cell or a list; an underscore within a word means nothing."""
    return re.sub(r"[\\`*\[\]<>|&~]|\b_|_\b", r"\\\g<0>", printable(text))


def _rendered(tables: list[pd.DataFrame], form: str, escape: Callable[[str], str]) -> Iterator[str]:
    """Yield the tables that are not empty in a form of `tabulate`, with each text escaped."""
    for table in tables:
        if not table.empty:
            heads = [escape(str(column)) for column in table]
            yield tabulate(
                [heads, *table.map(lambda cell: escape(str(cell))).to_numpy().tolist()],
                # Without a line under it a head is like other rows; tabulate would widen it.
                () if form == "plain" else "firstrow",
                form,
                disable_numparse=True,
                colalign=["left", *["right"] * (len(table.columns) - 1)],
            )
