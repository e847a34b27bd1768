"""Follow a training on a page: write it again whenever the folder or the experiments change."""

import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from fairtrial.project.contract import DVC_YAML
from fairtrial.project.errors import InputError
from fairtrial.project.files import write_bytes
from fairtrial.project.pipeline import listed_paths
from fairtrial.project.revisions import git_output, locked_outputs, read_files
from fairtrial.project.scores import default_revisions, load_scores
from fairtrial.web.page import WATCH_SCRIPT, render_report, render_template
from fairtrial.web.plots import (
    MAX_REVISIONS,
    OWN_COLUMNS,
    Parts,
    dvc_plots,
    load_dvc_plots,
    plot_files,
)

# These change when a stage runs here, or an experiment in a folder of its own.
WATCHED = "params.yaml", "dvc.lock", ".dvc/tmp/rwlock"
FOLDERS = "", ".dvc/tmp/exps/tmp*/", ".dvc/tmp/exps/standalone/tmp*/"  # of a queue, and --temp


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
                # A stage may remove what is just being read; the next try reads it again.
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
    """Return a value that changes when the folder, a branch or an experiment changes."""
    paths = [*WATCHED, *makers()]
    found = {path for folder in FOLDERS for name in paths for path in Path().glob(folder + name)}
    stats = []
    for path in sorted(found):
        with contextlib.suppress(FileNotFoundError):
            stats.append((path, path.stat().st_mtime_ns, path.stat().st_size))
    return git_output("for-each-ref"), *stats


def makers() -> dict[str, str]:
    """Return the stage that makes each path, by the `dvc.yaml` of the folder."""
    [content] = read_files("workspace", DVC_YAML)
    return {path: stage for stage, key, path in listed_paths(content) if key != "deps"}


def render_watched(revisions: list[str]) -> str:
    """Return the page, or while a revision has no results, only the plots that there are."""
    try:
        return render_report(revisions or default_revisions(), watched=True)[0]
    except InputError as error:
        return render_progress(revisions or ["HEAD", "workspace"], error)


def render_progress(names: list[str], error: InputError) -> str:
    """Return a page of the plots of revisions, and of how far they are.

    While a stage runs in the folder, these are the plots that it makes: later ones are old.

    error: why they have no results. It is raised if DVC does not know one of them at all.
    """
    made_by = makers()
    running = {made_by.get(os.path.relpath(path), "") for path in locked_outputs()} - {""}
    with tempfile.TemporaryDirectory() as folder:
        try:
            parts = load_dvc_plots(names, Path(folder))
        except InputError:
            raise error from None
        if running:
            files = plot_files(names[-1])
            parts = {
                name: of_name
                for name, of_name in parts.items()
                if running.intersection(made_by.get(path, "") for path in files.get(name, [name]))
            }
        progress = [describe_progress(name, parts, running) for name in names]
        plots, _, _ = dvc_plots(parts, names, set())
    return render_template(
        [WATCH_SCRIPT],
        names=names,
        title="Training",
        progress=list(filter(None, progress)) or [str(error)],
        comparisons=[],
        remarks=[],
        tables=[],
        many=len(names) > MAX_REVISIONS,
        plots=plots,
    )


def describe_progress(name: str, parts: Parts, running: set[str]) -> str | None:
    """Return a sentence about a revision without results: how far it is, or what is wrong.

    parts: what DVC draws. running: the stages that run in the folder.
    """
    try:
        load_scores(name)
    except InputError as error:
        line = str(error)
    else:
        return None
    if name == "workspace" and running:
        line = f"workspace: the stage {' and '.join(sorted(running))} is running"
    for path, of_path in parts.items():
        contents = [part["content"] for part in of_path if part["type"] != "image"]
        rows = [row for content in contents for row in content["data"]["values"]]
        if own := [row for row in rows if row["rev"] == name]:
            values = [f"{key} {own[-1][key]}" for key in own[-1] if key not in OWN_COLUMNS]
            return f"{line}; last row of {path}: {', '.join(values)}"
    return line
