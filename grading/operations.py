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
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from academy.database import Database, now
from academy.messages import AcademyError, message
from academy.people import members
from academy.settings import Settings
from grading.courses import catalogue
from grading.exchange import archive
from grading.exchange.store import Store
from grading.penalties import is_late, penalty
from grading.records import (
    Extension,
    Feedback,
    Grade,
    Job,
    Measurement,
    Nickname,
    Regrade,
    Release,
    Submission,
    newest_submissions,
    record,
)

RELEASES = {"ko": "release", "en": "release.en"}  # a unit with one language has "release" alone, and the language ""
ACTIVE = ("queued", "running")
ON_SUBMIT_PRIORITY = 10  # of a student who waits; a class's batch has 0
REGRADE_TEXT = (10, 2000)  # characters
NICKNAME_LENGTH = 20
RATE_OVER, RATE_WITHIN = 20, timedelta(minutes=10)  # the last so many submissions, where they are so new


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
    prefix = f".collect-{submission.unit}~"
    for left in target.parent.glob(f"{prefix}*"):  # by a worker that was killed: two never do one student's unit at once
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as scratch:
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


def cancel_jobs(session: Session, course: str, unit: str, actor: str, logins: list[str] | None = None) -> list[Job]:
    """Take what waits or is being graded out of the queue; a worker stops by itself when it sees that its job is cancelled."""
    query = select(Job).where(Job.kind == "grade", Job.course == course, Job.unit == unit, Job.state.in_(ACTIVE))
    cancelled = []
    for job in session.scalars(query):
        submission = session.get_one(Submission, job.submission_id)
        if logins is None or submission.login in logins:
            _cancel(session, job, actor)
            record(session, actor, "cancel", course, unit, submission.login, submission=submission.id)
            cancelled.append(job)
    session.flush()
    return cancelled


def _cancel(session: Session, job: Job, actor: str) -> None:
    job.state, job.cancelled_by, job.finished_at, job.claim_expires_at = "cancelled", actor, now(), None


def grade_again(session: Session, course: str, unit: str, actor: str, logins: list[str] | None = None) -> list[Job]:
    """Queue the newest submissions once more, whatever became of them before."""
    return request_grading(session, course, unit, actor, logins)


def grade_at_once(session: Session, submission: Submission) -> Job:
    """Queue a submission that has just arrived, before everything that staff asked for; older ones of its unit need not be."""
    same = (Submission.course == submission.course, Submission.unit == submission.unit, Submission.login == submission.login)
    query = select(Job).join(Submission, Job.submission_id == Submission.id)
    for job in session.scalars(query.where(*same, Job.kind == "grade", Job.state == "queued")):
        _cancel(session, job, submission.login)
    job = _enqueue(session, "grade", submission, submission.login)
    job.priority = ON_SUBMIT_PRIORITY
    return job


def due_for(session: Session, course: str, unit: str, login: str) -> datetime | None:
    """When a unit is due for one student: their extension, or the release's date."""
    extension = session.get(Extension, (course, unit, login))
    if extension is not None:
        return extension.due_at
    release = session.get(Release, (course, unit))
    return release.due_at if release else None


def grant_extension(
    session: Session, settings: Settings, course: str, unit: str, login: str, due_at: datetime, reason: str, actor: str
) -> Extension:
    """Give one student until ``due_at``; what they have submitted is late or not by that date from now on.

    Raises:
        AcademyError: no such student, no reason, or not later than the unit's own date.
    """
    release = session.get(Release, (course, unit))
    if release is None:
        raise AcademyError("grading-not-released", 404, course=course, unit=unit)
    if login not in {person.login for person in members(session, course, "student")}:
        raise AcademyError("grading-no-student", 404, login=login, course=course)
    if not reason.strip():
        raise AcademyError("grading-no-reason", 422)
    if release.due_at is None or due_at <= release.due_at:
        raise AcademyError("grading-extension-early", 422)
    extension = session.get(Extension, (course, unit, login)) or Extension(course=course, unit=unit, login=login)
    extension.due_at, extension.reason, extension.granted_by, extension.granted_at = due_at, reason.strip(), actor, now()
    session.add(extension)
    session.flush()
    _judge_again(session, settings, course, unit, login)
    record(session, actor, "extend", course, unit, login, due_at=due_at.isoformat(), reason=reason.strip())
    return extension


def revoke_extension(session: Session, settings: Settings, course: str, unit: str, login: str, actor: str) -> None:
    """Take an extension back."""
    extension = session.get(Extension, (course, unit, login))
    if extension is None:
        raise AcademyError("grading-no-extension", 404, login=login)
    session.delete(extension)
    session.flush()
    _judge_again(session, settings, course, unit, login)
    record(session, actor, "revoke-extension", course, unit, login)


def _judge_again(session: Session, settings: Settings, course: str, unit: str, login: str) -> None:
    """Whether a student's submissions are late, by the due date that is theirs now. Their scores follow when graded again."""
    late, due_at = catalogue.late_policy(settings, course), due_for(session, course, unit, login)
    query = select(Submission).where(Submission.course == course, Submission.unit == unit, Submission.login == login)
    for submission in session.scalars(query):
        submission.late = is_late(late, submission.received_at, due_at)


def ask_regrade(session: Session, submission: Submission, text: str, login: str) -> Regrade:
    """A student asks to have a grade looked at again.

    Raises:
        AcademyError: too short or long a text, or an open request already.
    """
    if submission.login != login:
        raise AcademyError("grading-no-submission-of", 404, login=login)
    if not REGRADE_TEXT[0] <= len(text.strip()) <= REGRADE_TEXT[1]:
        raise AcademyError("grading-regrade-text", 422, least=REGRADE_TEXT[0], most=REGRADE_TEXT[1])
    opened = select(Regrade).where(Regrade.submission_id == submission.id, Regrade.state == "open")
    if session.scalars(opened).first() is not None:
        raise AcademyError("grading-regrade-open", 409)
    about = {"course": submission.course, "unit": submission.unit, "login": login}
    regrade = Regrade(submission_id=submission.id, text=text.strip(), **about)
    session.add(regrade)
    session.flush()
    record(session, login, "ask-regrade", submission=submission.id, regrade=regrade.id, text=text.strip(), **about)
    return regrade


def answer_regrade(session: Session, regrade_id: str, accept: bool, answer: str, actor: str, again: bool = False) -> Regrade:
    """Staff answer a request; ``again`` queues the submission once more.

    Raises:
        AcademyError: no such open request, or no answer in words.
    """
    regrade = session.get(Regrade, regrade_id)
    if regrade is None or regrade.state != "open":
        raise AcademyError("grading-regrade-closed", 409)
    if not answer.strip():
        raise AcademyError("grading-no-reason", 422)
    regrade.state, regrade.answer = ("accepted" if accept else "declined"), answer.strip()
    regrade.answered_by, regrade.answered_at = actor, now()
    if accept and again:
        _enqueue(session, "grade", session.get_one(Submission, regrade.submission_id), actor)
    about = {"course": regrade.course, "unit": regrade.unit, "login": regrade.login}
    record(session, actor, "answer-regrade", regrade=regrade.id, state=regrade.state, answer=answer.strip(), **about)
    return regrade


def open_regrades(session: Session, course: str) -> list[Regrade]:
    """A course's requests that wait for an answer, the oldest first."""
    query = select(Regrade).where(Regrade.course == course, Regrade.state == "open")
    return list(session.scalars(query.order_by(Regrade.asked_at, Regrade.id)))


def join_leaderboard(session: Session, course: str, login: str, nickname: str) -> Nickname:
    """Stand on a course's leaderboards under a nickname, or under another from now on.

    Raises:
        AcademyError: empty, too long, or somebody else's.
    """
    name = " ".join(nickname.split())
    if not 2 <= len(name) <= NICKNAME_LENGTH or not name.isprintable():
        raise AcademyError("grading-nickname", 422, most=NICKNAME_LENGTH)
    taken = select(Nickname).where(Nickname.course == course, func.lower(Nickname.nickname) == name.lower())
    if any(row.login != login for row in session.scalars(taken)):
        raise AcademyError("grading-nickname-taken", 409, nickname=name)
    row = session.get(Nickname, (course, login)) or Nickname(course=course, login=login)
    row.nickname = name
    session.add(row)
    session.flush()
    record(session, login, "join-leaderboard", course, login=login, nickname=name)
    return row


def leave_leaderboard(session: Session, course: str, login: str) -> None:
    """Stand on none of a course's leaderboards any more."""
    row = session.get(Nickname, (course, login))
    if row is not None:
        session.delete(row)
        record(session, login, "leave-leaderboard", course, login=login)


@dataclass(frozen=True)
class Rank:
    """One line of a leaderboard."""

    nickname: str
    ratio: float
    low: float
    high: float
    measured_at: datetime
    login: str  # for "you"; shown to nobody else


def leaderboard(session: Session, course: str, unit: str, gate: str) -> list[Rank]:
    """Who joined, by the best that the grader measured of them, the fastest first."""
    query = (
        select(Nickname, Measurement)
        .join(Submission, (Submission.course == Nickname.course) & (Submission.login == Nickname.login))
        .join(Measurement, Measurement.submission_id == Submission.id)
        .where(Nickname.course == course, Submission.unit == unit, Measurement.name == gate, Measurement.passed)
    )
    best: dict[str, Rank] = {}
    for who, figure in session.execute(query):
        if who.login not in best or figure.ratio > best[who.login].ratio:
            best[who.login] = Rank(who.nickname, figure.ratio, figure.low, figure.high, figure.measured_at, who.login)
    return sorted(best.values(), key=lambda rank: -rank.ratio)


@dataclass(frozen=True)
class QueueRow:
    """A submission's newest grading job, as staff watch it."""

    login: str
    job: Job
    position: int | None  # in the queue of all units, from 1; None when it does not wait
    seconds: float | None  # in its present phase; None when it is not at work


@dataclass(frozen=True)
class Queue:
    """A unit's grading jobs: each submission's newest."""

    rows: list[QueueRow]
    rate: float | None  # submissions a minute, over the last that were finished
    left: float | None  # seconds until all are done


def queue_view(session: Session, course: str, unit: str) -> Queue:
    """What the grader does with a unit's submissions."""
    jobs = {job.submission_id: job for job in reversed(job_states(session, course, unit)) if job.kind == "grade"}
    logins = {
        row.id: row.login
        for row in session.execute(select(Submission.id, Submission.login).where(Submission.id.in_(list(jobs))))
    }
    waiting = select(Job.id).outerjoin(Submission, Job.submission_id == Submission.id).where(Job.state == "queued")
    arrived = func.coalesce(Submission.received_at, Job.created_at)
    places = {id: place for place, id in enumerate(session.scalars(waiting.order_by(Job.priority.desc(), arrived.desc())), 1)}
    moment = now()
    rows = [
        QueueRow(
            logins.get(job.submission_id or "", ""),
            job,
            places.get(job.id),
            (moment - job.phase_at).total_seconds() if job.state == "running" and job.phase_at else None,
        )
        for job in jobs.values()
    ]
    ends = sorted(job.finished_at for job in jobs.values() if job.state == "done" and job.finished_at)[-RATE_OVER:]
    ends = [end for end in ends if moment - end < RATE_WITHIN]
    rate = None
    if len(ends) > 1 and ends[-1] > ends[0]:
        rate = 60 * (len(ends) - 1) / (ends[-1] - ends[0]).total_seconds()
    active = sum(job.state in ACTIVE for job in jobs.values())
    return Queue(rows, rate, 60 * active / rate if rate and active else None)


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
    try:
        return catalogue.course(settings, course).unit(wanted).id
    except AcademyError:
        folders = [settings.course_folder(course) / folder for folder in ("source", "release")]
        if any(path.name == wanted for folder in folders if folder.is_dir() for path in folder.iterdir()):
            return wanted
        raise


COLUMNS = ["login", "name", "unit", "score", "max_score", "submitted_at", "late", "manual_pending", "feedback_released"]
COLUMNS += ["raw_score", "penalty", "penalty_reason", "extension_until", "extension_reason"]


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
            query = select(Extension).where(Extension.course == course)
            extensions = {(row.unit, row.login): row for row in session.scalars(query)}
            graded = {(unit, score.login): score for unit, rows in scores(settings, course).items() for score in rows}
            units = sorted({unit for unit, _ in [*newest, *graded]} | set(_released(session, course)))
            for unit in units:
                for login in sorted({*students, *(login for name, login in [*newest, *graded] if name == unit)}):
                    submission, score = newest.get((unit, login)), graded.get((unit, login))
                    extension = extensions.get((unit, login))
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
                            f"{score.score + score.penalty:g}" if score else "",
                            f"{score.penalty:g}" if score else "",
                            _penalty_reason(session, settings, submission) if score and score.penalty and submission else "",
                            extension.due_at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if extension else "",
                            safe_cell(extension.reason) if extension else "",
                        ]
                    )
    finally:
        database.close()
    return output.getvalue()


def _penalty_reason(session: Session, settings: Settings, submission: Submission) -> str:
    """What a late submission lost, in the academy's language."""
    policy = catalogue.late_policy(settings, submission.course)
    due_at = due_for(session, submission.course, submission.unit, submission.login)
    days = penalty(policy, submission.received_at, due_at, 0, 0).days
    key = "grading-too-late" if policy.most_days and days > policy.most_days else "grading-late-days"
    return message(key, settings.academy.language, days=days, percent=f"{100 * policy.per_day:g}").text


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
