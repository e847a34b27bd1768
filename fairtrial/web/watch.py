"""Follow a training on a page: write it anew whenever the folder or the experiments change."""

import contextlib
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import pandas as pd

from stages.params import load_params
from stages.params.train import Train
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.results import default_revisions, load_results, locked_outputs
from fairtrial.project.revisions import git_output
from fairtrial.web.page import WATCH_SCRIPT, render_report, render_template
from fairtrial.web.plots import (
    BANDS,
    MAX_REVISIONS,
    REPLICAS,
    dvc_plots,
    load_dvc_plots,
    rows_of_replicas,
)

# What changes when a stage runs here, or an experiment in a folder of its own.
WATCHED = (
    "params.yaml",
    "dvc.lock",
    "metrics/*",
    ".dvc/tmp/rwlock",
    ".dvc/tmp/exps/tmp*/metrics/*",  # by `dvc queue start`
    ".dvc/tmp/exps/standalone/tmp*/metrics/*",  # by `dvc exp run --temp`
)


def watch(revisions: list[str], output: Path) -> NoReturn:
    """Write the page of revisions, and again whenever something has changed, until Ctrl-C.

    revisions: by default the folder, and HEAD if the two differ. Raises `InputError` if one is
    unknown at first, or if the page cannot be written.
    """
    written = None
    while True:
        start = time.monotonic()
        if (current := fingerprint()) != written:
            try:
                page = render_watched(revisions)
            except InputError:
                # A stage may remove what is just being read, so that it is read again.
                if written is None:
                    raise
            else:
                write_bytes(output, page.encode())
                if written is None:
                    print(f"{output}: open it; it follows until Ctrl-C", flush=True)
                written = current
        # For half of the time at most, since the training needs the processor.
        time.sleep(min(max(1.0, time.monotonic() - start), 5.0))


def fingerprint() -> tuple[object, ...]:
    """Return what is another whenever the folder, a branch or an experiment has changed."""
    stats = []
    for path in sorted(path for pattern in WATCHED for path in Path().glob(pattern)):
        with contextlib.suppress(FileNotFoundError):
            stats.append((path, path.stat().st_mtime_ns, path.stat().st_size))
    return git_output("for-each-ref"), *stats


def render_watched(revisions: list[str]) -> str:
    """Return the whole page, or while a revision has no results the curves alone."""
    try:
        return render_report(revisions or default_revisions(), watched=True)[0]
    except InputError as error:
        return render_curves(revisions or ["HEAD", "workspace"], error)


def render_curves(names: list[str], error: InputError) -> str:
    """Return a page of the curves of revisions, and of how far they are.

    error: why they have no whole page. It is raised if DVC does not know one of them at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            parts = load_dvc_plots(names, Path(folder))
        except InputError:
            raise error from None
        curves = {path: parts[path] for path in (*BANDS, REPLICAS) if path in parts}
        plots, _, _ = dvc_plots(curves, names)
    return render_template(
        ["plots.js", WATCH_SCRIPT],
        names=names,
        title="Training",
        progress=describe_progress(names, rows_of_replicas(parts)) or [str(error)],
        comparisons=[],
        remarks=[],
        tables=[],
        heads={},
        many=len(names) > MAX_REVISIONS,
        plots=plots,
    )


def describe_progress(names: list[str], epochs: pd.DataFrame) -> list[str]:
    """Return a sentence for each revision without results: how far it is, or what is wrong.

    epochs: as `rows_of_replicas` returns them.
    """
    lines = []
    for name in names:
        try:
            load_results(name, "val")
        except InputError as error:
            is_known = {"epoch", "replica", "rev"} <= set(epochs)
            own = epochs[epochs["rev"] == name] if is_known else epochs
            here = name == "workspace"
            if here and any(path.endswith(REPLICAS) for path in locked_outputs()):
                last = last_epoch(own, here) if len(own) else "in its first epoch"
                lines.append(f"{name}: the training is running, {last}")
            elif is_known and len(own):
                last = last_epoch(own, here)
                lines.append(f"{name}: no results yet; its curves end after {last}")
            else:
                lines.append(str(error))
    return lines


def last_epoch(epochs: pd.DataFrame, here: bool) -> str:
    """Say after which epoch the rows of a training end, and here, with `params.yaml`, of how many.

    epochs: its rows as `rows_of_replicas` returns them. Replicas are trained all at once, or one
    after the other.
    """
    last = epochs.groupby("replica", sort=False)["epoch"].last()
    if not here:
        return f"epoch {last.iloc[-1]}"
    params = load_params(Train, "train")
    epoch = f"epoch {last.iloc[-1]} of {params.epochs}"
    all_at_once = len(last) == params.replicas and last.nunique() == 1
    return epoch if all_at_once else f"replica {len(last)} of {params.replicas}, {epoch}"
