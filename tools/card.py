"""Write a model card: what the model of a revision is, how good it is, and where its limits are.

The card is Markdown, with the metadata at its top that model hubs read. It is about the workspace
unless a revision is named. Its bytes depend on the results alone.

    python -m tools.card
    python -m tools.card HEAD~1 --output card.md
"""

import argparse
from pathlib import Path

from stages.storage.errors import printable, run, shorten
from stages.storage.files import write_bytes
from tools.model_card import load_facts, render_card


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.card", description="Write a model card.")
    parser.add_argument(
        "revision",
        metavar="REV",
        nargs="?",
        default="workspace",
        help="a commit, branch, tag, experiment or `workspace` (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("metrics/model-card.md"),
        help="file (default: %(default)s)",
    )
    args = parser.parse_args()
    facts = load_facts(args.revision)
    write_bytes(args.output, render_card(facts).encode())
    commit = f"commit {facts.commit}" if facts.commit else "results that no commit has yet"
    print(shorten(printable(f"{args.output}: the model of {commit}")))


if __name__ == "__main__":
    run(main)
