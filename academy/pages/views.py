"""What the pages show, gathered from the database and the catalogue of courses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Read

from academy.messages import AcademyError
from academy.pages.retell import retell
from academy.people import Enrollment, Person, members
from academy.settings import Settings
from grading import operations
from grading.courses import catalogue
from grading.penalties import penalty
from grading.records import (
    Extension,
    Feedback,
    Grade,
    History,
    Job,
    Measurement,
    Regrade,
    Release,
    Submission,
    newest_submissions,
)

Row = TypeVar("Row", Grade, Feedback)

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
class Notes:
    """What the grader noticed about a submission."""

    flags: list[str] = field(default_factory=list)  # for staff: a check was tripped
    repairs: list[str] = field(default_factory=list)  # what was mended in the notebook
    gates: list[Measurement] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A score that its student may see, and how it came about."""

    score: float
    max_score: float
    penalty: float = 0.0  # points that being late cost
    days: int = 0  # that were counted for it
    per_day: float = 0.0  # part of the unit's points
    most_days: int = 0  # after which nothing is left
    notes: Notes = field(default_factory=Notes)


@dataclass(frozen=True)
class StudentUnit:
    """A released unit as one student sees it."""

    unit: Named
    due_at: datetime | None  # the student's own
    state: str  # closed, open, fetched, overdue, submitted, late, graded
    newest: Receipt | None
    extension: Extension | None = None
    phase: str = ""  # of the grader's work on the newest submission, or failed; empty when it does not work on it
    result: Result | None = None  # of the newest submission
    regrade: Regrade | None = None  # the last about the newest submission
    leaderboard: bool = False
    needed: str = ""  # the units to master first, where it is closed


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
    asked: int  # regrade requests that wait for an answer


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


def student_course(
    db: Read,
    settings: Settings,
    course: str,
    login: str,
    language: str,
    now: datetime,
    closed: Mapping[tuple[str, str], str] = MappingProxyType({}),
) -> StudentCourse:
    """A course's released units, their state for one student, and the student's last receipts.

    Args:
        closed: (course, unit) -> the units that keep it closed to the student.
    """
    names = named_units(settings, course, language)
    releases = {r.unit: r for r in db.scalars(select(Release).where(Release.course == course))}
    submissions = list(
        db.scalars(
            select(Submission)
            .where(Submission.course == course, Submission.login == login)
            .order_by(Submission.received_at.desc(), Submission.id.desc())
        )
    )
    feedback = by_submission(db, Feedback, [s.id for s in submissions])
    extensions = {e.unit: e for e in db.scalars(select(Extension).where(Extension.course == course, Extension.login == login))}
    fetched = set(
        db.scalars(select(History.unit).where(History.course == course, History.actor == login, History.action == "fetch"))
    )
    receipts = [Receipt(s, names.get(s.unit, Named(s.unit, s.unit)), feedback.get(s.id)) for s in submissions]
    newest: dict[str, Receipt] = {}
    for receipt in receipts:
        newest.setdefault(receipt.submission.unit, receipt)
    order = [unit for unit in names if unit in releases] + [unit for unit in releases if unit not in names]
    rules = rules_of(settings, course)
    units = []
    for unit in order:
        mine, extension = newest.get(unit), extensions.get(unit)
        due_at = extension.due_at if extension else releases[unit].due_at
        found = result(db, rules, mine.submission, language) if mine else None
        needed = "" if mine or unit in fetched else closed.get((course, unit), "")
        units.append(
            StudentUnit(
                names.get(unit, Named(unit, unit)),
                due_at,
                "closed" if needed else _state(due_at, mine, found, unit in fetched, now),
                mine,
                extension,
                _phase(db, rules, mine.submission) if mine else "",
                found,
                next(iter(regrades_of(db, mine.submission)), None) if mine else None,
                bool(rules.leaderboard(unit)),
                needed,
            )
        )
    to_come = [name for unit, name in names.items() if unit not in releases and name.number]
    return StudentCourse(named_course(settings, course, language), units, receipts[:RECEIPTS], to_come)


def _state(due_at: datetime | None, newest: Receipt | None, found: Result | None, fetched: bool, now: datetime) -> str:
    if newest is None:
        if due_at and due_at < now:
            return "overdue"
        return "fetched" if fetched else "open"
    if newest.feedback or found:
        return "graded"
    return "late" if newest.submission.late else "submitted"


@dataclass(frozen=True)
class Rules:
    """What a course's file says about grading; nothing when it is gone."""

    units: dict[str, catalogue.Unit] = field(default_factory=dict)
    late: catalogue.Late = field(default_factory=catalogue.Late)

    def on_submit(self, unit: str) -> bool:
        return unit in self.units and self.units[unit].on_submit

    def leaderboard(self, unit: str) -> str:
        """The gate that students may compare themselves by; empty when there is none."""
        return self.units[unit].leaderboard if unit in self.units else ""


def rules_of(settings: Settings, course: str) -> Rules:
    try:
        found = catalogue.course(settings, course)
    except AcademyError:
        return Rules()
    return Rules({unit.id: unit for unit in found.units}, found.late)


def result(db: Read, rules: Rules, submission: Submission, language: str) -> Result | None:
    """A submission's score as its student may see it: once feedback is released, or at once where the unit grades on submit."""
    given, grade = db.get(Feedback, submission.id), db.get(Grade, submission.id)
    if grade is not None and rules.on_submit(submission.unit):
        score, most = grade.score, grade.max_score
    elif given is not None and given.score is not None:
        score, most = given.score, given.max_score or 0.0
    else:
        return None
    due_at = operations.due_for(db, submission.course, submission.unit, submission.login)
    points = grade.penalty if grade else 0.0
    days = penalty(rules.late, submission.received_at, due_at, most, most).days if points else 0
    return Result(score, most, points, days, rules.late.per_day, rules.late.most_days, _notes(db, submission, language))


def _notes(db: Read, submission: Submission, language: str) -> Notes:
    """What the last finished run noticed."""
    query = select(Job).where(Job.submission_id == submission.id, Job.kind == "grade", Job.state == "done")
    job = db.scalars(query.order_by(Job.finished_at.desc(), Job.id.desc()).limit(1)).first()
    gates = db.scalars(select(Measurement).where(Measurement.submission_id == submission.id).order_by(Measurement.name))
    return notes(job, list(gates), language)


def notes(job: Job | None, gates: list[Measurement], language: str) -> Notes:
    texts = [(note.get("kind"), retell(str(note.get("text", "")), language)) for note in (job.notes or [] if job else [])]
    return Notes([text for kind, text in texts if kind == "flag"], [text for kind, text in texts if kind == "repair"], gates)


def _phase(db: Read, rules: Rules, submission: Submission) -> str:
    """What the grader does with a submission now; empty when it has nothing to do with it.

    ``failed`` where the student waits for a score that will not come by itself.
    """
    query = select(Job).where(Job.submission_id == submission.id, Job.kind == "grade").order_by(Job.created_at.desc())
    job = db.scalars(query.order_by(Job.id.desc()).limit(1)).first()
    if job is None:
        return ""
    if job.state == "failed" and rules.on_submit(submission.unit):
        return "failed"
    return phase_of(job) if job.state in operations.ACTIVE else ""


def phase_of(job: Job) -> str:
    """A job's phase; one that was just taken up has not told its first yet."""
    if job.state == "queued":
        return "gpu" if job.phase == "gpu" else "queued"
    return "started" if job.state == "running" and job.phase == "queued" else job.phase


def regrades_of(db: Read, submission: Submission) -> list[Regrade]:
    """The requests about a submission, the last first."""
    query = select(Regrade).where(Regrade.submission_id == submission.id)
    return list(db.scalars(query.order_by(Regrade.asked_at.desc(), Regrade.id.desc())))


def names_of(db: Read, course: str) -> dict[str, str]:
    """Everybody's name in a course, by login."""
    return {person.login: person.name for person in members(db, course)}


def staff_units(db: Read, settings: Settings, course: str, language: str) -> list[StaffUnit]:
    """A course's units with how many students submitted, were graded, got feedback."""
    names = named_units(settings, course, language)
    releases = {r.unit: r for r in db.scalars(select(Release).where(Release.course == course))}
    for unit in releases:
        names.setdefault(unit, Named(unit, unit))
    students = {person.login for person in members(db, course, "student")}
    asked = [regrade.unit for regrade in operations.open_regrades(db, course)]
    rows = []
    for unit, name in names.items():
        newest = newest_submissions(db, course, unit)
        ids = [submission.id for submission in newest.values()]
        grades = by_submission(db, Grade, ids)
        rows.append(
            StaffUnit(
                name,
                releases.get(unit),
                len(students),
                len(newest.keys() & students),
                sum(s.late for login, s in newest.items() if login in students),
                len(grades),
                sum(grade.needs_manual for grade in grades.values()),
                len(by_submission(db, Feedback, ids)),
                asked.count(unit),
            )
        )
    return rows


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


def by_submission(db: Read, table: type[Row], ids: list[str]) -> dict[str, Row]:
    return {row.submission_id: row for row in db.scalars(select(table).where(table.submission_id.in_(ids)))}


def plain(value: object) -> str:
    """What somebody typed into a field of text."""
    return value.replace("\r\n", "\n").strip() if isinstance(value, str) else ""
