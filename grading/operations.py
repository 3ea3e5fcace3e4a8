"""What staff do with a unit: release, withdraw, collect, grade, give feedback, export; called by the pages and the command.

Each function takes an open write session, checks nothing about the caller, and writes the history in the same transaction.
"""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.database import Database, now
from academy.messages import AcademyError
from academy.people import members
from academy.settings import Settings
from grading.exchange import archive
from grading.exchange.store import Store
from grading.records import Feedback, Grade, Job, Release, Submission, newest_submissions, record

RELEASES = {"ko": "release", "en": "release.en"}  # a unit with one language has "release" alone, and the language ""
ACTIVE = ("queued", "running")


@dataclass(frozen=True)
class UnitRow:
    """One student in a unit, for staff."""

    login: str
    name: str
    submission: Submission | None = None  # the newest
    grade: Grade | None = None  # of the newest
    feedback: Feedback | None = None  # of the newest that has one
    job: Job | None = None  # the newest grading job of the newest submission


@dataclass(frozen=True)
class Progress:
    """A unit's jobs, for a progress bar."""

    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    failures: list[Job] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.queued + self.running + self.done + self.failed


def release_unit(session: Session, settings: Settings, course: str, unit: str, due_at: datetime | None, actor: str) -> Release:
    """Make a unit's student version, as it lies in the course folder now, what students fetch; again to change it.

    Raises:
        AcademyError: the course folder has no student version of the unit.
    """
    from grading.autograde import set_due_date

    root = settings.course_folder(course)
    found = {
        language: root / folder / unit for language, folder in RELEASES.items() if any((root / folder / unit).glob("*.ipynb"))
    }
    if "ko" not in found:
        raise AcademyError("grading-no-release", 404, course=course, unit=unit)
    store = Store(settings)
    blobs = {language: store.put(_pack(folder)) for language, folder in found.items()}
    if len(blobs) == 1:
        blobs = {"": blobs["ko"]}
    release = session.get(Release, (course, unit))
    if release is None:
        release = Release(course=course, unit=unit)
        session.add(release)
    release.blobs, release.due_at, release.released_at, release.released_by = blobs, due_at, now(), actor
    set_due_date(settings, course, unit, due_at)
    record(session, actor, "release", course, unit, blobs=blobs, due_at=due_at.isoformat() if due_at else None)
    session.flush()
    return release


def change_due(session: Session, settings: Settings, release: Release, due_at: datetime | None, actor: str) -> None:
    """Change when a released unit is due; what came in before stays marked as it was."""
    from grading.autograde import set_due_date

    release.due_at = due_at
    set_due_date(settings, release.course, release.unit, due_at)
    record(session, actor, "due", release.course, release.unit, due_at=due_at.isoformat() if due_at else None)


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    left_out = shutil.ignore_patterns(".*", "__pycache__")
    archive.pack(folder, buffer, lambda parent, names: list(left_out(parent, names)))
    return buffer.getvalue()


def withdraw_unit(session: Session, course: str, unit: str, actor: str) -> None:
    """Take a unit back: nobody can fetch or submit it; what was submitted stays."""
    release = session.get(Release, (course, unit))
    if release is None:
        raise AcademyError("grading-not-released", 404, course=course, unit=unit)
    session.delete(release)
    record(session, actor, "withdraw", course, unit)


def collect(session: Session, settings: Settings, course: str, unit: str, actor: str) -> list[Submission]:
    """Copy everybody's newest submission to where nbgrader looks for it (``submitted/LOGIN/UNIT``)."""
    submissions = list(newest_submissions(session, course, unit).values())
    for submission in submissions:
        collect_submission(settings, submission)
        record(session, actor, "collect", course, unit, submission.login, submission=submission.id)
    return submissions


def collect_submission(settings: Settings, submission: Submission) -> Path:
    """Unpack one submission into ``submitted/LOGIN/UNIT``, in place of what was there."""
    target = settings.course_folder(submission.course) / "submitted" / submission.login / submission.unit
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".collect-") as scratch:
        fresh = Path(scratch) / "unit"
        fresh.mkdir()
        Store(settings).unpack(submission.sha256, fresh)
        stamp = fresh / "timestamp.txt"  # nbgrader's; whatever the student put there goes
        if stamp.is_dir():
            shutil.rmtree(stamp)
        stamp.write_text(submission.received_at.strftime("%Y-%m-%d %H:%M:%S.%f UTC"))
        group = settings.course_folder(submission.course).stat().st_gid
        for path in [target.parent.parent, target.parent, fresh, *fresh.rglob("*")]:
            _share(path, group)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return target


def _share(path: Path, group: int) -> None:
    """Let the group of the course's grading servers read and replace a file or folder."""
    with contextlib.suppress(PermissionError):  # it is another grader's, who did the same
        if path.stat().st_gid != group:
            shutil.chown(path, group=group)
        path.chmod(0o2770 if path.is_dir() else 0o660)


def request_grading(session: Session, course: str, unit: str, actor: str, logins: list[str] | None = None) -> list[Job]:
    """Queue the newest submission of every student (or of ``logins``) for grading; one that is waiting is not queued twice."""
    submissions = _newest(session, course, unit, logins)
    return [_enqueue(session, "grade", submission, actor) for submission in submissions]


def request_feedback(session: Session, course: str, unit: str, actor: str, logins: list[str] | None = None) -> list[Job]:
    """Queue feedback for the newest submission of every student that is graded or waits for it; it is released when made."""
    jobs = []
    for submission in _newest(session, course, unit, logins):
        grading = _active(session, "grade", submission)
        if grading or session.get(Grade, submission.id) or logins:
            jobs.append(_enqueue(session, "feedback", submission, actor))
    return jobs


def _newest(session: Session, course: str, unit: str, logins: list[str] | None) -> list[Submission]:
    newest = newest_submissions(session, course, unit)
    if not newest:
        raise AcademyError("grading-no-submissions", 404, course=course, unit=unit)
    for login in logins or []:
        if login not in newest:
            raise AcademyError("grading-no-submission-of", 404, login=login)
    return [submission for login, submission in newest.items() if logins is None or login in logins]


def _enqueue(session: Session, kind: str, submission: Submission, actor: str) -> Job:
    job = _active(session, kind, submission)
    if job is None:
        job = Job(kind=kind, course=submission.course, unit=submission.unit, submission_id=submission.id, requested_by=actor)
        session.add(job)
        record(
            session, actor, f"request-{kind}", submission.course, submission.unit, submission.login, submission=submission.id
        )
        session.flush()
    return job


def _active(session: Session, kind: str, submission: Submission) -> Job | None:
    query = select(Job).where(Job.kind == kind, Job.submission_id == submission.id, Job.state.in_(ACTIVE))
    return session.scalars(query).first()


def job_states(session: Session, course: str, unit: str, since: datetime | None = None) -> list[Job]:
    """The newest job of each kind of every submission of a unit, newest first; ``since``: only jobs made after."""
    query = select(Job).where(Job.course == course, Job.unit == unit).order_by(Job.id.desc())
    if since is not None:
        query = query.where(Job.created_at >= since)
    newest: dict[tuple[str, str], Job] = {}
    for job in session.scalars(query):
        newest.setdefault((job.kind, job.submission_id or job.id), job)
    return list(newest.values())


def progress(jobs: list[Job]) -> Progress:
    counts = dict.fromkeys(("queued", "running", "done", "failed"), 0)
    for job in jobs:
        counts[job.state] = counts.get(job.state, 0) + 1
    counts.pop("cancelled", None)
    return Progress(**counts, failures=[job for job in jobs if job.state == "failed"])


def unit_overview(session: Session, course: str, unit: str) -> list[UnitRow]:
    """Every student of the course, and everybody else who submitted, with what there is of theirs; by login."""
    newest = newest_submissions(session, course, unit)
    names = {person.login: person.name for person in members(session, course, "student")}
    ids = [submission.id for submission in newest.values()]
    of_unit = select(Submission.id).where(Submission.course == course, Submission.unit == unit)
    grades = {grade.submission_id: grade for grade in session.scalars(select(Grade).where(Grade.submission_id.in_(of_unit)))}
    logins = {
        row.id: row.login for row in session.execute(select(Submission.id, Submission.login).where(Submission.id.in_(of_unit)))
    }
    pages: dict[str, Feedback] = {}
    for page in session.scalars(select(Feedback).where(Feedback.submission_id.in_(of_unit)).order_by(Feedback.submission_id)):
        pages[logins[page.submission_id]] = page
    jobs: dict[str, Job] = {}
    query = select(Job).where(Job.kind == "grade", Job.submission_id.in_(ids)).order_by(Job.id)
    for job in session.scalars(query):
        jobs[job.submission_id or ""] = job
    rows = []
    for login in sorted({*names, *newest}):
        submission = newest.get(login)
        key = submission.id if submission else ""
        rows.append(UnitRow(login, names.get(login, ""), submission, grades.get(key), pages.get(login), jobs.get(key)))
    return rows


def refresh_grades(session: Session, settings: Settings, course: str, unit: str) -> None:
    """Bring the recorded grades up to what the gradebook says now: staff may have given points in formgrader."""
    from grading.autograde import scores

    for score in scores(settings, course, unit).get(unit, []):
        submission = _graded_submission(session, course, unit, score.login, score.submitted_at)
        if submission is None:
            continue
        grade = session.get(Grade, submission.id)
        before = (grade.score, grade.max_score, grade.needs_manual) if grade else None
        after = (score.score, score.max_score, score.needs_manual)
        if before == after:
            continue
        if grade is None:
            session.add(
                Grade(
                    submission_id=submission.id, score=score.score, max_score=score.max_score, needs_manual=score.needs_manual
                )
            )
        else:
            grade.score, grade.max_score, grade.needs_manual = after
            grade.graded_at = now()
    session.flush()


def _graded_submission(
    session: Session, course: str, unit: str, login: str, submitted_at: datetime | None
) -> Submission | None:
    """The submission that the gradebook's entry is about: the one with its time."""
    if submitted_at is None:
        return None
    query = select(Submission).where(Submission.course == course, Submission.unit == unit, Submission.login == login)
    for submission in session.scalars(query.order_by(Submission.received_at.desc())):
        if abs((submission.received_at.replace(tzinfo=None) - submitted_at).total_seconds()) < 1:
            return submission
    return None


def find_unit(settings: Settings, course: str, wanted: str) -> str:
    """A unit's id from its id or number; units made by hand in formgrader have only the name of their folder.

    Raises:
        AcademyError: there is no such course or unit.
    """
    from grading.courses import catalogue

    try:
        return catalogue.course(settings, course).unit(wanted).id
    except AcademyError:
        folders = [settings.course_folder(course) / folder for folder in ("source", "release")]
        if any(path.name == wanted for folder in folders if folder.is_dir() for path in folder.iterdir()):
            return wanted
        raise


COLUMNS = ["login", "name", "unit", "score", "max_score", "submitted_at", "late", "manual_pending", "feedback_released"]


def export_grades(settings: Settings, course: str) -> str:
    """A course's grades as CSV, one line a student and unit, from the gradebook; UTF-8, times in the academy's time zone."""
    from grading.autograde import scores

    zone = ZoneInfo(settings.academy.timezone)
    database = Database(settings.database_url)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    try:
        with database.read() as session:
            students = {person.login: person.name for person in members(session, course, "student")}
            submissions = session.scalars(
                select(Submission).where(Submission.course == course).order_by(Submission.received_at)
            )
            newest = {(row.unit, row.login): row for row in submissions}
            released = set(session.scalars(select(Feedback.submission_id)))
            graded = {(unit, score.login): score for unit, rows in scores(settings, course).items() for score in rows}
            units = sorted({unit for unit, _ in [*newest, *graded]} | set(_released(session, course)))
            for unit in units:
                for login in sorted({*students, *(login for name, login in [*newest, *graded] if name == unit)}):
                    submission, score = newest.get((unit, login)), graded.get((unit, login))
                    writer.writerow(
                        [
                            safe_cell(login),
                            safe_cell(students.get(login, "")),
                            unit,
                            f"{score.score:g}" if score else "",
                            f"{score.max_score:g}" if score else "",
                            submission.received_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if submission else "",
                            ("yes" if submission.late else "no") if submission else "",
                            ("yes" if score.needs_manual else "no") if score else "",
                            ("yes" if submission.id in released else "no") if submission else "",
                        ]
                    )
    finally:
        database.close()
    return output.getvalue()


def _released(session: Session, course: str) -> list[str]:
    return list(session.scalars(select(Release.unit).where(Release.course == course)))


def safe_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def parse_due(value: str, settings: Settings) -> datetime:
    """A due date as people write it, ``2026-12-01 18:00``, in the academy's time zone unless it has one.

    Raises:
        AcademyError: it cannot be read.
    """
    try:
        due = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise AcademyError("grading-due-date", value=value) from error
    return due if due.tzinfo else due.replace(tzinfo=ZoneInfo(settings.academy.timezone))
