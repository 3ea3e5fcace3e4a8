"""Packs a folder into a ``tar.gz`` and takes one apart again, trusting nothing in it; for both ends of the exchange.

Goes into the notebook image: imports nothing but the standard library.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MAX_ENTRIES = 5000
MAX_NAME_BYTES = 1024
MAX_HEADER_BYTES = 64 * 1024  # of a long name or a pax header; the standard library would read any size into memory
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
# what the standard library raises for bytes that are no archive
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError, RecursionError)
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)


class ArchiveError(Exception):
    """The archive cannot be used; ``reason`` is one of damaged, too-large, too-many, bad-name, bad-type.

    ``what`` is the entry's name, or the limit: MiB for too-large, entries for too-many.
    """

    def __init__(self, reason: str, what: object = "") -> None:
        self.reason, self.what = reason, str(what)
        super().__init__(f"{reason}: {what}" if what else reason)


def pack(folder: Path, target: IO[bytes], ignore: Callable[[str, list[str]], list[str]] | None = None) -> None:
    """Write the plain files below ``folder`` to ``target``. The same files give the same bytes, whenever and by whom.

    ``ignore`` takes a folder and the names in it and returns those to leave out, as for ``shutil.copytree``.
    """
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0, compresslevel=6) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in _plain_files(folder, ignore):
            with path.open("rb") as file:
                entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
                entry.size = os.fstat(file.fileno()).st_size
                entry.mode = 0o644
                tar.addfile(entry, file)


def pack_bytes(folder: Path) -> bytes:
    buffer = io.BytesIO()
    pack(folder, buffer)
    return buffer.getvalue()


def _plain_files(folder: Path, ignore: Callable[[str, list[str]], list[str]] | None) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        left_out = set(ignore(parent, folders + files)) if ignore else set()
        folders[:] = sorted(name for name in folders if name not in left_out and not (Path(parent) / name).is_symlink())
        for name in sorted(files):
            path = Path(parent) / name
            if name not in left_out and path.is_file() and not path.is_symlink():
                yield path


def inspect(source: IO[bytes], max_bytes: int) -> list[str]:
    """The names of the files in an archive, after reading all of it.

    Raises:
        ArchiveError: damaged, larger than ``max_bytes`` unpacked, or with an entry that ``unpack`` would refuse.
    """
    with _opened(source, max_bytes) as tar:
        return [member.name for member in _members(tar, max_bytes) if member.type in PLAIN]


def unpack(source: IO[bytes], folder: Path, max_bytes: int) -> None:
    """Take an archive apart into ``folder``, which exists and is empty and which nobody else writes.

    Only plain files and folders come out, with modes 0644 and 0755, owned by the caller.

    Raises:
        ArchiveError: see ``inspect``; what had come out before stays.
    """
    with _opened(source, max_bytes) as tar:
        for member in _members(tar, max_bytes):
            target = folder / member.name
            if member.isdir():
                target.mkdir(mode=0o755, parents=True, exist_ok=True)
                continue
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            with open(target, "xb") as file:
                while chunk := content.read(1 << 20):
                    file.write(chunk)
            target.chmod(0o644)


@contextmanager
def _opened(source: IO[bytes], max_bytes: int) -> Iterator[tarfile.TarFile]:
    # Headers and padding come on top of the content.
    limited = _Limited(gzip.GzipFile(fileobj=source, mode="rb"), max_bytes + (MAX_ENTRIES + 1) * 2048)
    try:
        with tarfile.open(fileobj=limited, mode="r|", tarinfo=_Member) as tar:
            yield tar
        while limited.read(1 << 20):  # to the end: the checksum of the compressed data stands there
            pass
    except DAMAGE as error:
        raise ArchiveError("damaged") from error


def _members(tar: tarfile.TarFile, max_bytes: int) -> Iterator[tarfile.TarInfo]:
    files: set[str] = set()
    folders: set[str] = set()
    total = 0
    for count, member in enumerate(tar, start=1):
        if count > MAX_ENTRIES:
            raise ArchiveError("too-many", MAX_ENTRIES)
        member.name = _checked_name(member.name)
        if member.sparse is not None or not (member.isdir() or member.type in PLAIN):
            raise ArchiveError("bad-type", member.name)
        parents = {str(parent) for parent in Path(member.name).parents}
        if member.isdir():
            parents.add(member.name)
        elif member.name == "." or member.name in files or member.name in folders:
            raise ArchiveError("bad-name", member.name)
        else:
            files.add(member.name)
            total += member.size
        if parents & files:
            raise ArchiveError("bad-name", member.name)
        folders |= parents
        if total > max_bytes:
            raise ArchiveError("too-large", max_bytes >> 20)
        yield member


def _checked_name(name: str) -> str:
    parts = [part for part in name.split("/") if part != "."]
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ArchiveError("bad-name", ascii(name)) from None
    if name.startswith("/") or ".." in parts or "\0" in name or size > MAX_NAME_BYTES:
        raise ArchiveError("bad-name", name[:100])
    if any(len(part.encode()) > 255 for part in parts):
        raise ArchiveError("bad-name", name[:100])
    return "/".join(part for part in parts if part) or "."


class _Member(tarfile.TarInfo):
    """A header that refuses to be larger than a name can be."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in EXTENDED and not 0 <= self.size <= MAX_HEADER_BYTES:
            raise ArchiveError("bad-name")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Limited(io.RawIOBase):
    """A stream that ends in an error instead of giving more than it may."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream, self._left, self._limit = stream, limit, limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError("too-large", self._limit >> 20)
        return data
