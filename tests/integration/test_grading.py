"""From a released unit to scores, feedback and CSV, with real nbgrader, real sandboxes, SQLite and PostgreSQL."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from nbgrader.api import Gradebook
from sqlalchemy import select, text

from academy.database import Database, now
from academy.people import Person, enrol
from academy.settings import Settings, load
from grading import operations
from grading.autograde import gradebook
from grading.exchange import archive
from grading.exchange.store import Store
from grading.records import Feedback, Grade, History, Job, Submission
from grading.worker import Worker
from tests.conftest import until, write_config
from tests.integration.units import COURSE, MOST, RIGHT, UNIT, answer, make_unit

LIMITS = {"timeout": 20, "cell_timeout": 8, "memory_mb": 600, "workers": 2}


@dataclass
class Class:
    """A course with a released unit and students who submit."""

    settings: Settings
    database: Database
    release: Path
    config: Path
    submissions: dict[str, str] = field(default_factory=dict)  # login -> id of the newest

    def submit(self, login: str, notebook: bytes, language: str = "ko", late: bool = False, **files: bytes) -> None:
        store = Store(self.settings)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, data in {f"{UNIT}.ipynb": notebook, **files}.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        sha256 = store.put(buffer.getvalue())
        with self.database.write() as session:
            if session.get(Person, login) is None:
                person = Person(login=login, name=f"{login} 학생")
                session.add(person)
                enrol(person, COURSE, "student")
            submission = Submission(
                course=COURSE, unit=UNIT, login=login, language=language, sha256=sha256, size=len(buffer.getvalue()), late=late
            )
            session.add(submission)
            session.flush()
            self.submissions[login] = submission.id

    def grade(self, *logins: str) -> list[Job]:
        with self.database.write() as session:
            ids = [job.id for job in operations.request_grading(session, COURSE, UNIT, "teacher", list(logins) or None)]
        return self.work(ids)

    def feedback(self, *logins: str) -> list[Job]:
        with self.database.write() as session:
            ids = [job.id for job in operations.request_feedback(session, COURSE, UNIT, "teacher", list(logins) or None)]
        return self.work(ids)

    def work(self, ids: list[str]) -> list[Job]:
        Worker(self.settings).run(ids)
        with self.database.read() as session:
            return [session.get_one(Job, id) for id in ids]

    def score(self, login: str) -> Grade | None:
        with self.database.read() as session:
            return session.get(Grade, self.submissions[login])

    def job(self, login: str) -> Job:
        with self.database.read() as session:
            query = select(Job).where(Job.submission_id == self.submissions[login]).order_by(Job.id.desc())
            return session.scalars(query).first()  # type: ignore[return-value]

    def page(self, login: str, folder: Path) -> str:
        with self.database.read() as session:
            sha256 = session.get_one(Feedback, self.submissions[login]).sha256
        folder.mkdir()
        with Store(self.settings).verified(sha256).open("rb") as file:
            archive.unpack(file, folder, 10 << 20)
        assert [path.name for path in folder.iterdir()] == [f"{UNIT}.html"]
        return (folder / f"{UNIT}.html").read_text(encoding="utf-8")


def make_class(folder: Path, **sections: dict[str, Any]) -> Class:
    config = write_config(folder, **sections)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ACADEMY_CONFIG", str(config))
        settings = load()
    database = Database(settings.database_url)
    database.upgrade()
    release = make_unit(settings)
    with database.write() as session:
        operations.release_unit(session, settings, COURSE, UNIT, now() + timedelta(days=1), "teacher")
    return Class(settings, database, release, config)


HIDDEN_PEEK = RIGHT.replace("return", "import IPython; print(IPython.get_ipython().user_ns['In'][-1])\n    return")
STUDENTS: dict[str, tuple[dict[str, Any], float, str]] = {
    # login: what they hand in, their score (the written answer is worth 2 more), what staff are told
    "right": ({}, 4, ""),
    "wrong": ({"code": "def square(x):\n    return 9"}, 1, ""),
    "nothing": ({"code": "# nothing"}, 0, ""),
    "deleted": ({"square": None, "test_square": None, "why": None}, 0, ""),
    "restored": ({"test_square": None, "test_part": None}, 4, ""),
    "rewritten": ({"code": "x = 1", "test_square": "pass", "test_part": "1.0"}, 0, ""),
    "warns": ({"code": RIGHT + "\n    import sys", "test_part": None}, 4, ""),
    "stderr": ({"code": f"import sys, warnings\n{RIGHT.replace('return', 'warnings.warn(str(x)); return')}"}, 4, ""),
    "greedy": ({"code": "def square(x):\n    return 1e9"}, 1, ""),
    "minus": ({"code": "def square(x):\n    return -1e9"}, 0, ""),
    "hangs": (
        {"code": "import time\nwhile True:\n    try:\n        time.sleep(99)\n    except BaseException:\n        pass"},
        0,
        "20",
    ),
    "bomb": ({"code": "x = []\nwhile True:\n    x.append(bytearray(10**7))"}, 0, "600"),
    "exits": ({"code": "import os\nos._exit(0)"}, 0, "Python"),
    "peeks": ({"code": HIDDEN_PEEK}, 4, ""),
    "홍길동": ({}, 4, ""),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, sandbox_image: None) -> Iterator[Class]:
    """A class of honest and hostile students, graded in containers in one go."""
    limits = {**LIMITS, "backend": "docker"}
    group = make_class(tmp_path_factory.mktemp("class"), grading=limits, academy={"language": "en"})
    for login, (changes, _, _) in STUDENTS.items():
        group.submit(login, answer(group.release, **changes), "en" if login == "right" else "ko")
    group.submit("garbage", b'{"cells": [')
    group.grade()
    yield group
    group.database.close()


@pytest.mark.docker
@pytest.mark.parametrize("login", STUDENTS)
def test_each_student_gets_what_they_earned(graded: Class, login: str) -> None:
    _, expected, told = STUDENTS[login]
    job, grade = graded.job(login), graded.score(login)
    assert job.state == "done", job.error
    assert grade is not None
    assert (grade.score, grade.max_score) == (expected, MOST)
    assert told in (job.error or "")
    assert bool(told) == bool(job.error) or login == "hangs"
    assert {"queued", "started", "student cells", "recorded"} <= set(job.phases)


@pytest.mark.docker
def test_a_broken_notebook_fails_with_a_reason_and_no_grade(graded: Class) -> None:
    job = graded.job("garbage")
    assert job.state == "failed"
    assert f"{UNIT}.ipynb cannot be read" in (job.error or "")
    assert graded.score("garbage") is None


@pytest.mark.docker
def test_the_gradebook_knows_names_and_times(graded: Class) -> None:
    with gradebook(graded.settings, COURSE) as book:
        assert book.find_student("홍길동").first_name == "홍길동 학생"
        assert book.find_submission(UNIT, "right").timestamp is not None
        assert book.find_assignment(UNIT).duedate is not None


def test_a_new_gradebook_has_the_version_that_nbgrader_gives_it(
    config: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = text("SELECT version_num FROM alembic_version")
    with gradebook(config(), COURSE) as book:
        ours = book.db.scalar(version)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # nbgrader runs alembic
    with Gradebook(f"sqlite:///{tmp_path}/theirs.db") as book:
        assert book.db.scalar(version) == ours


@pytest.mark.docker
def test_points_by_hand_reach_export_pages_and_feedback(graded: Class, tmp_path: Path) -> None:
    with gradebook(graded.settings, COURSE) as book:
        written = book.find_grade("why", UNIT, UNIT, "right")
        written.manual_score, written.needs_manual_grade = 1.5, False
        book.db.commit()
    rows = {row["login"]: row for row in csv.DictReader(io.StringIO(operations.export_grades(graded.settings, COURSE)))}
    assert rows["right"]["score"] == "5.5"
    assert rows["right"]["manual_pending"] == "no"
    assert rows["right"]["feedback_released"] == "no"
    assert rows["wrong"]["manual_pending"] == "yes"
    assert rows["garbage"]["score"] == ""
    with graded.database.write() as session:
        operations.refresh_grades(session, graded.settings, COURSE, UNIT)
        overview = {row.login: row for row in operations.unit_overview(session, COURSE, UNIT)}
    assert overview["right"].grade is not None
    assert overview["right"].grade.score == 5.5
    [job] = graded.feedback("right")
    assert job.state == "done", job.error
    with graded.database.read() as session:
        assert session.get_one(Feedback, graded.submissions["right"]).score == 5.5
        history = session.scalars(select(History).where(History.login == "right", History.action == "feedback")).all()
        assert [line.actor for line in history] == ["teacher"]
    assert "Hidden tests ran here" in graded.page("right", tmp_path / "page")


@pytest.mark.docker
def test_feedback_tells_the_message_and_never_the_hidden_test(graded: Class, tmp_path: Path) -> None:
    jobs = graded.feedback("wrong", "peeks", "hangs", "bomb", "exits")
    assert [job.state for job in jobs] == ["done"] * 5
    pages = {login: graded.page(login, tmp_path / login) for login in ("wrong", "peeks", "hangs", "bomb", "exits")}
    for page in pages.values():
        assert "hidden_answer" not in page
        assert "<script" not in page
    assert "larger numbers" in pages["wrong"]
    assert "Traceback (most recent" not in pages["wrong"]
    assert "메모리 600MB" in pages["bomb"]
    assert "파이썬이 갑자기 끝나서" in pages["exits"]


@pytest.mark.docker
def test_a_new_submission_replaces_the_old_grade(graded: Class) -> None:
    graded.submit("again", answer(graded.release, code="def square(x):\n    return 9"))
    first = graded.submissions["again"]
    graded.grade("again")
    graded.submit("again", answer(graded.release), late=True)
    [job] = graded.grade("again")
    assert job.state == "done"
    grade = graded.score("again")
    assert grade is not None
    assert grade.score == 4
    with graded.database.read() as session:
        assert session.get_one(Grade, first).score == 1  # what was graded then stays on record
    rows = {row["login"]: row for row in csv.DictReader(io.StringIO(operations.export_grades(graded.settings, COURSE)))}
    assert (rows["again"]["score"], rows["again"]["late"]) == ("4", "yes")


@pytest.mark.docker
def test_formgraders_run_comes_back_executed(graded: Class) -> None:
    autograded = graded.settings.course_folder(COURSE) / "autograded" / "right" / UNIT
    payload = Store(graded.settings).put(archive.pack_bytes(autograded))
    with graded.database.write() as session:
        job = Job(kind="execute", course=COURSE, unit=UNIT, payload_sha256=payload, requested_by="teacher", priority=10)
        session.add(job)
        session.flush()
        key = job.id
    [job] = graded.work([key])
    assert job.state == "done", job.error
    assert job.result_sha256
    with tarfile.open(Store(graded.settings).path(job.result_sha256)) as tar:
        assert {f"{UNIT}.ipynb", "data.txt"} <= set(tar.getnames())


SLOW = f"import time\ntime.sleep(6)\n{RIGHT}"


def start_worker(group: Class) -> subprocess.Popen[bytes]:
    code = "from academy.settings import load; from grading.worker import main; main(load())"
    environment = {**os.environ, "ACADEMY_CONFIG": str(group.config)}
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=environment)


@pytest.mark.docker
def test_a_killed_workers_submission_is_taken_up_again_and_graded_once(tmp_path: Path, sandbox_image: None) -> None:
    import docker

    group = make_class(tmp_path, grading={**LIMITS, "cell_timeout": 15, "backend": "docker"})
    group.submit("slow", answer(group.release, code=SLOW))
    with group.database.write() as session:
        [job] = operations.request_grading(session, COURSE, UNIT, "teacher")
    client = docker.from_env()
    mine = {"label": f"academyhub.deployment={group.settings.academy.name}"}
    worker = start_worker(group)
    try:
        until(lambda: group.job("slow").state == "running")
        worker.kill()
        worker.wait()
        until(lambda: not client.api.containers(filters=mine))  # nothing runs on; the next worker removes what is left of it
        assert group.job("slow").state == "running"
        with group.database.write() as session:
            session.get_one(Job, job.id).claim_expires_at = now() - timedelta(seconds=1)
        worker = start_worker(group)
        until(lambda: group.job("slow").attempts == 2)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(120) == 0
        put_back = group.job("slow")
        assert (put_back.state, put_back.attempts) == ("queued", 1)
    finally:
        worker.kill()
        worker.wait()
    [done] = group.work([job.id])
    assert done.state == "done", done.error
    assert done.attempts == 2
    with group.database.read() as session:
        assert len(session.scalars(select(History).where(History.action == "grade")).all()) == 1
    until(lambda: not client.api.containers(all=True, filters=mine))
    client.close()
    group.database.close()


@pytest.mark.postgresql
def test_academy_and_gradebook_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    book = f"{postgres_url.rsplit('/', 1)[0]}/{{course}}"
    import psycopg

    with psycopg.connect(f"{postgres_url.rsplit('/', 1)[0]}/postgres", autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{COURSE}"')
        connection.execute(f'CREATE DATABASE "{COURSE}"')
    patient = {**LIMITS, "timeout": 120, "cell_timeout": 60, "backend": "local"}  # nothing here runs for long by itself
    group = make_class(tmp_path, grading=patient, database={"url": postgres_url, "gradebook_url": book})
    group.submit("right", answer(group.release))
    group.submit("wrong", answer(group.release, code="def square(x):\n    return 9"))
    assert [job.state for job in group.grade()] == ["done", "done"]
    right, wrong = group.score("right"), group.score("wrong")
    assert right is not None
    assert wrong is not None
    assert (right.score, wrong.score) == (4, 1)
    assert not (group.settings.course_folder(COURSE) / "gradebook.db").exists()
    [job] = group.feedback("right")
    assert job.state == "done", job.error
    assert "right,right 학생,squares,4,6" in operations.export_grades(group.settings, COURSE)
    group.database.close()


def test_the_command_does_a_units_whole_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from academy.cli import app

    group = make_class(tmp_path, grading={**LIMITS, "backend": "local"})
    monkeypatch.setenv("ACADEMY_CONFIG", str(group.config))
    group.submit("right", answer(group.release))
    group.submit("hangs", answer(group.release, code="while True: pass"))

    def academy(*words: str) -> str:
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "2031-12-01 18:00+09:00" in academy("release", COURSE, UNIT, "--due", "2031-12-01 18:00")
    assert "2 submissions collected" in academy("collect", COURSE, UNIT)
    assert (group.settings.course_folder(COURSE) / "submitted" / "right" / UNIT / f"{UNIT}.ipynb").is_file()
    assert "2 of 2 done" in academy("grade", COURSE, UNIT)
    listed = academy("submissions", COURSE, UNIT)
    assert "4/6" in listed
    assert "0/6" in listed
    assert "1 of 1 done" in academy("feedback", COURSE, UNIT, "--student", "right")
    academy("export", COURSE, "--output", str(tmp_path / "grades.csv"))
    assert "right 학생" in (tmp_path / "grades.csv").read_text(encoding="utf-8-sig")
    assert "withdrawn" in academy("withdraw", COURSE, UNIT)
    group.database.close()
