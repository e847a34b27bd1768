"""What `docs/stages.md` adds to the pipeline: a parameter, a model and a stage."""

import re

from tests.helpers.project import ROOT, Project


def apply_documented_change(project: Project, section: str) -> None:
    """Change a project as the diff of a section of `docs/stages.md` says."""
    text = (ROOT / "docs/stages.md").read_text().partition(f"\n## {section}\n")[2]
    [diff] = re.findall(r"```diff\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    (project.path.parent / "change.diff").write_text(diff)
    project.run("git", "apply", str(project.path.parent / "change.diff"))


def add_documented_stage(project: Project) -> None:
    """Add the stage `disagree` to a project, as `docs/stages.md` says."""
    text = (ROOT / "docs/stages.md").read_text()
    for name, language, content in re.findall(
        r"`([\w/.]+)`:\n\n```(\w+)\n(.*?)```", text, re.DOTALL
    ):
        path = project.path / name
        if not path.exists():
            path.write_text(content)
        elif language == "yaml":
            whole = path.read_text()
            before, mark, after = whole.partition("\nartifacts:\n")
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
    check = "      - stages/params/__init__.py\n"
    path = project.path / "dvc.yaml"
    path.write_text(
        path.read_text().replace(check, f"{check}      - stages/params/disagree.py\n", 1)
    )
