"""Backups of all state of a deployment, and putting one back.

An archive is a tar with the databases (SQLite copies or PostgreSQL dumps), the submissions' files, the course folders, the
secrets, and last a manifest with size and SHA-256 of each. Databases are copied before the files that their rows name, and
those files are never changed, so every row of an archive has its file though the academy runs on. Home volumes are not in it.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sqlalchemy import URL, Connection, create_engine, inspect, make_url, text

import academy
from academy.database import now
from academy.settings import Settings

FORMAT = 1
FOLDERS = ("blobs", "courses", "secrets")  # of the data folder
MANIFEST = "manifest.json"
SQLITE_FILES = ("", "-wal", "-shm", "-journal")
Report = Callable[[str], None]


class BackupError(Exception):
    """A backup or a restore cannot be done; the message says why and what to do. Nothing was changed."""


class TargetNotEmpty(BackupError):
    """A restore would replace what is there, and nobody said that it may."""


class IncompleteBackup(BackupError):
    """The archive was written, but something that should be in it is not to be had; ``archive`` is its path."""

    def __init__(self, archive: Path, problems: list[str]) -> None:
        self.archive = archive
        super().__init__(
            f"{archive} was written, but {len(problems)} things are missing in it: {'; '.join(problems[:5])}. "
            "Look for them in an older backup and check the disk."
        )


@dataclass(frozen=True)
class Source:
    """A database of the deployment."""

    name: str  # academy, jupyterhub, gradebook-COURSE
    url: URL

    @property
    def sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @property
    def file(self) -> Path:
        return Path(self.url.database or "")

    @property
    def member(self) -> str:
        return f"databases/{self.name}.{'sqlite' if self.sqlite else 'dump'}"


@dataclass
class Copied:
    """A database in an archive: where, of which kind, how many rows each table had, its Alembic revision."""

    name: str
    kind: str
    member: str
    rows: dict[str, int]
    revision: str | None


@dataclass
class Manifest:
    made_at: str
    version: str
    deployment: str
    databases: list[Copied] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    format: int = FORMAT

    @classmethod
    def parse(cls, raw: bytes) -> Manifest:
        data = json.loads(raw)
        if data["format"] != FORMAT:
            raise BackupError(
                f"The archive has format {data['format']}, and this version reads {FORMAT}. "
                f"Install AcademyHub {data['version']} and restore with that."
            )
        data["databases"] = [Copied(**database) for database in data["databases"]]
        return cls(**data)

    def database(self, name: str) -> Copied | None:
        return next((database for database in self.databases if database.name == name), None)


# Making a backup


def back_up(settings: Settings, folder: Path | None = None, report: Report = print) -> Path:
    """Write one archive into ``folder`` (default: ``backup.folder``), a copy to ``backup.copy_to``, and drop the oldest.

    Raises:
        BackupError: a database or the folder cannot be used.
        IncompleteBackup: the archive is there, but files that rows name are not.
    """
    target = folder or settings.backup.folder
    made = now()
    path = target / f"{settings.academy.name}-{made:%Y%m%dT%H%M%S.%f}Z.tar"
    manifest = Manifest(made.isoformat(), academy.__version__, settings.academy.name)
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _written_whole(path) as file, tempfile.TemporaryDirectory(dir=target, prefix=".databases-") as scratch:
            writer = _Writer(file, manifest)
            wanted = _add_databases(writer, settings, Path(scratch), report)
            for name in FOLDERS:
                report(f"Copying {name}")
                _add_folder(writer, settings.data / name, f"data/{name}")
            manifest.problems += _missing_blobs(manifest, wanted)
            writer.finish()
        _keep_newest(settings, target, if_ours=folder is None)
        if settings.backup.copy_to:
            report(f"Copying the archive to {settings.backup.copy_to}")
            _copy(path, settings.backup.copy_to)
            _keep_newest(settings, settings.backup.copy_to, if_ours=True)
    except OSError as error:
        raise BackupError(f"The backup could not be written: {error}. Check the folder's owner and disk space.") from error
    report(f"{path}: {path.stat().st_size / 1e6:,.1f} MB, {len(manifest.files)} files")
    if manifest.problems:
        raise IncompleteBackup(path, manifest.problems)
    return path


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name only when it is complete and on disk; nobody else may read it."""
    partial = path.with_name(f".{path.name}.partial")
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _Writer:
    """Adds members to the archive and notes their size and digest in the manifest."""

    def __init__(self, file: IO[bytes], manifest: Manifest) -> None:
        self.tar = tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self.manifest = manifest

    def folder(self, path: Path, member: str) -> None:
        self.tar.addfile(self.tar.gettarinfo(str(path), member))

    def file(self, path: Path, member: str, like: os.stat_result | None = None) -> None:
        """Add a file as it is now, even if somebody writes to it; ``like`` gives owner and mode of another."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as source, tempfile.SpooledTemporaryFile(max_size=16 << 20) as copy:
            info = self.tar.gettarinfo(arcname=member, fileobj=source)
            if not info.isreg():
                if info.islnk():  # a second name of a file that is in the archive already: content again
                    info.type = tarfile.REGTYPE
                else:
                    return
            digest = hashlib.sha256()
            while block := source.read(1 << 20):
                digest.update(block)
                copy.write(block)
            info.size = copy.tell()
            copy.seek(0)
            if like:
                info.uid, info.gid, info.mode = like.st_uid, like.st_gid, stat.S_IMODE(like.st_mode)
            self.tar.addfile(info, copy)
        self.manifest.files[member] = {"size": info.size, "sha256": digest.hexdigest()}

    def finish(self) -> None:
        raw = json.dumps(asdict(self.manifest), ensure_ascii=False, indent=1).encode()
        for name, content in ((MANIFEST, raw), (f"{MANIFEST}.sha256", hashlib.sha256(raw).hexdigest().encode())):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            with tempfile.SpooledTemporaryFile() as file:
                file.write(content)
                file.seek(0)
                self.tar.addfile(info, file)
        self.tar.close()


def _sources(settings: Settings) -> list[Source]:
    courses = sorted(path.name for path in (settings.data / "courses").glob("*") if path.is_dir())
    urls = {"academy": settings.database_url, "jupyterhub": settings.hub_database_url}
    urls |= {f"gradebook-{course}": settings.gradebook_url(course) for course in courses}
    return [Source(name, make_url(url)) for name, url in urls.items()]


def _add_databases(writer: _Writer, settings: Settings, scratch: Path, report: Report) -> dict[str, str]:
    """Copy all databases; returns the SHA-256 of every blob that the academy's rows name -> what it is."""
    wanted: dict[str, str] = {}
    for source in _sources(settings):
        if source.sqlite and not source.file.is_file():
            if source.name == "academy":
                raise BackupError(f"There is no database {source.file}. Check academy.data and database.url in the settings.")
            continue
        report(f"Copying the database {source.name}")
        copy = scratch / PurePosixPath(source.member).name
        with _snapshot(source, copy) as connection:
            rows, revision = _count(connection), _revision(connection)
            if source.name == "academy":
                wanted = _wanted_blobs(connection)
        writer.file(copy, source.member, like=source.file.stat() if source.sqlite else None)
        kind = "sqlite" if source.sqlite else "postgresql"
        writer.manifest.databases.append(Copied(source.name, kind, source.member, rows, revision))
        copy.unlink()
    return wanted


@contextmanager
def _snapshot(source: Source, copy: Path) -> Iterator[Connection]:
    """Copy a database into a file; the connection sees exactly what was copied."""
    if source.sqlite:
        _copy_sqlite(source.file, copy)
        with _connect(make_url(f"sqlite:///{copy}")) as connection:
            yield connection
        return
    with _connect(source.url) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
        options = ["--format=custom", "--no-owner", "--no-privileges", "--schema=public"]
        _postgres(source, "pg_dump", *options, f"--snapshot={snapshot}", f"--file={copy}")
        yield connection


def _copy_sqlite(file: Path, copy: Path) -> None:
    try:
        writable = sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=60)
        with _closing(writable) as source, _closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
    except sqlite3.Error as error:
        raise BackupError(f"The database {file} cannot be copied: {error}.") from error


@contextmanager
def _closing(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _connect(url: URL) -> Iterator[Connection]:
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    except Exception as error:
        if isinstance(error, BackupError | OSError) or not type(error).__module__.startswith("sqlalchemy"):
            raise
        shown = url.render_as_string(hide_password=True)
        raise BackupError(f"The database {shown} cannot be used: {error}. Check that it runs and exists.") from error
    finally:
        engine.dispose()


def _count(connection: Connection) -> dict[str, int]:
    quote = connection.dialect.identifier_preparer.quote
    tables = sorted(inspect(connection).get_table_names())
    return {table: int(connection.scalar(text(f"SELECT count(*) FROM {quote(table)}")) or 0) for table in tables}  # noqa: S608


def _revision(connection: Connection) -> str | None:
    if "alembic_version" not in inspect(connection).get_table_names():
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))


def _wanted_blobs(connection: Connection) -> dict[str, str]:
    from sqlalchemy.orm import Session

    from grading.records import Feedback, Release, Submission

    with Session(connection) as session:
        wanted = {sha256: f"submission {id}" for id, sha256 in session.query(Submission.id, Submission.sha256)}
        wanted |= {sha256: f"feedback {id}" for id, sha256 in session.query(Feedback.submission_id, Feedback.sha256)}
        for course, unit, blobs in session.query(Release.course, Release.unit, Release.blobs):
            wanted |= {sha256: f"release {course}/{unit}" for sha256 in blobs.values()}
    return wanted


def _missing_blobs(manifest: Manifest, wanted: dict[str, str]) -> list[str]:
    """Blobs that rows name and that are not in the archive, or not with the content that their name promises."""
    whole = {f["sha256"] for member, f in manifest.files.items() if PurePosixPath(member).name == f["sha256"]}
    return [f"the file {sha256} of {what}" for sha256, what in wanted.items() if sha256 not in whole]


def _add_folder(writer: _Writer, folder: Path, member: str) -> None:
    """Add a folder: plain files alone, so that no link leads out of it; SQLite's files are among the databases."""
    if not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder, onerror=lambda error: writer.manifest.problems.append(str(error))):
        folders[:] = sorted(set(folders) - ({"incoming"} if member == "data/blobs" else set()))  # uploads under way
        inside = PurePosixPath(member) / Path(parent).relative_to(folder).as_posix()
        writer.folder(Path(parent), str(inside))
        for name in sorted(files):
            if re.fullmatch(r"gradebook\.db(-wal|-shm|-journal)?|\..*\.partial", name):
                continue
            path = Path(parent) / name
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    writer.file(path, str(inside / name))
            except FileNotFoundError:
                continue  # removed while we read the folder
            except PermissionError as error:
                writer.manifest.problems.append(str(error))


def _keep_newest(settings: Settings, folder: Path, *, if_ours: bool) -> None:
    if not if_ours:
        return
    pattern = re.compile(rf"{re.escape(settings.academy.name)}-\d{{8}}T\d{{6}}\.\d{{6}}Z\.tar")
    archives = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    for path in archives[: -settings.backup.keep]:
        path.unlink()


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("rb") as source, _written_whole(folder / path.name) as target:
        shutil.copyfileobj(source, target, 1 << 20)


# Putting one back


def restore(settings: Settings, archive: Path, *, replace: bool = False, report: Report = print) -> Path | None:
    """Put an archive's state in place of what is there; returns where the old state lies, None when there was none.

    Everything is unpacked and compared with the manifest first; then databases and folders are swapped, and swapped back if
    one of them fails.

    Raises:
        BackupError: the archive is damaged or of another kind, or the academy runs.
        TargetNotEmpty: there is state already and ``replace`` is false.
    """
    refuse_while_running(settings)
    stamp = f"{now():%Y%m%dT%H%M%S.%fZ}"
    aside = settings.data / f"before-restore-{stamp}"
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=settings.data, prefix=".restore-") as scratch:
        staging = Path(scratch)
        report(f"Checking {archive}")
        manifest = unpack(archive, staging)
        targets = _targets(settings, manifest)
        _refuse_newer(manifest)
        occupied = _occupied(settings, targets)
        if occupied and not replace:
            raise TargetNotEmpty(f"There is state already: {', '.join(occupied)}. With --yes it is kept aside and replaced.")
        _refuse_open(targets)
        with ExitStack() as undo:
            for source in targets:
                if not source.sqlite:
                    report(f"Restoring the database {source.name}")
                    _restore_postgres(source, staging / source.member, stamp, undo)
            for name in FOLDERS:
                report(f"Restoring {name}")
                _swap(staging / "data" / name, settings.data / name, aside / name, undo)
            for source in targets:
                if source.sqlite:
                    report(f"Restoring the database {source.name}")
                    _swap_sqlite(staging / source.member, source.file, aside, undo)
            _compare_rows(targets, manifest)
            undo.pop_all()  # all is in place: nothing to undo
    return aside if aside.is_dir() else None


def unpack(archive: Path, staging: Path) -> Manifest:
    """Unpack an archive into an empty folder and prove that it is whole.

    Raises:
        BackupError: with what is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    last: dict[str, bytes] = {}
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    try:
        with tarfile.open(archive, "r:") as tar:
            for info in tar:
                if info.name in (MANIFEST, f"{MANIFEST}.sha256"):
                    last[info.name] = _content(tar, info).read()
                    continue
                path = staging / _safe(info.name)
                if info.isdir():
                    path.mkdir(parents=True, exist_ok=True, mode=0o700)
                    folders.append((path, info))
                elif info.isreg():
                    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    found[info.name] = _write(path, _content(tar, info))
                    _own(path, info)
                else:
                    raise BackupError(f"{archive} is not a backup: {info.name!r} is neither a file nor a folder.")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BackupError(f"{archive} is damaged or not a backup: {error}. Nothing was changed; take another.") from error
    for path, info in reversed(folders):
        _own(path, info)
    return _checked(archive, found, last)


def _checked(archive: Path, found: dict[str, dict[str, Any]], last: dict[str, bytes]) -> Manifest:
    raw = last.get(MANIFEST, b"")
    if hashlib.sha256(raw).hexdigest().encode() != last.get(f"{MANIFEST}.sha256"):
        raise BackupError(f"{archive} is damaged: its manifest is missing or changed. Nothing was changed; take another.")
    manifest = Manifest.parse(raw)
    wrong = [name for name, facts in manifest.files.items() if found.get(name) != facts]
    wrong += [name for name in found if name not in manifest.files]
    if wrong:
        raise BackupError(
            f"{archive} is damaged: {len(wrong)} files differ from its manifest, the first {wrong[0]!r}. "
            "Nothing was changed; take another."
        )
    return manifest


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(info)
    if file is None:
        raise tarfile.ReadError(f"{info.name} has no content")
    return file


def _safe(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.parts[:1] not in (("data",), ("databases",)):
        raise tarfile.ReadError(f"unexpected path {name!r}")
    return path


def _write(path: Path, source: IO[bytes]) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            size += len(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def _own(path: Path, info: tarfile.TarInfo) -> None:
    """Give back owner and mode; others than root can give back at most a group of theirs."""
    with suppress(PermissionError):
        os.chown(path, info.uid if os.geteuid() == 0 else -1, info.gid)
    path.chmod(info.mode & 0o7777)


def refuse_while_running(settings: Settings) -> None:
    """
    Raises:
        BackupError: the hub, the proxy or the pages answer.
    """
    from academy.network import gateway

    addresses = {(settings.hub.address, settings.hub.port)}
    inside = settings.hub.internal_address or gateway(settings, "students") or "127.0.0.1"
    addresses |= {(inside, settings.hub.hub_port), (inside, settings.hub.pages_port)}
    for address, port in sorted(addresses):
        with suppress(OSError), socket.create_connection((address, port), timeout=2):
            raise BackupError(
                f"The academy runs ({address}:{port} answers). Stop it first: Ctrl-C in `academy run`, or "
                "systemctl stop academy-hub academy-pages academy-worker academy-pool"
            )


def _refuse_newer(manifest: Manifest) -> None:
    """An archive of a later version has tables that this one does not know."""
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory(str(Path(__file__).parent / "migrations")).walk_revisions()}
    copied = manifest.database("academy")
    if copied and copied.revision and copied.revision not in known:
        raise BackupError(f"The archive is of AcademyHub {manifest.version}, newer than this one. Install that version first.")


def _targets(settings: Settings, manifest: Manifest) -> list[Source]:
    """Where the archive's databases go by the settings of this deployment."""
    targets = []
    for copied in manifest.databases:
        url = {"academy": settings.database_url, "jupyterhub": settings.hub_database_url}.get(copied.name)
        source = Source(copied.name, make_url(url or settings.gradebook_url(copied.name.removeprefix("gradebook-"))))
        kind = "sqlite" if source.sqlite else "postgresql"
        if kind != copied.kind:
            raise BackupError(
                f"The archive holds {copied.name} as {copied.kind}, and the settings say {kind}. "
                "Set [database] as it was when the backup was made."
            )
        targets.append(source)
    return targets


def _occupied(settings: Settings, targets: list[Source]) -> list[str]:
    occupied = [str(settings.data / name) for name in ("blobs", "courses") if any((settings.data / name).glob("*"))]
    for source in targets:
        if source.sqlite:
            occupied += [str(source.file)] if source.file.exists() else []
        else:
            with _connect(source.url) as connection:
                occupied += [f"database {source.name}"] if inspect(connection).get_table_names() else []
    return occupied


def _refuse_open(targets: list[Source]) -> None:
    """The worker listens nowhere, but it holds the databases open."""
    for source in targets:
        if source.sqlite and source.file.exists():
            busy = _sqlite_is_open(source.file)
        elif not source.sqlite:
            with _connect(source.url) as connection:
                query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                busy = bool(connection.scalar(text(query)))
        else:
            busy = False
        if busy:
            raise BackupError(f"The database {source.name} is in use. Stop the academy's hub, pages and worker first.")


def _sqlite_is_open(file: Path) -> bool:
    """Leaving write-ahead logging needs the file for oneself alone; the academy turns it on again."""
    with _closing(sqlite3.connect(file, timeout=1)) as connection:
        try:
            connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            return False
        except sqlite3.OperationalError:
            return True
        except sqlite3.DatabaseError:
            return False  # damaged: the reason for this restore


def _swap(new: Path, place: Path, aside: Path, undo: ExitStack) -> None:
    """Put ``new`` in ``place`` and what was there ``aside``."""
    if place.exists():
        aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.rename(aside)
        undo.callback(aside.rename, place)
    if new.exists():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.rename(place)
        undo.callback(place.rename, new)


def _swap_sqlite(new: Path, place: Path, aside: Path, undo: ExitStack) -> None:
    for suffix in SQLITE_FILES:
        old = place.with_name(place.name + suffix)
        _swap(new if suffix == "" else new.with_name(new.name + suffix), old, aside / old.name, undo)


def _restore_postgres(source: Source, dump: Path, stamp: str, undo: ExitStack) -> None:
    """Restore into the schema public; what was there stays in the schema before_restore_TIME."""
    aside = f"before_restore_{stamp.lower().replace('.', '_')}"
    with _connect(source.url) as connection:
        occupied = bool(inspect(connection).get_table_names())
        if occupied:
            connection.execute(text(f'ALTER SCHEMA public RENAME TO "{aside}"'))
            connection.execute(text("CREATE SCHEMA public"))
            connection.commit()
    undo.callback(_undo_postgres, source, aside if occupied else None)
    options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", "--schema=public"]
    _postgres(source, "pg_restore", *options, f"--dbname={source.url.database}", str(dump))


def _undo_postgres(source: Source, aside: str | None) -> None:
    with _connect(source.url) as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text(f'ALTER SCHEMA "{aside}" RENAME TO public' if aside else "CREATE SCHEMA public"))
        connection.commit()


def _compare_rows(targets: list[Source], manifest: Manifest) -> None:
    for source in targets:
        copied = manifest.database(source.name)
        with _connect(source.url) as connection:
            rows = _count(connection)
        if copied and rows != copied.rows:
            raise BackupError(f"After the restore {source.name} holds {rows}, not {copied.rows}. The old state is back.")


def _postgres(source: Source, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; the password goes by the environment, where other users cannot read it."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"), key=lambda p: int(p.split("/")[4]))
    path = found[-1] if found else shutil.which(program)
    if not path:
        raise BackupError(f"{program} is missing. Install it: apt-get install postgresql-client")
    url = source.url
    query = {key: str(value) for key, value in url.query.items()}
    values = {
        "PGHOST": url.host or query.get("host"),
        "PGPORT": url.port or query.get("port"),
        "PGUSER": url.username or query.get("user"),
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": query.get("sslmode"),
    }
    environment = {**os.environ, **{key: str(value) for key, value in values.items() if value}}
    done = subprocess.run([path, "--no-password", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BackupError(f"{program} of {source.name} failed: {done.stderr.strip()[-800:]}")
