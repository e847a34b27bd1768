"""What holds files: a folder, a zip file, or a tar file, compressed or not.

Each has `names`, the paths of its files, `remarks` on them, and `read`. Nothing is unpacked into a
folder, and no link is followed that leads out.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from anypictures.errors import PicturesError

COMPRESSIONS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
# Of all that a compressed file holds. Pictures hardly shrink; bombs do, a thousandfold and more.
MAX_RATIO, ALWAYS_ALLOWED = 200, 1_000_000_000
CACHE_OBJECT = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")  # of DVC


class Container(Protocol):
    names: list[str]
    remarks: list[str]

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a file, or its beginning if it is longer than `max_bytes`."""


class Folder:
    """The files in a folder and its sub-folders."""

    def __init__(self, path: Path) -> None:
        self.path, self.names, self.remarks = path, [], list[str]()

        def refuse(error: OSError) -> None:
            raise PicturesError(
                f"{error.filename}: cannot be read ({error.strerror}); check its name and "
                "permissions"
            )

        for parent, folders, names in os.walk(path, onerror=refuse):
            folders.sort()
            # DVC does not follow them: they would be read, and not be in the hash of the data.
            if links := [name for name in folders if Path(parent, name).is_symlink()]:
                raise PicturesError(
                    f"{parent}/{links[0]}: a link to a folder, which DVC does not track; move or "
                    "copy the folder to its place"
                )
            if not folders and not names and not Path(parent).name.startswith("."):
                raise PicturesError(f"{parent}: has no pictures; add some or remove it")
            folder = str(Path(parent).relative_to(path))
            prefix = "" if folder == "." else f"{folder}/"
            self.names += [prefix + name for name in sorted(names)]

    def read(self, name: str, max_bytes: int) -> bytes:
        path = f"{self.path}/{name}"
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                target = Path(path).resolve(strict=True)
                inside = target.is_relative_to(self.path.resolve())
                if not (inside or CACHE_OBJECT.fullmatch(str(target))):
                    raise PicturesError(f"{path}: a link out of {self.path}; copy the file instead")
                status = os.stat(path)  # noqa: PTH116
            if not stat.S_ISREG(status.st_mode):  # a pipe or a device may have no end
                raise PicturesError(f"{path}: not a regular file; remove it")
            with open(path, "rb") as file:  # noqa: PTH123
                # Not more than there is, because Python makes room for all that is asked for.
                return file.read(min(status.st_size, max_bytes) + 1)
        except (OSError, RuntimeError) as error:  # a circle of links is a RuntimeError
            reason = getattr(error, "strerror", None) or error
            raise PicturesError(f"{path}: cannot be read ({reason}); remove it") from None


class Zip:
    """The members of a zip file."""

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self.path = path
        try:
            self.file = opened.enter_context(zipfile.ZipFile(path))
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise PicturesError(f"{path}: a broken zip file ({error}); copy it again") from None
        self.members: dict[str, zipfile.ZipInfo] = {}
        members = [member for member in self.file.infolist() if not member.is_dir()]
        refuse_bomb(path, sum(member.file_size for member in members))
        for member in members:
            if member.flag_bits & 1:
                raise PicturesError(
                    f"{path}: {member.filename}: needs a password; unpack it and name the folder"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise PicturesError(f"{path}: {member.filename}: a link; put the file in its place")
            self.members[safe_name(path, member.filename.replace("\\", "/"))] = member
        self.names = list(self.members)
        self.remarks = said_of_repeated(len(members) - len(self.members))

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            with self.file.open(self.members[name]) as file:
                return file.read(max_bytes + 1)
        except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            problem = str(error)
        except (zlib.error, lzma.LZMAError) as error:
            problem = str(error)
        raise PicturesError(
            f"{self.path}/{name}: cannot be unpacked ({problem}); copy the file again"
        )


class Tar:
    """The members of a tar file, which is not compressed; `path` is for messages."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.places: dict[str, tuple[int, int]] = {}
        length, repeated = file.seek(0, os.SEEK_END), 0
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while member := tar.next():
                    tar.members = []  # type: ignore[attr-defined]  # which would grow
                    if member.isdir():
                        continue
                    name = safe_name(path, member.name)
                    repeated += name in self.places
                    self.places[name] = self._place(member)
                    if sum(self.places[name]) > length:
                        raise tarfile.ReadError(f"it ends within {member.name}")
        except (OSError, tarfile.TarError, ValueError) as error:
            raise PicturesError(f"{path}: a broken tar file ({error}); copy it again") from None
        self.names, self.remarks = list(self.places), said_of_repeated(repeated)

    def _place(self, member: tarfile.TarInfo) -> tuple[int, int]:
        """Return where the bytes of a member begin, and how many there are."""
        if member.islnk() and (place := self.places.get(safe_name(self.path, member.linkname))):
            return place  # a hard link to a member before it
        if not member.isfile() or member.issparse():
            what = "a link" if member.issym() or member.islnk() else "not a plain file"
            raise PicturesError(f"{self.path}: {member.name} is {what}; put the file in its place")
        return member.offset_data, member.size

    def read(self, name: str, max_bytes: int) -> bytes:
        start, size = self.places[name]
        self.file.seek(start)
        return self.file.read(min(size, max_bytes + 1))


def said_of_repeated(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count:,} files were replaced by later ones of the same name in the archive"]


def safe_name(path: Path, name: str) -> str:
    """Return the name of a member without `./`; raises `PicturesError` if it leads out."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or not parts.parts:
        raise PicturesError(f"{path}: {name}: leads out of the archive; make the archive anew")
    return str(parts)


def refuse_bomb(path: Path, unpacked: int) -> None:
    if unpacked > max(ALWAYS_ALLOWED, MAX_RATIO * path.stat().st_size):
        raise PicturesError(
            f"{path}: would be more than {MAX_RATIO} times as large unpacked; unpack what you "
            "need, and name the folder"
        )


def unpacked(path: Path, opener: Callable[..., Any], opened: ExitStack) -> IO[bytes]:
    """Return what a compressed file holds, as a temporary file that nobody else sees."""
    result: IO[bytes] = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    try:
        with opener(path, "rb") as file:
            while block := file.read(2**20):
                result.write(block)
                refuse_bomb(path, result.tell())
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise PicturesError(f"{path}: cannot be unpacked ({error}); copy it again") from None
    result.seek(0)
    return result


def is_tar(start: bytes) -> bool:
    """Return whether a file that starts so is a tar file: by its first header's checksum."""
    try:
        tarfile.TarInfo.frombuf(start[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
