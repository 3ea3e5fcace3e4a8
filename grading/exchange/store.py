"""Submissions, releases and feedback as files named by their SHA-256: written once, durable before they are acknowledged.

A file lies at ``data/blobs/ab/abcdef...`` with mode 0440. A new one is written beside it, synced, and linked into place whole,
so a crash leaves either the whole file or none; what already lies there is compared, never trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from academy.messages import AcademyError
from academy.settings import Settings
from grading.exchange import archive

_SHA256 = re.compile(r"[0-9a-f]{64}")
RESERVE_BYTES = 256 << 20  # stays free for the database and the log
LEFTOVER_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Blob:
    """A stored file."""

    sha256: str
    size: int


class Store:
    """The files of one deployment."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.data / "blobs"
        self.incoming = self.folder / "incoming"
        self.max_bytes = settings.exchange.max_submission_mb << 20
        self.incoming.mkdir(mode=0o750, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a file lies.

        Raises:
            AcademyError: there is no such file.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise AcademyError("exchange-content-missing", 500, sha256=sha256[:12])
        return path

    def verified(self, sha256: str) -> Path:
        """Where a file lies, after comparing its content with its name.

        Raises:
            AcademyError: there is no such file, or it is damaged.
        """
        path = self.path(sha256)
        if _digest(path) != sha256:
            raise AcademyError("exchange-content-damaged", 500, sha256=sha256[:12])
        return path

    def read(self, sha256: str) -> bytes:
        return self.verified(sha256).read_bytes()

    def put(self, data: bytes) -> str:
        """Store bytes; returns their SHA-256 once they are on disk."""
        with self.writer(limit=None) as writer:
            writer.write(data)
            return writer.keep().sha256

    def unpack(self, sha256: str, folder: Path) -> None:
        """Take a stored archive apart into an empty folder.

        Raises:
            AcademyError: it is missing or damaged.
            archive.ArchiveError: it was never a usable archive.
        """
        with self.verified(sha256).open("rb") as file:
            archive.unpack(file, folder, self.max_bytes)

    @contextlib.contextmanager
    def writer(self, limit: int | None) -> Iterator[Writer]:
        """A new file; what is not kept by the end of the block is gone.

        Raises:
            AcademyError: the disk is nearly full.
        """
        if shutil.disk_usage(self.incoming).free < RESERVE_BYTES:
            raise AcademyError("exchange-disk-full", 507)
        writer = Writer(self, limit)
        try:
            yield writer
        finally:
            writer.close()

    def sweep(self) -> int:
        """Remove what uploads left behind when the service was killed. Returns how many files."""
        removed = 0
        for path in self.incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - LEFTOVER_SECONDS:
                    path.unlink()
                    removed += 1
        return removed

    def _place(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256: {sha256!r}")
        return self.folder / sha256[:2] / sha256


class Writer:
    """A file on its way into the store."""

    def __init__(self, store: Store, limit: int | None) -> None:
        self._store, self._limit = store, limit
        self._path = store.incoming / secrets.token_hex(16)
        self._file: BinaryIO = open(self._path, "xb+")  # noqa: SIM115
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """
        Raises:
            AcademyError: more than the limit came.
        """
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            raise AcademyError("exchange-too-large", 413, limit=self._limit >> 20)
        self._hash.update(chunk)
        self._file.write(chunk)

    @property
    def blob(self) -> Blob:
        """What has come so far."""
        return Blob(self._hash.hexdigest(), self._size)

    def opened(self) -> BinaryIO:
        """What has come so far, from its beginning."""
        self._file.seek(0)
        return self._file

    def keep(self) -> Blob:
        """Put the file in its place; it is on disk when this returns."""
        blob = self.blob
        target = self._store._place(blob.sha256)
        if target.exists() and _digest(target) == blob.sha256:
            _sync_folder(target.parent)  # the one who wrote it may not have come this far yet
            return blob
        self._file.flush()
        os.fchmod(self._file.fileno(), 0o440)
        os.fsync(self._file.fileno())
        if not target.parent.is_dir():
            target.parent.mkdir(mode=0o750, exist_ok=True)
            _sync_folder(self._store.folder)
        try:
            os.link(self._path, target)
        except FileExistsError:
            if _digest(target) != blob.sha256:
                os.replace(self._path, target)  # damaged: heal it
        _sync_folder(target.parent)
        return blob

    def close(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def pack(folder: Path) -> bytes:
    """The plain files below a folder as a ``tar.gz``; the same files give the same bytes."""
    buffer = io.BytesIO()
    archive.pack(folder, buffer)
    return buffer.getvalue()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
