"""The queue and the operations of staff: without Docker, without nbgrader runs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from sqlalchemy import select

from academy.database import Database, now
from academy.messages import AcademyError
from academy.people import Person, enrol
from academy.settings import Settings
from grading import operations
from grading.exchange.archive import pack_bytes
from grading.exchange.store import Store
from grading.records import Feedback, Grade, History, Job, Measurement, Release, Submission
from grading.similarity import similarity
from grading.worker import ATTEMPTS, Lost, Worker


@pytest.fixture
def settings(config: Callable[..., Settings]) -> Settings:
    return config(academy={"language": "en"})


@pytest.fixture
def database(settings: Settings) -> Any:
    db = Database(settings.database_url)
    db.upgrade()
    yield db
    db.close()


def submit(database: Database, login: str, unit: str = "arrays", minutes: int = 0, sha256: str = "0" * 64) -> str:
    with database.write() as session:
        if session.get(Person, login) is None:
            person = Person(login=login, name=login.title())
            session.add(person)
            enrol(person, "demo", "student")
        at = now() + timedelta(minutes=minutes)
        submission = Submission(course="demo", unit=unit, login=login, sha256=sha256, size=1, received_at=at)
        session.add(submission)
        session.flush()
        return submission.id


def queue(database: Database, what: str = "request_grading", logins: list[str] | None = None) -> list[Job]:
    with database.write() as session:
        jobs: list[Job] = getattr(operations, what)(session, "demo", "arrays", "teacher", logins)
        return jobs


def test_grading_is_queued_once_for_the_newest_submission(database: Database) -> None:
    submit(database, "kim")
    newest = submit(database, "kim", minutes=1)
    first, again = queue(database), queue(database)
    assert [job.submission_id for job in first] == [newest]
    assert [job.id for job in again] == [job.id for job in first]
    with database.read() as session:
        assert len(session.scalars(select(History).where(History.action == "request-grade")).all()) == 1


def test_grading_nothing_says_so(database: Database) -> None:
    with pytest.raises(AcademyError, match="no submissions"):
        queue(database)
    submit(database, "kim")
    with pytest.raises(AcademyError, match="no submission of lee"):
        queue(database, logins=["lee"])


def test_higher_priority_first_then_the_newest_submission(database: Database, settings: Settings) -> None:
    for minutes, login in enumerate(("old", "middle", "new")):
        submit(database, login, minutes=minutes)
    by_login = {}
    for job in queue(database):
        with database.read() as session:
            by_login[session.get_one(Submission, job.submission_id).login] = job.id
    with database.write() as session:
        session.get_one(Job, by_login["old"]).priority = 5
    worker = Worker(settings)
    claimed = [job.id for _ in range(3) if (job := worker.claim())]
    assert claimed == [by_login["old"], by_login["new"], by_login["middle"]]
    assert worker.claim() is None


def test_a_claim_that_ran_out_is_taken_by_another_and_the_first_records_nothing(database: Database, settings: Settings) -> None:
    submit(database, "kim")
    queue(database)
    one, other = Worker(settings), Worker(settings)
    job = one.claim()
    assert job is not None
    assert other.claim() is None
    with database.write() as session:
        session.get_one(Job, job.id).claim_expires_at = now() - timedelta(seconds=1)
    taken = other.claim()
    assert taken is not None
    assert (taken.id, taken.attempts) == (job.id, 2)
    with pytest.raises(Lost):
        one._renew(job)

    def record() -> None:
        with database.write() as session:
            session.add(Grade(submission_id=job.submission_id, score=1, max_score=1))
            one._finish(session, job, {}, "done", None)

    with pytest.raises(Lost):
        record()
    with database.read() as session:
        assert session.get(Grade, job.submission_id) is None


def test_a_job_that_kills_its_workers_is_given_up(database: Database, settings: Settings) -> None:
    submit(database, "kim")
    [job] = queue(database)
    worker = Worker(settings)
    for _ in range(ATTEMPTS):
        assert worker.claim() is not None
        with database.write() as session:
            session.get_one(Job, job.id).claim_expires_at = now() - timedelta(seconds=1)
    assert worker.claim() is None
    with database.read() as session:
        given_up = session.get_one(Job, job.id)
        assert given_up.state == "failed"
        assert "given up" in (given_up.error or "")


def test_one_students_unit_is_worked_on_by_one_worker_and_feedback_waits_for_the_grade(
    database: Database, settings: Settings
) -> None:
    submit(database, "kim")
    [grade] = queue(database)
    [feedback] = queue(database, "request_feedback")
    submit(database, "kim", minutes=1)
    [newer] = queue(database)
    worker = Worker(settings)
    first = worker.claim()
    assert first is not None
    assert first.id == newer.id
    assert worker.claim() is None
    with database.write() as session:
        for job in (grade, newer):
            session.get_one(Job, job.id).state = "done"
    last = worker.claim()
    assert last is not None
    assert last.id == feedback.id


def test_a_failure_is_recorded_with_its_reason(database: Database, settings: Settings) -> None:
    submit(database, "kim")  # its content is not in the store
    [job] = queue(database)
    Worker(settings).run([job.id])
    with database.read() as session:
        failed = session.get_one(Job, job.id)
        assert failed.state == "failed"
        assert failed.error
        assert operations.progress([failed]).failures == [failed]


def test_release_and_withdraw(database: Database, settings: Settings) -> None:
    root = settings.course_folder("demo")
    for folder in ("release", "release.en"):
        (root / folder / "arrays").mkdir(parents=True)
        (root / folder / "arrays" / "arrays.ipynb").write_text("{}")
    due = operations.parse_due("2031-12-01 18:00", settings)
    assert due.isoformat() == "2031-12-01T18:00:00+09:00"
    with database.write() as session:
        release = operations.release_unit(session, settings, "demo", "arrays", due, "teacher")
        assert sorted(release.blobs) == ["en", "ko"]
        with pytest.raises(AcademyError, match="no student version"):
            operations.release_unit(session, settings, "demo", "other", None, "teacher")
    with database.write() as session:
        operations.withdraw_unit(session, "demo", "arrays", "teacher")
    with database.write() as session:
        assert session.get(Release, ("demo", "arrays")) is None
        assert session.scalars(select(History.action).order_by(History.id)).all() == ["release", "withdraw"]
        with pytest.raises(AcademyError, match="not released"):
            operations.withdraw_unit(session, "demo", "arrays", "teacher")


def test_a_due_date_that_cannot_be_read(settings: Settings) -> None:
    with pytest.raises(AcademyError, match="next friday"):
        operations.parse_due("next friday", settings)


def test_collect_puts_the_newest_where_nbgrader_looks(database: Database, settings: Settings, tmp_path: Path) -> None:
    store = Store(settings)
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "arrays.ipynb").write_text(str(number))
        if number == 1:
            (folder / "timestamp.txt").write_text("forged")
        else:  # in the way of whoever writes the true time
            (folder / "timestamp.txt").mkdir()
            (folder / "timestamp.txt" / "file").write_text("")
        submit(database, "kim", minutes=number, sha256=store.put(pack_bytes(folder)))
        with database.write() as session:
            [submission] = operations.collect(session, settings, "demo", "arrays", "teacher")
    target = settings.course_folder("demo") / "submitted" / "kim" / "arrays"
    assert (target / "arrays.ipynb").read_text() == "2"
    stamp = datetime.strptime((target / "timestamp.txt").read_text(), "%Y-%m-%d %H:%M:%S.%f UTC")
    assert stamp == submission.received_at.replace(tzinfo=None)
    assert [path.name for path in target.parent.iterdir()] == ["arrays"]


def test_the_overview_shows_those_who_did_not_submit_too(database: Database) -> None:
    submission = submit(database, "kim")
    submit(database, "lee", unit="other")
    with database.write() as session:
        session.add(Grade(submission_id=submission, score=2, max_score=3))
        session.add(Feedback(submission_id=submission, sha256="0" * 64, score=2, max_score=3, released_by="teacher"))
    queue(database)
    with database.read() as session:
        kim, lee = operations.unit_overview(session, "demo", "arrays")
    assert (kim.login, kim.name) == ("kim", "Kim")
    assert kim.grade is not None
    assert kim.feedback is not None
    assert kim.job is not None
    assert kim.job.state == "queued"
    assert (lee.login, lee.submission, lee.grade, lee.job) == ("lee", None, None, None)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert operations.safe_cell(text) == f"'{text}"
    assert operations.safe_cell("김철수") == "김철수"


LATE = "[late]\ngrace_minutes = 30\nper_day = 0.1\nmost_days = 3\n"


@pytest.fixture
def course(settings: Settings, database: Database, tmp_path: Path) -> Settings:
    """The course demo with a late policy, and its unit released with a due date two hours ago."""
    folder = tmp_path / "courses" / "demo"
    (folder / "arrays").mkdir(parents=True)
    (folder / "arrays" / "arrays.py").write_text("")
    unit = '[[units]]\nid = "arrays"\nnumber = "1.1"\ntitle = {ko = "배열", en = "Arrays"}\nhours = 1\non_submit = true\n'
    (folder / "course.toml").write_text('title = {ko = "과목", en = "Course"}\n' + LATE + unit)
    with database.write() as session:
        due = now() - timedelta(hours=2)
        session.add(Release(course="demo", unit="arrays", blobs={}, due_at=due, released_by="teacher"))
    return settings.model_copy(update={"academy": settings.academy.model_copy(update={"courses": tmp_path / "courses"})})


def test_an_extension_moves_one_students_due_date_and_what_is_late(database: Database, course: Settings) -> None:
    kim, lee = submit(database, "kim"), submit(database, "lee")
    with database.write() as session:
        for id in (kim, lee):
            session.get_one(Submission, id).late = True
        until = now() + timedelta(days=1)
        operations.grant_extension(session, course, "demo", "arrays", "kim", until, "in hospital", "teacher")
        assert operations.due_for(session, "demo", "arrays", "kim") == until
        assert [session.get_one(Submission, id).late for id in (kim, lee)] == [False, True]
    with database.write() as session:
        operations.revoke_extension(session, course, "demo", "arrays", "kim", "teacher")
        assert session.get_one(Submission, kim).late
        told = [(row.action, row.actor, row.login) for row in session.scalars(select(History))]
    assert ("extend", "teacher", "kim") in told
    assert ("revoke-extension", "teacher", "kim") in told


@pytest.mark.parametrize(("login", "hours", "reason"), [("nobody", 24, "ill"), ("kim", 24, "  "), ("kim", -3, "ill")])
def test_an_extension_needs_a_student_a_reason_and_a_later_date(
    database: Database, course: Settings, login: str, hours: int, reason: str
) -> None:
    submit(database, "kim")
    until = now() + timedelta(hours=hours)
    with pytest.raises(AcademyError), database.write() as session:
        operations.grant_extension(session, course, "demo", "arrays", login, until, reason, "teacher")


def test_cancelled_jobs_leave_the_queue_and_can_be_graded_again(database: Database) -> None:
    for login in ("kim", "lee", "park"):
        submit(database, login)
    queue(database)
    with database.write() as session:
        assert len(operations.cancel_jobs(session, "demo", "arrays", "teacher", ["kim"])) == 1
        assert len(operations.cancel_jobs(session, "demo", "arrays", "teacher")) == 2
        assert {job.state for job in session.scalars(select(Job))} == {"cancelled"}
        assert len(operations.grade_again(session, "demo", "arrays", "teacher")) == 3
        view = operations.queue_view(session, "demo", "arrays")
    assert sorted((row.login, row.job.state) for row in view.rows) == [(x, "queued") for x in ("kim", "lee", "park")]
    assert sorted(row.position or 0 for row in view.rows) == [1, 2, 3]


def test_a_newer_submission_is_graded_at_once_and_the_older_not_at_all(database: Database) -> None:
    old, new = submit(database, "kim"), submit(database, "kim", minutes=1)
    submit(database, "lee")
    queue(database, logins=["lee"])
    with database.write() as session:
        first = operations.grade_at_once(session, session.get_one(Submission, old))
        second = operations.grade_at_once(session, session.get_one(Submission, new))
        assert (first.state, second.state) == ("cancelled", "queued")
        view = operations.queue_view(session, "demo", "arrays")
    assert {row.login: row.position for row in view.rows if row.job.state == "queued"} == {"kim": 1, "lee": 2}


def test_regrades_are_asked_once_and_answered_in_words(database: Database) -> None:
    id = submit(database, "kim")
    with database.write() as session:
        submission = session.get_one(Submission, id)
        with pytest.raises(AcademyError, match="between 10 and 2000"):
            operations.ask_regrade(session, submission, "please", "kim")
        with pytest.raises(AcademyError):
            operations.ask_regrade(session, submission, "let me see the other's grade", "lee")
        asked = operations.ask_regrade(session, submission, "my loop is right, see task 2", "kim")
        with pytest.raises(AcademyError, match="already"):
            operations.ask_regrade(session, submission, "and once more, please look", "kim")
        assert [row.id for row in operations.open_regrades(session, "demo")] == [asked.id]
        operations.answer_regrade(session, asked.id, True, "You are right.", "teacher", again=True)
        assert operations.open_regrades(session, "demo") == []
        assert [job.state for job in session.scalars(select(Job))] == ["queued"]
        with pytest.raises(AcademyError, match="answered already"):
            operations.answer_regrade(session, asked.id, False, "No.", "teacher")


def test_leaderboards_show_who_joined_by_what_the_grader_measured(database: Database) -> None:
    ratios = {"kim": [3.0, 5.0], "lee": [4.0], "park": [9.0]}
    for login, values in ratios.items():
        for minutes, ratio in enumerate(values):
            id = submit(database, login, minutes=minutes)
            with database.write() as session:
                figures = {"ratio": ratio, "low": ratio - 1, "high": ratio + 1, "at_least": 2.0}
                session.add(Measurement(submission_id=id, name="speed", passed=True, **figures))
    with database.write() as session:
        operations.join_leaderboard(session, "demo", "kim", "  빠른   토끼 ")
        operations.join_leaderboard(session, "demo", "lee", "Turtle")
        with pytest.raises(AcademyError, match="Somebody else"):
            operations.join_leaderboard(session, "demo", "park", "turtle")
        with pytest.raises(AcademyError, match="2 to 20"):
            operations.join_leaderboard(session, "demo", "park", "x")
        board = operations.leaderboard(session, "demo", "arrays", "speed")
        assert [(rank.nickname, rank.ratio) for rank in board] == [("빠른 토끼", 5.0), ("Turtle", 4.0)]
        operations.leave_leaderboard(session, "demo", "kim")
        assert [rank.nickname for rank in operations.leaderboard(session, "demo", "arrays", "speed")] == ["Turtle"]


def test_similar_code_is_found_and_what_the_unit_gives_is_not(database: Database, settings: Settings, tmp_path: Path) -> None:
    given = "def helper(table):\n    rows = []\n    for row in table:\n        rows.append(sum(row))\n    return rows"
    one = "def f(values, n):\n    total = 0\n    for v in values:\n        total += v * n\n    return total / len(values)"
    two = one.replace("values", "xs").replace("total", "s").replace("def f", "# mine\ndef f")
    other = "import numpy as np\nf = lambda values, n: float(np.asarray(values).mean() * n) if len(values) else 0.0"
    source = settings.course_folder("demo") / "source" / "arrays"
    source.mkdir(parents=True)
    nbformat.write(new_notebook(cells=[new_code_cell(given)]), source / "arrays.ipynb")
    for login, code in {"kim": one, "lee": two, "park": other}.items():
        folder = tmp_path / login
        folder.mkdir()
        nbformat.write(new_notebook(cells=[new_code_cell(given), new_code_cell(code)]), folder / "arrays.ipynb")
        submit(database, login, sha256=Store(settings).put(pack_bytes(folder)))
    [pair] = similarity(settings, database, "demo", "arrays")
    assert (pair.first, pair.second) == ("kim", "lee")
    assert pair.most > 0.8
    assert "total += v * n" in pair.pieces[0].first
    assert "helper" not in pair.pieces[0].first
