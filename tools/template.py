"""Make a project of your own of this template: give it a title, remove parts.

python -m tools template rename "Leaves of trees"
python -m tools template remove draw recipes
"""

import argparse
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from stages.storage.errors import InputError
from stages.storage.files import write_bytes


class Part(NamedTuple):
    """What may be removed without another part of the project missing it."""

    paths: tuple[str, ...]
    words: str  # a regular expression: a row of a table that has them is about this part
    section: str = ""  # of docs/sharing.md or docs/data.md


PARTS = {
    "card": Part(
        ("tools/card.py", "tools/card.md.jinja", "tests/tools/test_card.py"),
        "tools card",
        "A model card",
    ),
    "draw": Part(("tools/draw.py", "tools/canvas", "tests/tools/test_draw.py"), "tools draw"),
    "export": Part(
        ("tools/export.py", "tests/tools/test_export.py"), "tools export", "A model elsewhere"
    ),
    "predict": Part(
        (
            *("tools/predict.py", "tools/preprocessing.py", "docs/seven.png"),
            *("tests/tools/test_predict.py", "tests/tools/test_preprocessing.py"),
            "benchmarks/photos.py",
        ),
        "tools predict",
        "Pictures to classify",
    ),
    "recipes": Part(
        (
            *("recipes", "docs/recipes.md", "tests/pipeline/test_recipes.py"),
            *("benchmarks/accuracy.py", "benchmarks/recipes.py", "tests/same_bits/recipes.py"),
        ),
        "make recipe|recipes/",
    ),
    "sweeps": Part(
        (
            *("fairtrial/cluster", "fairtrial/search", "fairtrial/sweep.py", "docs/sweeps.md"),
            "fairtrial/clusters.md",
            *("benchmarks/search.py", "benchmarks/sweep.py", "tests/slurm.sh"),
            *(f"tests/fairtrial/{name}.py" for name in ("clusters", "commands", "test_search")),
            *("tests/fairtrial/test_sweep.py", "tests/fairtrial/test_points_file.py"),
        ),
        "fairtrial sweep|sweep -S",
    ),
}
MADE_FROM = "A pipeline of DVC and PyTorch, made from a [template](docs/template.md)."
PAGES = ("*.md", "*/*.md")
OURS = re.compile(r"MNIST|digit|\bmnist\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    rename = commands.add_parser("rename", help="give the project a title")
    rename.add_argument("title", metavar="TITLE")
    remove = commands.add_parser("remove", help="remove parts, with their tests and their rows")
    remove.add_argument("parts", metavar="PART", nargs="+", choices=PARTS, help=", ".join(PARTS))


def main(args: argparse.Namespace) -> None:
    if not Path("dvc.yaml").is_file():
        raise InputError("dvc.yaml: not in this folder; run this at the top of the project")
    if args.command == "rename":
        rename(args.title)
        words = OURS
    else:
        for name in args.parts:
            remove(PARTS[name])
        words = re.compile("|".join(PARTS[name].words for name in args.parts))
    print("git diff shows what was changed")
    for path in pages():
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if numbers := [str(number) for number, line in lines if words.search(line)]:
            print(f"{path}: left to you: line {', '.join(numbers)}")


def pages() -> list[Path]:
    return sorted(path for pattern in PAGES for path in Path().glob(pattern))


def rename(title: str) -> None:
    """Write a title into all that names the project; raises `InputError` for one that cannot be."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not name or not title.isprintable() or set(title) & set('"\\'):
        raise InputError("title: has to have a letter a to z, and no quote or backslash")
    for file, pattern, text in (
        (
            "README.md",
            r"\A# .*\n\n[^#-]*?\n\n",
            f"# {title}\n\n{MADE_FROM}\n\n",
        ),
        ("pyproject.toml", r'(?m)^name = ".*"', f'name = "{name}"'),
        ("pyproject.toml", r'(?m)^description = ".*"', f'description = "{title}"'),
        ("CITATION.cff", r'(?m)^title: ".*"', f'title: "{title}"'),
        ("CITATION.cff", r"(?m)(maintainers of ).*", rf"\g<1>{name}"),
        (".devcontainer/devcontainer.json", r'"name": ".*"', f'"name": "{name}"'),
    ):
        replace(Path(file), pattern, text)


def remove(part: Part) -> None:
    """Remove a part, the rows and the section of pages that are about it, and links to it."""
    for name in part.paths:
        path = Path(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    gone = "|".join(re.escape(path) for path in part.paths if "/" in path)
    documents = [re.escape(Path(path).name) for path in part.paths if path.endswith(".md")]
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if part.section:
            text = re.sub(rf"(?ms)^## {part.section}\n.*?(?=^## |\Z)", "", text)
            anchor = part.section.lower().replace(" ", "-")
            text = re.sub(rf"\[([^\]]*)\]\([^)]*#{anchor}\)", r"\1", text)
        # Rows of tables, and paragraphs of a line.
        text = re.sub(rf"(?m)^\|.*(?:{part.words}|{gone}).*\n", "", text)
        text = re.sub(rf"(?m)^\n`.*(?:{part.words}).*\n(?=\n|\Z)", "", text)
        for document in documents:
            link = rf"\[([^\]]*)\]\((?:\.\./|docs/|fairtrial/)*{document}[^)]*\)"
            text = re.sub(rf"(?<=\)),\s{link}(?=,)", "", text)  # in a list of links
            text = re.sub(link, r"\1", text)
        write_bytes(path, f"{text.rstrip()}\n".encode())
    if "recipes" in part.paths:
        replace(Path("Makefile"), r"(?m)^recipe: .*\n(\t.*\n)+\n", "")
        replace(Path("Makefile"), r"(?m)^(\.PHONY: .*) recipe\b", r"\1")
    packages = [path.replace("/", ".") for path in part.paths if path.startswith("fairtrial/")]
    for name in packages:
        replace(Path("fairtrial/pyproject.toml"), rf'(?m)^    "{re.escape(name)}",\n', "")


def replace(path: Path, pattern: str, text: str) -> None:
    if path.is_file():
        write_bytes(path, re.sub(pattern, text, path.read_text(encoding="utf-8")).encode())
