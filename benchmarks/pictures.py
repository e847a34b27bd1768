"""What it costs to fetch many pictures of one's own, beside decoding them by Pillow alone.

Makes colour pictures of 32 x 32 pixels as PNG, in ten classes, and packs them in several ways.
Prints CPU seconds of all processes, the largest memory of the first above that of the imports, and
what DVC takes to look at the same folder and at a tar file of it.

    python benchmarks/pictures.py 60000
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).parent.parent
CLASSES = 10
FETCH = """
import os, re, sys
from pathlib import Path
from anypictures.options import Options
from anypictures.dataset import read_dataset
start = sum(os.times()[:4])  # CPU seconds, also of its processes that have ended
def peak():  # of this program alone, in KB
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
read_dataset(Path(sys.argv[1]), Options(32, "rgb"))
seconds = sum(os.times()[:4]) - start
memory = peak() - before
print(seconds, memory / 1024)
"""


def make_pictures(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    for number in range(count):
        parent = folder / f"class-{number % CLASSES}"
        parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(parent / f"{number}.png")


def decode(path: Path) -> None:
    with Image.open(path) as picture:
        picture.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)


def seconds_of(*command: str, folder: Path = ROOT) -> float:
    start = sum(os.times()[:4])
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return sum(os.times()[:4]) - start


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pictures(folder / "pictures", count)
        with tarfile.open(folder / "pictures.tar", "w") as tar:
            tar.add(folder / "pictures", ".")
        shutil.make_archive(str(folder / "pictures"), "zip", folder / "pictures")
        paths = sorted((folder / "pictures").glob("*/*.png"))
        start = sum(os.times()[:4])
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for _ in pool.map(decode, paths, chunksize=500):
                pass
        rows = [{"what": "Pillow, a process a core", "seconds": sum(os.times()[:4]) - start}]
        pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
        labels = np.array([int(path.parent.name[6:]) for path in paths])
        np.savez(folder / "pictures.npz", images=pixels, labels=labels)
        sources = ["pictures", "pictures.tar", "pictures.zip", "pictures.npz"]
        with contextlib.suppress(ImportError):
            from pyarrow import Table, parquet

            contents = [{"bytes": path.read_bytes()} for path in paths]
            table = Table.from_pydict({"image": contents, "label": labels})
            parquet.write_table(table, folder / "pictures.parquet")
            sources.append("pictures.parquet")
        for source in sources:
            done = subprocess.run(
                [sys.executable, "-c", FETCH, str(folder / source)],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            seconds, memory = map(float, done.stdout.splitlines()[-1].split())
            rows.append({"what": f"fetch of {source}", "seconds": seconds, "MB": memory})
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        dvc = [sys.executable, "-m", "dvc"]
        seconds_of(*dvc, "init", "-q", folder=folder)
        for source in ("pictures", "pictures.tar"):
            rows.append(
                {
                    "what": f"dvc add {source}",
                    "seconds": seconds_of(*dvc, "add", "-q", source, folder=folder),
                }
            )
            again = seconds_of(*dvc, "status", "-q", f"{source}.dvc", folder=folder)
            rows.append({"what": f"dvc status of {source}, unchanged", "seconds": again})
    megabytes = count * 3 * 32 * 32 / 2**20
    print(f"{count:,} pictures of 32 x 32 pixels in colour; their tensor has {megabytes:.0f} MB\n")
    table = pd.DataFrame(rows).map(
        lambda value: value if isinstance(value, str) else f"{value:.1f}"
    )
    print(table.replace("nan", "").to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    main()
