"""What a path holds: recognised by its first bytes, never by its name alone.

A folder or an archive has pictures in the folders of their classes, or a table that labels them,
or arrays; a file may be such a table or such an array itself.
"""

import stat
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from anypictures.arrays import read_array_files, read_npz
from anypictures.containers import COMPRESSIONS, Container, Folder, Tar, Zip, is_tar, unpacked
from anypictures.errors import PicturesError
from anypictures.examples import Source
from anypictures.idx import IDX_START
from anypictures.layouts import left_out, read_folders
from anypictures.options import Options

TABLES = (".csv", ".tsv", ".parquet")
START = 512  # bytes by which a file is recognised
REMEDY = "name a folder, a zip or tar file of it, a table (CSV, Parquet) or .npz"
FOREIGN: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "a file of Python's objects, which can run any code; it is never opened; save .npz",
    ),
    ((b"\x89HDF",), "an HDF5 file; save its arrays as .npz"),
    ((b"\x93NUMPY",), "one array; save images and labels together as .npz"),
    ((b"Rar!",), "a RAR archive; unpack it, and name the folder"),
    ((b"7z\xbc\xaf",), "a 7z archive; unpack it, and name the folder"),
    ((b"\x28\xb5\x2f\xfd",), "compressed by zstd; unpack it, and name what comes out"),
    ((b"\x89PNG", b"\xff\xd8\xff"), "one picture; name the folder of all of them"),
)


class One:
    """A single file, in the place of a folder that has it."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.names, self.remarks, self.file = [name], list[str](), file

    def read(self, name: str, max_bytes: int) -> bytes:
        self.file.seek(0)
        return self.file.read(max_bytes + 1)


def open_source(path: Path, options: Options, opened: ExitStack) -> Source:
    """Return the labelled pictures of a source.

    opened: closes what pictures are read from. Raises `PicturesError` if the source is not what it
    seems to be, or is nothing known.
    """
    container = open_container(path, opened)
    if isinstance(container, Zip) and container.names and is_npz(container):
        return read_npz(str(path), container.file)
    names, remarks = left_out(container.names)
    source = read_array_files(str(path), container, names)
    tables = [name for name in names if name.lower().endswith(TABLES)]
    if isinstance(container, One):
        tables = names
    if source is None and tables:
        # Here, because pandas takes a while to import.
        from anypictures.tables import read_tables

        place = str(path.parent if isinstance(container, One) else path)
        source = read_tables(place, container, names, tables, options)
    if source is None:
        try:
            source = read_folders(str(path), container, names)
        except PicturesError:
            if not tables:
                raise
        if tables and (source is None or len({one.label for one in source.examples}) < 2):
            # No folders of classes: a table is meant, and this says what it lacks.
            source = read_tables(place, container, names, tables, options, is_required=True)
    assert source is not None
    return source._replace(remarks=[*container.remarks, *remarks, *source.remarks])


def is_npz(container: Zip) -> bool:
    return all(name.endswith(".npy") for name in container.names)


def open_container(path: Path, opened: ExitStack) -> Container:
    """Return what a path holds as a container of files."""
    if path.is_dir():
        return Folder(path)
    try:
        # Opening a pipe waits for a writer, and a device may have no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise PicturesError(f"{path}: is not a regular file; {REMEDY}")
        file: IO[bytes] = opened.enter_context(path.open("rb"))
    except (OSError, ValueError) as error:  # a null character in a name is a ValueError
        problem = getattr(error, "strerror", None) or error
        raise PicturesError(f"{path}: cannot be read ({problem}); {REMEDY}") from None
    start = file.read(START)
    for magic, opener in COMPRESSIONS.items():
        if start.startswith(magic):
            file = unpacked(path, opener, opened)
            start = file.read(START)
    if start.startswith(b"PK"):
        return Zip(path, opened)
    if is_tar(start):
        return Tar(path, file)
    if start.startswith(b"PAR1"):
        return One(path.name, file)
    for starts, sentence in FOREIGN:
        if start.startswith(starts):
            raise PicturesError(f"{path}: {sentence}")
    if start[:3] in IDX_START:
        raise PicturesError(
            f"{path}: one IDX file; name the folder that has the images and the labels"
        )
    if start and is_text(start):
        return One(path.name, file)
    raise PicturesError(f"{path}: {'nothing known' if start else 'an empty file'}; {REMEDY}")


def is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        return error.start > START - 4  # the end of the bytes cuts a character
    return b"\0" not in start
