"""Backup and restore with real databases, files and writers, on SQLite and on PostgreSQL."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from typer.testing import CliRunner

from academy import backup
from academy.cli import app
from academy.database import Database
from academy.people import Person, enrol
from academy.settings import Settings
from grading import records
from grading.exchange.store import Store

Config = Callable[..., Settings]
SILENT: Callable[[str], None] = lambda _: None  # noqa: E731


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def place(request: pytest.FixtureRequest, config: Config) -> tuple[str, Settings]:
    """An empty deployment on either database."""
    return request.param, config(**_databases(request))


def _databases(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "sqlite":
        return {}
    import psycopg

    cluster = request.getfixturevalue("postgres")
    names = [f"{kind}{secrets.token_hex(3)}" for kind in ("academy", "hub", "grades-basics")]
    with psycopg.connect(f"{cluster}/postgres", autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}"')
    gradebook = f"{cluster}/{names[2]}".replace("basics", "{course}")
    return {"database": {"url": f"{cluster}/{names[0]}", "hub_url": f"{cluster}/{names[1]}", "gradebook_url": gradebook}}


def fill(settings: Settings, students: int = 20) -> None:
    """A deployment with people, a release, submissions, a gradebook, a course folder and secrets."""
    database, store = Database(settings.database_url), Store(settings)
    database.upgrade()
    with database.write() as session:
        for number in range(students):
            person = Person(login=f"학생{number}", name=f"Student {number}")
            enrol(person, "basics", "student")
            session.add(person)
        release = {"ko": store.put(b"release ko"), "en": store.put(b"release en")}
        session.add(records.Release(course="basics", unit="arrays", blobs=release, released_by="teacher"))
    for number in range(students):
        submit(database, store, f"학생{number}", os.urandom(2000))
    database.close()
    course = settings.course_folder("basics")
    for name in ("source/arrays", "submitted", "feedback"):
        (course / name).mkdir(parents=True)
    (course / "source/arrays/arrays.ipynb").write_text('{"cells": []}')
    (course / "source/arrays").chmod(0o2770)
    for url in (settings.gradebook_url("basics"), settings.hub_database_url):
        table(url, "scores", 50)
    settings.secret("proxy-token")


def submit(database: Database, store: Store, login: str, content: bytes) -> None:
    sha256 = store.put(content)
    with database.write() as session:
        submission = records.Submission(course="basics", unit="arrays", login=login, sha256=sha256, size=len(content))
        session.add(submission)
        session.flush()
        session.add(records.Job(kind="grade", course="basics", unit="arrays", submission_id=submission.id, requested_by=login))
        records.record(session, login, "submit", "basics", "arrays", login)


def table(url: str, name: str, rows: int) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, value TEXT)"))
        connection.execute(
            text(f"INSERT INTO {name} VALUES (:id, :value)"), [{"id": i, "value": f"점수 {i}"} for i in range(rows)]
        )
    engine.dispose()


def content(settings: Settings) -> dict[str, Any]:
    """Every row of every database and every file of every folder."""
    found: dict[str, Any] = {}
    for url in (settings.database_url, settings.hub_database_url, settings.gradebook_url("basics")):
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            for name in inspect(connection).get_table_names():
                found[f"{url} {name}"] = sorted(map(str, connection.execute(text(f'SELECT * FROM "{name}"'))))
        engine.dispose()
    for folder in backup.FOLDERS:
        for path in sorted((settings.data / folder).rglob("*")):
            if path.name != "incoming" and not path.name.startswith("gradebook.db"):
                mode = stat.S_IMODE(path.stat().st_mode)
                found[str(path)] = (oct(mode), path.read_bytes() if path.is_file() else "folder")
    return found


def wipe(settings: Settings) -> None:
    """The machine is lost: no data, empty databases."""
    shutil.rmtree(settings.data)
    for url in (settings.database_url, settings.hub_database_url, settings.gradebook_url("basics")):
        if url.startswith("postgresql"):
            engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
            with engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
            engine.dispose()


def test_restores_every_row_and_file_into_an_empty_place(place: tuple[str, Settings]) -> None:
    _, settings = place
    fill(settings)
    before = content(settings)
    archive = backup.back_up(settings, report=SILENT)
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    wipe(settings)
    assert backup.restore(settings, archive, report=SILENT) is None
    assert content(settings) == before
    database = Database(settings.database_url)
    with pytest.raises(Exception, match="append-only"), database.write() as session:
        session.execute(text("DELETE FROM history"))  # triggers came back too
    database.close()


def test_every_row_has_its_file_while_students_submit(place: tuple[str, Settings]) -> None:
    _, settings = place
    fill(settings, students=3)
    stop, written = threading.Event(), 0

    def students() -> None:
        nonlocal written
        database, store = Database(settings.database_url), Store(settings)
        while not stop.is_set():
            submit(database, store, "학생1", os.urandom(5000))
            written += 1
        database.close()

    writers = [threading.Thread(target=students) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        while written < 5:
            stop.wait(0.01)
        archives = [backup.back_up(settings, report=SILENT) for _ in range(3)]
        during = written
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert during > 5
    wipe(settings)
    for archive in archives:
        backup.restore(settings, archive, replace=True, report=SILENT)
        database, store = Database(settings.database_url), Store(settings)
        with database.read() as session:
            submissions = session.query(records.Submission).all()
            assert session.query(records.Job).count() == len(submissions)  # they commit together
        database.close()
        assert len(submissions) >= 5
        for submission in submissions:
            assert hashlib.sha256(store.read(submission.sha256)).hexdigest() == submission.sha256


def test_what_was_there_is_kept_aside(place: tuple[str, Settings]) -> None:
    kind, settings = place
    fill(settings)
    archive = backup.back_up(settings, report=SILENT)
    before = content(settings)
    database = Database(settings.database_url)
    with database.write() as session:
        session.add(Person(login="later", name="came after the backup"))
    database.close()
    with pytest.raises(backup.TargetNotEmpty, match="--yes"):
        backup.restore(settings, archive, report=SILENT)
    kept = backup.restore(settings, archive, replace=True, report=SILENT)
    assert content(settings) == before
    assert kept is not None
    assert list((kept / "blobs").rglob("*"))
    if kind == "sqlite":
        with sqlite3.connect(kept / "academy.sqlite") as old:
            assert old.execute("SELECT name FROM people WHERE login = 'later'").fetchone()
    else:
        engine = create_engine(settings.database_url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            [schema] = [name for name in inspect(connection).get_schema_names() if name.startswith("before_restore_")]
            assert connection.scalar(text(f"SELECT name FROM {schema}.people WHERE login = 'later'"))
        engine.dispose()
        backup.back_up(settings, report=SILENT)  # and the next backup takes the new state alone


def test_a_failed_restore_leaves_all_as_it_was(place: tuple[str, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    _, settings = place
    fill(settings)
    archive = backup.back_up(settings, report=SILENT)
    submit_one = Database(settings.database_url)
    submit(submit_one, Store(settings), "학생1", b"after the backup")
    submit_one.close()
    before = content(settings)

    def fail(*_: object) -> None:
        raise backup.BackupError("the last step fails")

    monkeypatch.setattr(backup, "_compare_rows", fail)
    with pytest.raises(backup.BackupError, match="last step"):
        backup.restore(settings, archive, replace=True, report=SILENT)
    assert content(settings) == before


@pytest.fixture
def archive(config: Config) -> tuple[Settings, Path]:
    """A deployment on SQLite and its backup."""
    settings = config()
    fill(settings, students=2)
    return settings, backup.back_up(settings, report=SILENT)


def test_damaged_archives_are_refused(archive: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, path = archive
    before = content(settings)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        blob = next(info for info in tar if info.name.startswith("data/blobs") and info.isreg())
        manifest = tar.getmember(backup.MANIFEST)
    damages = {
        "cut": whole[: len(whole) // 2],
        "bit": whole[: blob.offset_data] + bytes([whole[blob.offset_data] ^ 1]) + whole[blob.offset_data + 1 :],
        "manifest": whole[: manifest.offset_data + 20] + b"9" + whole[manifest.offset_data + 21 :],
        "no tar": b"this is no archive",
    }
    for name, damaged in damages.items():
        bad = tmp_path / f"{name}.tar"
        bad.write_bytes(damaged)
        with pytest.raises(backup.BackupError, match=r"damaged.*othing was changed"):
            backup.restore(settings, bad, replace=True, report=SILENT)
        assert content(settings) == before, name


def test_an_archive_cannot_write_elsewhere(archive: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, path = archive
    for name in ("../outside", "/etc/outside", "data/../../outside"):
        evil = tmp_path / "evil.tar"
        shutil.copy(path, evil)
        with tarfile.open(evil, "a") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(backup.BackupError, match="unexpected path"):
            backup.restore(settings, evil, replace=True, report=SILENT)
    assert not list(tmp_path.rglob("outside"))


def test_a_missing_or_changed_submission_is_told(archive: tuple[Settings, Path]) -> None:
    settings, path = archive
    database = Database(settings.database_url)
    with database.read() as session:
        lost, changed = session.query(records.Submission).all()
    database.close()
    Store(settings).path(lost.sha256).unlink()
    place = Store(settings).path(changed.sha256)
    place.chmod(0o600)
    place.write_bytes(b"bit rot")
    with pytest.raises(backup.IncompleteBackup) as caught:
        backup.back_up(settings, report=SILENT)
    assert lost.id in str(caught.value)
    assert changed.id in str(caught.value)
    assert caught.value.archive.exists()
    assert caught.value.archive != path


def test_links_do_not_lead_out(archive: tuple[Settings, Path], tmp_path: Path) -> None:
    settings, _ = archive
    secret = tmp_path / "outside"
    secret.write_text("not of the academy")
    (settings.course_folder("basics") / "submitted" / "link").symlink_to(secret)
    os.mkfifo(settings.course_folder("basics") / "submitted" / "pipe")
    with tarfile.open(backup.back_up(settings, report=SILENT)) as tar:
        assert not [info for info in tar if info.name.endswith(("link", "pipe"))]


def test_refuses_while_the_academy_runs(archive: tuple[Settings, Path]) -> None:
    settings, path = archive
    with socket.create_server(("127.0.0.1", settings.hub.port)), pytest.raises(backup.BackupError, match="Stop it first"):
        backup.restore(settings, path, replace=True, report=SILENT)
    worker = Database(settings.database_url)  # listens nowhere, but has the database open
    with worker.read() as session:
        session.query(Person).first()
        with pytest.raises(backup.BackupError, match="in use"):
            backup.restore(settings, path, replace=True, report=SILENT)
    worker.close()


def test_keeps_the_newest_and_copies(config: Config, tmp_path: Path) -> None:
    settings = config(backup={"keep": 2, "folder": str(tmp_path / "here"), "copy_to": str(tmp_path / "there")})
    fill(settings, students=1)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "of-somebody-else.tar").touch()
    made = [backup.back_up(settings, report=SILENT).name for _ in range(3)]
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["of-somebody-else.tar", *made[1:]]
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == made[1:]
    assert (tmp_path / "here" / made[2]).read_bytes() == (tmp_path / "there" / made[2]).read_bytes()


def test_the_command(config: Config, tmp_path: Path) -> None:
    settings = config()
    fill(settings, students=1)
    run = CliRunner().invoke
    made = run(app, ["backup", "--output", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    [path] = (tmp_path / "out").iterdir()
    refused = run(app, ["restore", str(path)])
    assert isinstance(refused.exception, backup.TargetNotEmpty)
    done = run(app, ["restore", str(path), "--yes"])
    assert done.exit_code == 0, done.output
    assert "before-restore-" in done.output
