"""The stage that `docs/stages.md` adds to the pipeline."""

import re

from tests.helpers.project import ROOT, Project


def add_documented_stage(project: Project) -> None:
    """Add the stage `disagree` to a project, as `docs/stages.md` says."""
    text = (ROOT / "docs/stages.md").read_text()
    for said, language, content in re.findall(r"(?m)(^.*):\n\n```(\w+)\n((?s:.*?))```", text):
        for name in re.findall(r"`([\w/]+\.\w+)`", said):
            path = project.path / name
            if not path.exists():
                path.write_text(content)
            elif language == "yaml":
                before, mark, after = path.read_text().partition("\nplots:\n")
                path.write_text(f"{before}\n{content}{mark}{after}")
    project.edit(
        "stages/check.py",
        "    evaluate: Evaluate\n",
        "    evaluate: Evaluate\n    disagree: Disagree\n",
    )
    project.edit(
        "stages/check.py",
        "from stages.params.evaluate",
        "from stages.params.disagree import Disagree\nfrom stages.params.evaluate",
    )
