"""The database: its migrations, what a history allows, writers at the same time; on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, inspect, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError, StatementError

from academy.database import Base, Database
from academy.people import Enrollment, Person
from grading.records import History, Job, Submission, record

WRITERS, ROUNDS = 8, 10


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path}/data/academy.sqlite"


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    database = Database(url)
    database.upgrade()
    yield database
    database.close()


def test_the_migrations_make_what_the_models_declare(db: Database) -> None:
    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
        assert set(Base.metadata.tables) <= set(inspect(connection).get_table_names())


def test_an_upgrade_again_changes_nothing(db: Database) -> None:
    with db.write() as session:
        session.add(Person(login="minji", name="김민지"))
        record(session, "minji", "signed-in")
    db.upgrade()
    with db.read() as session:
        assert session.get_one(Person, "minji").name == "김민지"
        assert session.scalar(select(func.count()).select_from(History)) == 1


CHANGES = ["UPDATE history SET actor = 'nobody'", "UPDATE history SET at = at", "DELETE FROM history"]


def test_the_history_only_grows(db: Database) -> None:
    with db.write() as session:
        record(session, "minji", "submit", "nlp", "arrays", "minji", sha256="ab")
    for statement in [*CHANGES, *([] if db.sqlite else ["TRUNCATE history"])]:
        with pytest.raises(DatabaseError, match="history is append-only"), db.write() as session:
            session.execute(text(statement))
    with db.read() as session:
        line = session.scalars(select(History)).one()
        assert (line.actor, line.action, line.login, line.detail) == ("minji", "submit", "minji", {"sha256": "ab"})


def test_a_write_is_whole_or_not_at_all(db: Database) -> None:
    def fail() -> None:
        with db.write() as session:
            session.add(Person(login="minji", name="김민지"))
            session.flush()
            record(session, "teacher", "person-added", login="minji")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with db.read() as session:
        assert session.get(Person, "minji") is None
        assert session.scalars(select(History)).all() == []


def test_writers_at_the_same_time_lose_nothing(db: Database, url: str) -> None:
    """Each writer has connections of its own, as each process has; two read and write the same row."""
    with db.write() as session:
        session.add(Person(login="counter", name="0"))

    def write(writer: int) -> None:
        database = Database(url)
        for number in range(ROUNDS):
            with database.write() as session:
                counter = session.scalars(select(Person).where(Person.login == "counter").with_for_update()).one()
                counter.name = str(int(counter.name) + 1)
                session.add(Person(login=f"w{writer}-{number}", name="x"))
                record(session, f"w{writer}", "counted")
        database.close()

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    with db.read() as session:
        assert session.get_one(Person, "counter").name == str(WRITERS * ROUNDS)
        assert session.scalar(select(func.count()).select_from(Person)) == WRITERS * ROUNDS + 1
        lines = list(session.scalars(select(History).order_by(History.id)))
    assert len(lines) == WRITERS * ROUNDS
    assert len({line.id for line in lines}) == WRITERS * ROUNDS


def test_a_reader_neither_waits_for_a_writer_nor_sees_half_of_it(db: Database, url: str) -> None:
    written, read = threading.Event(), threading.Event()

    def write() -> None:
        database = Database(url)
        with database.write() as session:
            session.add(Person(login="minji", name="김민지"))
            session.flush()
            written.set()
            assert read.wait(60)
        database.close()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        assert written.wait(60)
        try:
            with db.read() as session:
                assert session.get(Person, "minji") is None
        finally:
            read.set()
        writing.result()
    with db.read() as session:
        assert session.get(Person, "minji") is not None


def test_a_submission_is_kept_once_for_a_repeated_request(db: Database) -> None:
    def submit() -> None:
        with db.write() as session:
            session.add(Submission(course="nlp", unit="arrays", login="minji", sha256="a" * 64, size=1, idempotency_key="one"))

    submit()
    with pytest.raises(IntegrityError):
        submit()
    with pytest.raises(IntegrityError), db.write() as session:
        session.add(Job(kind="grade", course="nlp", unit="arrays", submission_id="none", requested_by="x"))


def test_a_removed_persons_roles_go_and_their_work_stays(db: Database) -> None:
    with db.write() as session:
        session.add(Person(login="minji", name="김민지", enrollments=[Enrollment(course="nlp", role="student")]))
        session.add(Submission(course="nlp", unit="arrays", login="minji", sha256="a" * 64, size=1))
    with db.write() as session:
        session.execute(text("DELETE FROM people"))
    with db.read() as session:
        assert session.scalars(select(Enrollment)).all() == []
        assert session.scalars(select(Submission)).one().login == "minji"


def test_a_point_in_time_has_a_zone_and_comes_back_as_utc(db: Database) -> None:
    seoul = datetime(2026, 3, 2, 9, 0, tzinfo=timezone(timedelta(hours=9)))
    with db.write() as session:
        session.add(Person(login="minji", created_at=seoul))
    with db.read() as session:
        found = session.get_one(Person, "minji").created_at
        assert found == seoul
        assert (found.tzinfo, found.hour) == (UTC, 0)
    with pytest.raises(StatementError, match="has no time zone"), db.write() as session:
        session.add(Person(login="junho", created_at=datetime(2026, 3, 2, 9, 0)))


def test_what_sqlite_commits_is_on_disk(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/academy.sqlite")
    with database.engine.connect() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()
