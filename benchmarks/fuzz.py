"""Look for files on which a reader does anything but read or refuse them, led by coverage.

A finding is an exception that is no refusal, more than two seconds of CPU time or 2 GB of
memory. The input is then kept in the folder that is named at the end. The inputs that reach new
code are kept in .dvc/tmp/fuzz, and the next run goes on from there.

Atheris (https://github.com/google/atheris) comes for the one run, from the package index:

    uv run --no-project --with 'atheris>=3' python benchmarks/fuzz.py params 10   # minutes
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))

os.environ.setdefault("OMP_NUM_THREADS", "1")

MAX_SECONDS = 2
INSTRUMENTED = [
    "anypictures",
    "stages",
    "fairtrial",
    "tools",
    "ruamel",
    "PIL",
    "json",
    "pandas.io",
    "pandas.core.tools",
]

with atheris.instrument_imports(include=INSTRUMENTED):
    from tests.helpers.cards import SOURCES
    from tests.helpers.project import ROOT
    from tests.helpers.readers import READERS, REFUSALS


def main() -> None:
    parser = argparse.ArgumentParser(description="Fuzz a reader.")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("minutes", type=float)
    args = parser.parse_args()
    reader = READERS[args.reader]

    def try_one(content: bytes) -> None:
        started = time.process_time()
        with contextlib.suppress(*REFUSALS):
            reader.read(content)
        if (seconds := time.process_time() - started) > MAX_SECONDS:
            raise TimeoutError(f"took {seconds:.1f} s of CPU time")

    folder = ROOT / ".dvc/tmp/fuzz" / args.reader
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if not Path("sources").exists():
        Path("sources").symlink_to(SOURCES)  # which params.yaml names
    for number, seed in enumerate(reader.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in reader.words)
    Path("words").write_text("".join(f'"{word}"\n' for word in words), encoding="utf-8")
    options = [
        f"-max_total_time={round(60 * args.minutes)}",
        "-max_len=6000",
        "-timeout=60",  # the clock's; a busy machine needs more of it than of CPU time
        "-rss_limit_mb=2048",
        "-dict=words",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
