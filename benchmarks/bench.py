"""Measure our times beside others', print the tables, and write them into benchmarks/README.md.

Everything runs in clones of the last commit, all commands of a table in turn, one warm-up and
then five rounds. The figures are CPU seconds, user and system, of whole processes and of what
they start; a loop's are from within. MNIST for the convolutions comes from ../shared/mnist or
the folder MNIST_MIRROR; without it they are left out.

    make bench
"""

import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import pandas as pd

from stages.storage.split_files import read_split, write_split

ROOT = Path(__file__).parent.parent
MNIST = Path(os.environ.get("MNIST_MIRROR", ROOT.parent / "shared/mnist"))
ROUNDS, SHORT_ROUNDS = 5, 25  # of a command that takes half a second
# A thread each: several only wait for one another, and the sums are of CPU time.
ENVIRONMENT = {
    **os.environ,
    "DVC_NO_ANALYTICS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MNIST_MIRROR": str(MNIST),
}
PEERS = {
    "PyTorch tutorial: list of tensors, DataLoader": "tutorial",
    "pytorch/examples: torchvision's data set, transforms": "pytorch_examples",
    "DVC's MNIST example": "dvc_example",
    "Lightning Trainer": "lightning_trainer",
    "torch without its classes": "functional",
    "the same, gradient by hand": "hand_gradient",
    "NumPy by hand: the floor": "numpy_floor",
}
WITH_CONVOLUTIONS = list(PEERS)[:4]
# What each stage imports that is not ours.
IMPORTS = {
    "check": "pydantic, ruamel.yaml",
    "fetch": "numpy, pydantic, ruamel.yaml, safetensors.numpy",
    "prepare": "numpy, pydantic, ruamel.yaml, safetensors.numpy, PIL.Image, PIL.ImageFont",
    "train": "numpy, pydantic, ruamel.yaml, safetensors.numpy, torch, tqdm",
    "evaluate": "numpy, pydantic, ruamel.yaml, safetensors.numpy, torch, PIL.Image, PIL.ImageFont",
}
IMPORT_TORCH = ["python", "-c", "import torch"]


class Run(NamedTuple):
    """What a process took, and the last line of JSON that it printed."""

    cpu: float  # seconds, with those of its children
    memory: float  # MB, the largest of any one process
    said: dict[str, Any]


class Target(NamedTuple):
    what: str
    ratios: list[float]
    limit: float
    at_least: bool = False

    def row(self) -> list[str]:
        median = statistics.median(self.ratios)
        met = median >= self.limit if self.at_least else median <= self.limit
        spread = f"{median:.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        limit = f"{'≥' if self.at_least else '≤'} {self.limit:g}"
        return [self.what, limit, spread, "met" if met else "missed"]


def run(command: list[str], folder: Path) -> Run:
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{command} in {folder} failed: {status}")
        out.seek(0)
        lines = [line for line in out.read().decode().splitlines() if line.startswith("{")]
    said = json.loads(lines[-1]) if lines else {}
    return Run(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1_000, said)


def in_turn(
    commands: Mapping[str, tuple[Path, Callable[[int], list[str]] | list[str]]],
    rounds: int = ROUNDS,
) -> dict[str, list[Run]]:
    """Run all commands, each in its folder, one after the other, and that several times."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for number in range(1 + rounds):
        for name, (folder, command) in commands.items():
            done = run(command if isinstance(command, list) else command(number), folder)
            print(f"{number}/{rounds} {name}: {done.cpu:.2f} s {done.said}", file=sys.stderr)
            if number:  # the first is a warm-up
                runs[name].append(done)
    return runs


def ratios(over: list[float], under: list[float]) -> list[float]:
    return [a / b for a, b in zip(over, under, strict=True)]


def cpu(runs: list[Run]) -> list[float]:
    return [each.cpu for each in runs]


def loop(runs: list[Run]) -> list[float]:
    return [each.said["loop"] for each in runs]


def middle(values: list[float], places: int = 2) -> str:
    return f"{statistics.median(values):.{places}f}"


def reproduced(folder: Path, changes: Mapping[str, str], stage: str = "evaluate") -> Path:
    """Return a clone of the last commit, with other values in params.yaml, run up to a stage."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    params = (folder / "params.yaml").read_text()
    for name, value in changes.items():
        params, count = re.subn(rf"(?m)^(  {name}:) \S+", rf"\1 {value}", params)
        assert count == 1, name
    (folder / "params.yaml").write_text(params)
    subprocess.run(["dvc", "repro", "--quiet", stage], cwd=folder, env=ENVIRONMENT, check=True)
    return folder


def write_idx(folder: Path) -> None:
    """Write the prepared splits as the files of MNIST, for torchvision's data set."""
    raw = folder / "data/idx/MNIST/raw"
    raw.mkdir(parents=True)
    for name, idx in (("train", "train"), ("val", "t10k")):
        _, split = read_split(folder / f"data/prepared/{name}.safetensors")
        n = len(split["labels"])
        images = struct.pack(">iiii", 2051, n, 28, 28) + split["images"].tobytes()
        labels = struct.pack(">ii", 2049, n) + split["labels"].tobytes()
        (raw / f"{idx}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{idx}-labels-idx1-ubyte").write_bytes(labels)


def peer(script: str, model: str, epochs: int) -> list[str]:
    return ["python", f"benchmarks/peers/{script}.py", model, str(epochs)]


def linear(folder: Path) -> tuple[str, list[Target]]:
    """The default training, softmax regression on 2,000 images, beside the others."""
    one = reproduced(folder / "one", {"replicas": "1"})
    five = reproduced(folder / "five", {"replicas": "5"})
    write_idx(one)
    stage, ours = "`python -m stages train`", "our loop"
    torch_alone = '`python -c "import torch"`'
    runs = in_turn(
        {
            **{name: (one, peer(script, "linear", 10)) for name, script in PEERS.items()},
            ours: (one, peer("ours", "linear", 10)),
            stage: (one, ["python", "-m", "stages", "train"]),
            f"{stage}, five replicas": (five, ["python", "-m", "stages", "train"]),
            torch_alone: (one, IMPORT_TORCH),
        }
    )
    accuracies = [each[-1].said["val"] for each in runs.values() if each[-1].said]
    assert max(accuracies) - min(accuracies) < 0.1, "not all did the same work"
    rows = [
        [
            name,
            middle(cpu(of)),
            middle(loop(of), 3) if of[0].said else "",
            middle(ratios(loop(of), loop(runs[ours])), 1) if of[0].said else "",
            middle([each.memory for each in of], 0),
        ]
        for name, of in runs.items()
    ]
    header = ["program", "process, CPU s", "loop, CPU s", "loop / ours", "peak memory, MB"]
    our_loop = loop(runs[ours])
    tutorial, examples, dvc, lightning = (loop(runs[name]) for name in WITH_CONVOLUTIONS)
    floor = loop(runs["NumPy by hand: the floor"])
    return markdown(header, rows), [
        Target(
            "1. `train`, one replica / `import torch`",
            ratios(cpu(runs[stage]), cpu(runs[torch_alone])),
            1.2,
        ),
        Target(
            "1. `train`, five replicas / one",
            ratios(cpu(runs[f"{stage}, five replicas"]), cpu(runs[stage])),
            1.5,
        ),
        Target(
            "1. `train`, five replicas / `import torch`",
            ratios(cpu(runs[f"{stage}, five replicas"]), cpu(runs[torch_alone])),
            1.2,
        ),
        Target("2. loop / NumPy's", ratios(our_loop, floor), 3),
        Target("2. tutorial's loop / ours", ratios(tutorial, our_loop), 1.7, at_least=True),
        Target("2. DVC example's loop / ours", ratios(dvc, our_loop), 3, at_least=True),
        Target("2. Lightning's loop / ours", ratios(lightning, our_loop), 4, at_least=True),
        Target("2. pytorch/examples' loop / ours", ratios(examples, our_loop), 20, at_least=True),
    ]


def pipeline(folder: Path) -> tuple[str, list[Target]]:
    """Whole `dvc` commands, beside those of stages that do nothing."""
    ours = reproduced(folder / "ours", {})
    empty = folder / "empty"
    empty.mkdir()
    stages, before = "stages:\n", ""
    for name in IMPORTS:
        stages += f"  {name}:\n    cmd: echo > {name}.out\n    outs: [{name}.out]\n"
        stages += f"    deps: [{before}.out]\n" if before else ""
        stages += "    params: [lr]\n" if name == "train" else ""
        before = name
    (empty / "dvc.yaml").write_text(stages)
    (empty / "params.yaml").write_text("lr: 0.01\n")
    set_up: list[list[str]] = [
        ["git", "init", "--quiet"],
        ["dvc", "init", "--quiet"],
        ["cp", str(ours / ".dvc/config"), ".dvc/config"],
        ["dvc", "repro", "--quiet"],
        ["git", "add", "--all"],
        ["git", "-c", "user.name=x", "-c", "user.email=x", "commit", "--quiet", "-m", "empty"],
    ]
    for command in set_up:
        subprocess.run(command, cwd=empty, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)

    def experiment(name: str) -> Callable[[int], list[str]]:
        return lambda number: ["dvc", "exp", "run", "--set-param", f"{name}=0.00{number + 1}"]

    no_op, of_empty = "`dvc repro`, nothing to do", "the same, empty stages"
    projects = {no_op: (ours, ["dvc", "repro"]), of_empty: (empty, ["dvc", "repro"])}
    short = in_turn(projects, SHORT_ROUNDS)
    runs = in_turn(
        {
            no_op: projects[no_op],
            "`dvc repro --force`": (ours, ["dvc", "repro", "--force"]),
            "`dvc exp run -S train.lr=…`": (ours, experiment("train.lr")),
            "DVC's own share: the same, empty stages": (empty, experiment("lr")),
            **{
                f"bare imports of `{stage}`": (ours, ["python", "-c", f"import {names}"])
                for stage, names in IMPORTS.items()
            },
        }
    )
    imports = [cpu(runs[f"bare imports of `{stage}`"]) for stage in IMPORTS]
    floor = [sum(parts) for parts in zip(cpu(runs[no_op]), *imports, strict=True)]
    rows = [[name, middle(cpu(of))] for name, of in (runs | short).items()]
    return markdown(["command", "CPU s"], rows), [
        Target(
            "3. `dvc repro --force` / no-op and the stages' bare imports",
            ratios(cpu(runs["`dvc repro --force`"]), floor),
            1.3,
        ),
    ]


def convolutions(folder: Path) -> tuple[str, list[Target]]:
    """An epoch of the small CNN on all of MNIST but the 500 of val.

    The steps of all models are measured on 2,000 images, beside those by torch in float32.
    """
    size = 59_500
    changes = {"source": "sources/mnist.yaml", "train_size": str(size)}
    mnist = reproduced(folder / "mnist", changes, "prepare")
    write_idx(mnist)
    ours, torch_alone = "ours", '`python -c "import torch"`'
    runs = in_turn(
        {
            **{name: (mnist, peer(PEERS[name], "cnn", 1)) for name in WITH_CONVOLUTIONS},
            ours: (mnist, peer("ours", "cnn", 1)),
            torch_alone: (mnist, IMPORT_TORCH),
        }
    )
    speed = {name: [size / seconds for seconds in loop(runs[name])] for name in list(runs)[:-1]}
    imported = statistics.median(each.memory for each in runs[torch_alone])
    memory = {name: [each.memory - imported for each in runs[name]] for name in speed}
    rows = [[name, middle(speed[name], 0), middle(memory[name], 0)] for name in speed]
    best = max((speed[name] for name in WITH_CONVOLUTIONS), key=statistics.median)
    header = ["program", "images per CPU second", "peak memory above `import torch`, MB"]
    limits = {  # by torch's name of the instruction set, which is forced
        "avx512": {"params.yaml": 1, "mlp": 1, "cnn, width 16": 0.4, "cnn, width 26": 0.5},
        "avx2": {"cnn, width 16": 0.5, "cnn, width 26": 0.65},
    }
    digits = reproduced(folder / "digits", {}, "prepare")
    steps = {
        capability: run(
            ["env", f"ATEN_CPU_CAPABILITY={capability}", "python", "benchmarks/precision.py", *of],
            digits,
        ).said
        for capability, of in limits.items()
    }
    return markdown(header, rows), [
        *(
            Target(
                f"4. {name}, {capability}: steps / torch's float32", steps[capability][name], limit
            )
            for capability, of in limits.items()
            for name, limit in of.items()
        ),
        Target("4. CNN, images a CPU second / the best peer's", ratios(speed[ours], best), 3, True),
        Target("4. CNN, MB above `import torch`", memory[ours], 400),
    ]


def growth(folder: Path) -> tuple[str, list[Target]]:
    """An epoch of the default model on ever more images, those of val a quarter as many."""
    project = reproduced(folder / "growth", {}, "prepare")
    info, base = read_split(project / "data/prepared/train.safetensors")
    sizes = {2_000: 30, 60_000: 1, 600_000: 1}  # epochs, so that none is over at once
    commands = {}
    for size in sizes:
        project = Path(shutil.copytree(project, folder / f"growth{size}"))
        for name, n in (("train", size), ("val", size // 4)):
            places = np.arange(n) % len(base["labels"])
            split = {key: values[places] for key, values in base.items()}
            write_split(project / f"data/prepared/{name}.safetensors", info, split)
        commands[f"{size:,} images"] = (project, peer("ours", "linear", sizes[size]))
    commands["imports"] = (project, ["python", "-c", "import stages.train"])
    runs = in_turn(commands)
    imported = statistics.median(each.memory for each in runs.pop("imports"))
    rows, found = [], {}
    for size, epochs in sizes.items():
        in_file = size * 1.25 * (784 + 1 + 4) / 1e6
        of = runs[f"{size:,} images"]
        found[size] = [1e6 * s / epochs / size for s in loop(of)]
        above = middle([each.memory - imported for each in of], 0)
        rows.append([f"{size:,}", middle(found[size]), f"{in_file:.0f}", above])
        memory = [(each.memory - imported) / in_file for each in of]
    header = ["images", "µs per image", "files, MB", "memory above the imports, MB"]
    return markdown(header, rows), [
        Target(
            "5. time of an image of 600,000 / of 2,000", ratios(found[600_000], found[2_000]), 1.2
        ),
        Target("5. 600,000 images: memory above the imports / files", memory, 1.25),
    ]


def markdown(header: list[str], rows: list[list[str]]) -> str:
    return str(pd.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True))


def replace(path: Path, name: str, text: str) -> None:
    """Put a text between the two marks of that name in a page."""
    page = path.read_text(encoding="utf-8")
    marks = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, rest = page.split(marks[0])
    _, after = rest.split(marks[1])
    path.write_text(f"{before}{marks[0]}\n{text}\n\n{marks[1]}{after}", encoding="utf-8")


def machine() -> str:
    [model, *_] = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or ["?"]
    return (
        f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {version('torch')}; medians of {ROUNDS} rounds"
    )


def main() -> None:
    parts = {
        "linear": linear,
        "pipeline": pipeline,
        "convolutions": convolutions,
        "growth": growth,
    }
    if not MNIST.is_dir():
        del parts["convolutions"]
        print("no MNIST in ../shared/mnist or MNIST_MIRROR: no convolutions", file=sys.stderr)
    chosen = sys.argv[1:] or list(parts)
    if unknown := set(chosen) - set(parts):
        print(f"no table {', '.join(unknown)}; name some of {', '.join(parts)}", file=sys.stderr)
        sys.exit(2)
    targets, tables = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            tables[name], found = parts[name](Path(folder))
            targets += found
    header = ["target", "", "median (least to most)", ""]
    tables["targets"] = markdown(header, [target.row() for target in targets])
    for name, table in tables.items():
        print(f"\n{name}\n\n{table}")
    if chosen == list(parts):  # never a page of figures from different days
        for name, table in tables.items():
            replace(ROOT / "benchmarks/README.md", name, f"{table}\n\n{machine()}.")


if __name__ == "__main__":
    main()
