"""Labelled pictures of your own, as the images of a data set.

The same picture is the one with the same pixels, whatever its file. It is never on two sides of
training, validation and test.
"""

import os
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anypictures.errors import PicturesError
from anypictures.examples import (
    Example,
    Source,
    check_classes,
    same_to_the_eye,
    shortened,
)
from anypictures.identities import Row, units_of
from anypictures.idx import Array
from anypictures.options import Options, parse_range
from anypictures.reading import FEW_LEVELS, THIN, Read, Reading, Work, read_pictures
from anypictures.sources import open_source

CHUNK, CHUNK_BYTES = 64, 8_000_000  # that are sent to a process at once
DEFAULT_TEST_FRACTION = 0.2
ORDER = (None, "train", "val", "test")
STROKES = 1_000  # pictures whose strokes are measured
INK = 30  # of 255: what is brighter belongs to a stroke
MIN_OF_CLASS = 10  # pictures, below which a remark says so


class Dataset(NamedTuple):
    """Labelled pictures as arrays."""

    classes: tuple[str, ...]  # by their labels
    appearance: dict[str, Any]  # style, ink_box, range, background, border: see `read_dataset`
    splits: dict[str, dict[str, Array]]  # train, test: images uint8 (N, C, H, W), labels (N,)
    rows: dict[str, list[Row]]  # of each split; those of the source's validation split say so
    found: dict[str, Any]  # what was read, in numbers
    remarks: list[str]  # what a person should know


def read_dataset(path: Path, options: Options) -> Dataset:
    """Return the data set of a folder, an archive, a table or arrays.

    Its `appearance` is what another picture has to be read by, to be seen as these are: the style,
    and of strokes the box that they fill; the values deeper than 8 bits that are black and white;
    what is behind transparent pixels; and between which levels the borders of 98 % are.

    Pictures are sorted by their identities, so that the first ones are of all classes, and another
    name changes nothing. Raises `PicturesError` if a file is not what it should be.
    """
    with ExitStack() as opened:
        source = open_source(path, options, opened)
        return _read(path, source, options)


def _read(path: Path, source: Source, options: Options) -> Dataset:
    place, examples = str(path), source.examples
    check_classes(place, source)
    if has_test(examples) and options.test_fraction is not None:
        raise PicturesError(
            f"{options.prefix}test_fraction: {path} has a test split of its own: set this to auto"
        )
    refuse_size(len(examples), options)
    images, reads, reading, remarks = read_all(path, source, options)
    left_out = {i: read.problem for i, read in enumerate(reads) if read.problem}
    uniform = [i for i, read in enumerate(reads) if read.levels == 0]
    if len(uniform) > len(reads) / 2:
        raise PicturesError(
            f"{place}: {len(uniform):,} of {len(reads):,} pictures are of one colour, such as "
            f"{examples[uniform[0]].file}; look at them, and at {options.prefix}range"
        )
    if len(left_out) <= options.skip_broken:
        left_out |= conflicts(place, examples, reads, options)
    if len(left_out) > options.skip_broken:
        raise PicturesError(*dict.fromkeys(left_out.values()))
    # Whoever takes a hash of the folder, such as DVC, does it afterwards.
    with ExitStack() as opened:
        again = open_source(path, options, opened) if path.is_dir() else source
    if again.examples != examples:
        raise PicturesError(f"{path}: pictures came or went while they were read; run it again")
    order = sorted(
        set(range(len(examples))) - set(left_out),
        key=lambda i: (reads[i].identity, examples[i].file),
    )
    broken = {examples[i].file: problem for i, problem in left_out.items()}
    examples, reads = [examples[i] for i in order], [reads[i] for i in order]
    classes = check_classes(place, source._replace(examples=examples))
    rows = [
        Row(one.file, read.identity, one.group) for one, read in zip(examples, reads, strict=True)
    ]
    splits = choose_splits(examples, rows, options)
    labels = np.array([classes.index(example.label) for example in examples])
    borders = np.percentile([read.border for read in reads], (1, 99), method="nearest")
    appearance = {
        "range": reading.ends,
        "background": "black" if reading.background == "black" else None,
        "border": tuple(borders.tolist()),
        **style_of(options.style, images[order[:STROKES]]),
    }
    chosen = {
        name: [i for i, split in enumerate(splits) if (split == "test") == (name == "test")]
        for name in ("train", "test")
    }
    places = [order[i] for of_split in chosen.values() for i in of_split]
    reorder(images, [*places, *left_out])
    remarks = [
        *source.remarks,
        *same_to_the_eye(classes),
        *remarks,
        *remarks_on(examples, reads, options),
        *([f"{len(broken):,} files left out: {shortened(broken)}"] if broken else []),
    ]
    of_train, of_test = chosen.values()
    end = len(places)
    return Dataset(
        classes,
        appearance,
        {
            "train": {"images": images[: len(of_train)], "labels": labels[of_train]},
            "test": {"images": images[len(of_train) : end], "labels": labels[of_test]},
        },
        {
            name: [rows[i]._replace(is_val=splits[i] == "val") for i in of_split]
            for name, of_split in chosen.items()
        },
        describe(reads, broken, reading),
        remarks,
    )


def reorder(images: Array, order: Sequence[int]) -> None:
    """Put the image `order[i]` in place `i`, for all, without a second array of this size."""
    done = np.zeros(len(order), bool)
    for start in range(len(order)):
        if done[start]:
            continue
        first, place = images[start].copy(), start
        while order[place] != start:
            images[place] = images[order[place]]
            done[place] = True
            place = order[place]
        images[place] = first
        done[place] = True


def has_test(examples: Iterable[Example]) -> bool:
    return any(example.split == "test" for example in examples)


def refuse_size(count: int, options: Options) -> None:
    """Raise `PicturesError` if the images need more than a quarter of the memory.

    Whoever writes them to a file, or takes a part of them, needs copies.
    """
    channels, height, width = options.shape
    needed = count * channels * height * width
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory / 4:
        raise PicturesError(
            f"{options.prefix}size: {count:,} images of {width} x {height} pixels take "
            f"{needed / 1e9:,.1f} GB, more than a quarter of the {memory / 1e9:,.1f} GB that this "
            "computer has; lower it"
        )


def read_all(
    path: Path, source: Source, options: Options
) -> tuple[Array, list[Read], Reading, list[str]]:
    """Return all pictures as images (N, C, H, W), what was found, and how they were read.

    A picture that depends on how all of them are read is read a second time.
    """
    given = parse_range(options.range)
    reading = Reading(options.size, options.mode, options.style, given)
    images = np.zeros((len(source.examples), *options.shape), np.uint8)
    reads: list[Read] = [Read()] * len(source.examples)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:

        def read(numbers: Iterable[int]) -> None:
            for number, found in in_processes(pool, path, source, numbers, reading):
                if found.image is not None:
                    images[number] = found.image
                reads[number] = found._replace(image=None)

        read(range(len(reads)))
        deep = [read.values for read in reads if read.values]
        remarks = []
        if deep and not reading.ends:
            reading = reading._replace(ends=range_of(deep, options.range))
        if deep and reading.ends:
            remarks.append(said_of_range(deep, reading.ends, options))
        on_white, on_black = (sum(read.vanishes[i] for read in reads) for i in range(2))
        if on_white > on_black:
            reading = reading._replace(background="black")
            remarks.append(
                f"what is transparent is black here: on white {on_white:,} pictures would vanish"
            )
        again = [
            number
            for number, one in enumerate(reads)
            if (one.values and not given) or (one.transparent and reading.background == "black")
        ]
        read(again)
    return images, reads, reading, remarks


def in_processes(
    pool: ProcessPoolExecutor,
    path: Path,
    source: Source,
    numbers: Iterable[int],
    reading: Reading,
) -> Iterator[tuple[int, Read]]:
    """Yield the numbers of pictures, and what they are read as, with few in memory at a time."""
    waiting: deque[tuple[list[int], Future[list[Read]]]] = deque()

    def results() -> Iterator[tuple[int, Read]]:
        of_chunk, future = waiting.popleft()
        return zip(of_chunk, future.result(), strict=True)

    place, chunk = str(path), list[Work]()
    chunk_numbers: list[int] = []
    size = 0
    ahead = 2 * len(os.sched_getaffinity(0))
    for number in numbers:
        example = source.examples[number]
        try:
            content: bytes | Array | str = source.read(example)
        except PicturesError as error:
            content = str(error)
        chunk.append(Work(f"{place}/{example.file}", content))
        chunk_numbers.append(number)
        size += content.nbytes if isinstance(content, np.ndarray) else len(content)
        if len(chunk) == CHUNK or size > CHUNK_BYTES:
            waiting.append((chunk_numbers, pool.submit(read_pictures, chunk, reading)))
            chunk, chunk_numbers, size = [], [], 0
            if len(waiting) > ahead:
                yield from results()
    waiting.append((chunk_numbers, pool.submit(read_pictures, chunk, reading)))
    while waiting:
        yield from results()


def range_of(deep: Sequence[tuple[str, float, float]], setting: str) -> tuple[float, float]:
    """Return the values that are black and white in a data set deeper than 8 bits.

    deep: dtype, least and greatest value of each picture. `auto` takes the least number of bits
    that holds the greatest value of all: cameras of 12 bits write files of 16.
    """
    dtypes = [np.dtype(name) for name, *_ in deep]
    low, high = min(low for _, low, _ in deep), max(high for *_, high in deep)
    if setting == "dtype":
        largest = max(dtypes, key=lambda dtype: (dtype.kind == "f", dtype.itemsize))
        if largest.kind == "f":
            return 0.0, 1.0
        return 0.0, float(np.iinfo(largest).max)
    are_fractions = any(dtype.kind == "f" for dtype in dtypes) and max(-low, high) <= 1
    if are_fractions:
        return (-1.0 if low < 0 else 0.0), 1.0
    if low < 0:
        return low, max(high, low + 1)
    return 0.0, next(
        2.0**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32, 64, 1023) if high < 2.0**bits
    )


def said_of_range(
    deep: Sequence[tuple[str, float, float]], ends: tuple[float, float], options: Options
) -> str:
    low, high = ends
    beyond = sum(least < low or greatest > high for _, least, greatest in deep)
    others = f"; {beyond:,} have others beyond" if beyond else ""
    return (
        f"{len(deep):,} pictures are deeper than 8 bits: values from {low:g} (black) to {high:g} "
        f"(white) are taken, by {options.prefix}range{others}"
    )


def remarks_on(examples: Sequence[Example], reads: Sequence[Read], options: Options) -> list[str]:
    """Return what a person should know of the pictures."""

    def those(is_so: Callable[[Read], bool]) -> list[str]:
        return [one.file for one, read in zip(examples, reads, strict=True) if is_so(read)]

    size, half = options.size, len(reads) / 2
    found = [
        (those(lambda read: read.levels == 0), "are of one colour"),
        (
            those(lambda read: 0 < read.levels < FEW_LEVELS),
            f"use less than 5 % of the range from black to white; see {options.prefix}range",
        ),
        (those(lambda read: read.pages), "have several pages, of which the first is read"),
        (
            those(lambda read: max(read.dimensions) > THIN * min(read.dimensions)),
            f"are more than {THIN} times as long as they are wide, so that less than "
            f"{max(1, size // THIN)} of {size} rows remain; cut them, or raise "
            f"{options.prefix}size",
        ),
    ]
    remarks = [
        f"{len(files):,} pictures {what}: {shortened(files)}" for files, what in found if files
    ]
    colourful = sum(read.colourful for read in reads)
    if colourful > half:
        remarks.append(f"{colourful:,} pictures are in colour; {options.prefix}mode=rgb keeps it")
    counts = Counter(example.label for example in examples)
    if few := [f"{name} ({count})" for name, count in counts.items() if count < MIN_OF_CLASS]:
        remarks.append(f"classes with fewer than {MIN_OF_CLASS} pictures: {shortened(few)}")
    return remarks


def conflicts(
    place: str, examples: Sequence[Example], reads: Sequence[Read], options: Options
) -> dict[int, str]:
    """Return the pictures that contradict others, and how.

    Copies have different classes, or copies or a group are in two splits. Of the latter, those
    that are not of the last split are named.
    """
    same: dict[str, list[int]] = defaultdict(list)
    for i, (example, read) in enumerate(zip(examples, reads, strict=True)):
        same[f"the same picture {read.identity}"].append(i)
        if example.group:
            same[f"the group {example.group}"].append(i)
    problems: dict[int, str] = {}
    for name, members in same.items():
        of_group = name.startswith("the group")
        labels = {examples[i].label for i in members}
        splits = {examples[i].split for i in members}
        if (len(labels) == 1 or of_group) and len(splits) == 1:
            continue
        listed = shortened(f"{examples[i].file} ({examples[i].label})" for i in members)
        what = name if of_group else "the same picture"
        where = "two classes" if len(splits) == 1 else "two splits"
        problem = (
            f"{place}: {what} is in {where}: {listed}; keep what is right, or leave these out by "
            f"{options.prefix}skip_broken"
        )
        last = max(splits, key=lambda split: ORDER.index(split))
        is_wrong = len(labels) > 1 and not of_group
        problems |= {i: problem for i in members if is_wrong or examples[i].split != last}
    return problems


def choose_splits(examples: Sequence[Example], rows: Sequence[Row], options: Options) -> list[str]:
    """Return the split of each picture: the source's own, or else by the hash of its unit.

    More pictures move none of them, unless they link groups.
    """
    fraction = options.test_fraction or DEFAULT_TEST_FRACTION
    is_given = has_test(examples)
    return [
        example.split
        if example.split and (is_given or example.split == "val")
        else ("test" if is_test(unit, fraction) else "train")
        for example, unit in zip(examples, units_of(rows), strict=True)
    ]


def is_test(unit: str, fraction: float) -> bool:
    """Return whether what has this name belongs to the test split."""
    return int.from_bytes(sha256(unit.encode()).digest()[:8], "big") < fraction * 2**64


def style_of(style: str, images: Array) -> dict[str, Any]:
    """Return the style of a data set, and of strokes the pixels that they fill."""
    if style != "strokes":
        return {"style": "natural" if style == "auto" else style}
    inked = images[:, 0] > INK
    sides = [
        max(int(np.ptp(np.flatnonzero(one.any(axis)))) + 1 for axis in (0, 1))
        for one in inked
        if one.any()
    ]
    return {"style": style, "ink_box": int(np.median(sides)) if sides else 1}


def describe(reads: Sequence[Read], broken: dict[str, str], reading: Reading) -> dict[str, Any]:
    """Return what was read, in numbers."""
    sides = {"width": [read.dimensions[0] for read in reads]}
    sides["height"] = [read.dimensions[1] for read in reads]
    return {
        "formats": dict(Counter(read.kind for read in reads)),
        "copies": len(reads) - len({read.identity for read in reads}),
        "broken": broken,
        "range": reading.ends,
        **{
            name: {"least": min(of), "median": int(statistics.median(of)), "greatest": max(of)}
            for name, of in sides.items()
        },
    }
