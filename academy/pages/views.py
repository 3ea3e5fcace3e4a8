"""What the pages show, gathered from the database and the catalogue of courses."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Read

from academy.messages import AcademyError
from academy.people import Enrollment, Person, members
from academy.settings import Settings
from grading.courses import catalogue
from grading.records import Feedback, Grade, History, Job, Release, Submission, newest_submissions

Result = TypeVar("Result", Grade, Feedback)

RECEIPTS = 5  # on the home page


@dataclass(frozen=True)
class Named:
    """A course or a unit as pages call it."""

    id: str
    title: str
    number: str = ""


@dataclass(frozen=True)
class Receipt:
    """A submission with its score, once that is released."""

    submission: Submission
    unit: Named
    feedback: Feedback | None


@dataclass(frozen=True)
class StudentUnit:
    """A released unit as one student sees it."""

    unit: Named
    due_at: datetime | None
    state: str  # open, fetched, overdue, submitted, late, graded
    newest: Receipt | None


@dataclass(frozen=True)
class StudentCourse:
    course: Named
    units: list[StudentUnit]
    receipts: list[Receipt]
    to_come: list[Named]


@dataclass(frozen=True)
class StaffUnit:
    """A unit as the course's staff see it."""

    unit: Named
    release: Release | None
    students: int
    submitted: int
    late: int
    graded: int
    to_read: int  # graded, with written answers that wait for a person
    returned: int  # feedback released


@dataclass(frozen=True)
class Progress:
    """How far the jobs of one kind are, over each submission's newest job."""

    total: int = 0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)  # login, reason

    @property
    def finished(self) -> bool:
        return self.queued + self.running == 0


def named_course(settings: Settings, course: str, language: str) -> Named:
    """A course's title; its id when its folder is gone."""
    try:
        return Named(course, catalogue.course(settings, course).title[language])
    except AcademyError:
        return Named(course, course)


def named_units(settings: Settings, course: str, language: str) -> dict[str, Named]:
    """A course's units in their order, then those that staff made by hand in the course folder."""
    try:
        units = catalogue.course(settings, course).units
    except AcademyError:
        units = []
    found = {unit.id: Named(unit.id, unit.title[language], unit.number) for unit in units}
    source = settings.course_folder(course) / "source"
    if source.is_dir():
        for folder in sorted(source.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                found.setdefault(folder.name, Named(folder.name, folder.name))
    return found


def student_course(db: Read, settings: Settings, course: str, login: str, language: str, now: datetime) -> StudentCourse:
    """A course's released units, their state for one student, and the student's last receipts."""
    names = named_units(settings, course, language)
    releases = {r.unit: r for r in db.scalars(select(Release).where(Release.course == course))}
    submissions = list(
        db.scalars(
            select(Submission)
            .where(Submission.course == course, Submission.login == login)
            .order_by(Submission.received_at.desc(), Submission.id.desc())
        )
    )
    feedback = _by_submission(db, Feedback, [s.id for s in submissions])
    fetched = set(
        db.scalars(select(History.unit).where(History.course == course, History.actor == login, History.action == "fetch"))
    )
    receipts = [Receipt(s, names.get(s.unit, Named(s.unit, s.unit)), feedback.get(s.id)) for s in submissions]
    newest: dict[str, Receipt] = {}
    for receipt in receipts:
        newest.setdefault(receipt.submission.unit, receipt)
    order = [unit for unit in names if unit in releases] + [unit for unit in releases if unit not in names]
    units = [
        StudentUnit(
            names.get(unit, Named(unit, unit)),
            releases[unit].due_at,
            _state(releases[unit], newest.get(unit), unit in fetched, now),
            newest.get(unit),
        )
        for unit in order
    ]
    to_come = [name for unit, name in names.items() if unit not in releases and name.number]
    return StudentCourse(named_course(settings, course, language), units, receipts[:RECEIPTS], to_come)


def _state(release: Release, newest: Receipt | None, fetched: bool, now: datetime) -> str:
    if newest is None:
        if release.due_at and release.due_at < now:
            return "overdue"
        return "fetched" if fetched else "open"
    if newest.feedback:
        return "graded"
    return "late" if newest.submission.late else "submitted"


def staff_units(db: Read, settings: Settings, course: str, language: str) -> list[StaffUnit]:
    """A course's units with how many students submitted, were graded, got feedback."""
    names = named_units(settings, course, language)
    releases = {r.unit: r for r in db.scalars(select(Release).where(Release.course == course))}
    for unit in releases:
        names.setdefault(unit, Named(unit, unit))
    students = {person.login for person in members(db, course, "student")}
    rows = []
    for unit, name in names.items():
        newest = newest_submissions(db, course, unit)
        ids = [submission.id for submission in newest.values()]
        grades = _by_submission(db, Grade, ids)
        rows.append(
            StaffUnit(
                name,
                releases.get(unit),
                len(students),
                len(newest.keys() & students),
                sum(s.late for login, s in newest.items() if login in students),
                len(grades),
                sum(grade.needs_manual for grade in grades.values()),
                len(_by_submission(db, Feedback, ids)),
            )
        )
    return rows


def progress(db: Read, course: str, unit: str, kind: str) -> Progress:
    """How far grading, or feedback, is for the newest submissions of a unit."""
    newest = {submission.id: login for login, submission in newest_submissions(db, course, unit).items()}
    jobs = {key: job for key, job in _newest_jobs(db, course, unit, kind).items() if key in newest}
    states = [job.state for job in jobs.values()]
    return Progress(
        total=len(states),
        queued=states.count("queued"),
        running=states.count("running"),
        done=states.count("done"),
        failed=states.count("failed"),
        failures=sorted((newest[key], job.error or "") for key, job in jobs.items() if job.state == "failed"),
    )


@dataclass(frozen=True)
class Overview:
    """The whole academy in numbers, for operators."""

    courses: list[tuple[Named, dict[str, int]]]  # each with how many people hold each role
    people: int
    roles: dict[str, int]  # founder, operator
    jobs: dict[str, int]  # state -> count
    submissions: int
    problems: list[str]  # courses whose files cannot be read


def overview(db: Read, settings: Settings, language: str) -> Overview:
    roles: dict[str, dict[str, int]] = defaultdict(dict)
    counts = select(Enrollment.course, Enrollment.role, func.count()).group_by(Enrollment.course, Enrollment.role)
    for course, role, count in db.execute(counts):
        roles[course][role] = count
    ids = [course.id for course in catalogue.courses(settings)]
    ids += sorted(roles.keys() - set(ids))
    return Overview(
        [(named_course(settings, course, language), roles.get(course, {})) for course in ids],
        db.scalar(select(func.count()).select_from(Person)) or 0,
        {role: count for role, count in db.execute(select(Person.role, func.count()).group_by(Person.role)) if role},
        {state: count for state, count in db.execute(select(Job.state, func.count()).group_by(Job.state))},
        db.scalar(select(func.count()).select_from(Submission)) or 0,
        [str(problem.message(language)) for problem in catalogue.problems(settings)],
    )


def _newest_jobs(db: Read, course: str, unit: str, kind: str) -> dict[str, Job]:
    query = select(Job).where(Job.course == course, Job.unit == unit, Job.kind == kind).order_by(Job.created_at, Job.id)
    return {job.submission_id: job for job in db.scalars(query) if job.submission_id}


def _by_submission(db: Read, table: type[Result], ids: list[str]) -> dict[str, Result]:
    return {row.submission_id: row for row in db.scalars(select(table).where(table.submission_id.in_(ids)))}
