"""Run recipes with five seeds each, as experiments in a clone, and print a row of a table each.

python benchmarks/recipes.py [NAME ...] [train.lr=0.1 ...]
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SEEDS = range(5)


def read_recipe(path: Path) -> list[str]:
    """Return the settings `section.name=value` of a recipe; later ones replace those before."""
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "recipes/default", path))
    return [line for line in text.splitlines() if not line.startswith("#")]


def run(recipe: Path, others: list[str], seed: int, clone: Path) -> tuple[float, float, float]:
    """Return the accuracies on val and test, and the CPU seconds of all that ran."""
    settings = [*read_recipe(recipe), *others, f"train.seed={seed}", "train.replicas=1"]
    changes = [part for setting in settings for part in ("-S", setting)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["dvc", "exp", "run", *changes]
    if subprocess.run(command, cwd=clone, stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit(2)  # DVC has said why
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads((clone / "metrics/evaluate.json").read_text())["evaluate"]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{recipe.name}, seed {seed}: {seconds:.0f} CPU seconds", file=sys.stderr, flush=True)
    return found["val"]["accuracy"]["value"], found["test"]["accuracy"]["value"], seconds


def main() -> None:
    others = [argument for argument in sys.argv[1:] if "=" in argument]
    names = [argument for argument in sys.argv[1:] if "=" not in argument]
    recipes = sorted(ROOT.glob("recipes/*"))
    if unknown := set(names) - {recipe.name for recipe in recipes}:
        print(f"no recipe {', '.join(unknown)}; see recipes/", file=sys.stderr)
        sys.exit(2)
    chosen = [recipe for recipe in recipes if not names or recipe.name in names]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        subprocess.run(["dvc", "repro"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        print("| recipe | val | test | n | CPU seconds a seed |\n|---|---|---|---|---|")
        for recipe in chosen:
            val, test, seconds = zip(
                *(run(recipe, others, seed, clone) for seed in SEEDS), strict=True
            )
            cells = [
                f"{100 * statistics.mean(a):.2f} ± {100 * statistics.stdev(a):.2f} %"
                for a in (val, test)
            ]
            seconds_said = f"{statistics.median(seconds):.0f}"
            name = " ".join([recipe.name, *others])
            print(f"| {name} | {' | '.join(cells)} | {len(SEEDS)} | {seconds_said} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
