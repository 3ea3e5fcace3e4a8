"""What staff see of a unit: everybody's work, how far the grader is, and what waits for a decision."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session as Read

from academy.pages.retell import retell
from academy.pages.views import Notes, names_of, notes, phase_of
from academy.people import members
from grading import operations
from grading.records import Extension, Feedback, Grade, Job, Measurement, Regrade, Release, Submission, newest_submissions

PHASES = ("queued", "started", "student cells", "tests", "recorded")


@dataclass(frozen=True)
class Progress:
    """How far the jobs of one kind are, over each submission's newest job."""

    total: int = 0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    failures: list[tuple[str, list[str]]] = field(default_factory=list)  # a reason, and whose work failed for it

    @property
    def finished(self) -> bool:
        return self.queued + self.running == 0


@dataclass(frozen=True)
class BoardRow:
    """One student in a unit, for staff who watch the grader."""

    login: str
    name: str
    submission: Submission | None
    grade: Grade | None
    feedback: Feedback | None
    state: str  # of the newest grading job; empty without one
    phase: str
    seconds: float | None  # in this phase
    position: int | None  # in the queue
    phases: list[tuple[str, float]]  # of a finished job
    error: str
    notes: Notes

    @property
    def worked(self) -> float:
        """Seconds that the grader took, without the wait."""
        return sum(seconds for name, seconds in self.phases if name != "queued")


@dataclass(frozen=True)
class StaffBoard:
    """Everybody in a unit, and how far the grader is."""

    rows: list[BoardRow]
    grading: Progress
    returning: Progress
    rate: float | None  # submissions a minute
    left: float | None  # seconds

    @property
    def flagged(self) -> list[str]:
        return [row.login for row in self.rows if row.notes.flags]


def staff_board(db: Read, course: str, unit: str, language: str) -> StaffBoard:
    queue = operations.queue_view(db, course, unit)
    seen = {row.job.submission_id: row for row in queue.rows}
    of_unit = select(Submission.id).where(Submission.course == course, Submission.unit == unit)
    gates: dict[str, list[Measurement]] = defaultdict(list)
    for gate in db.scalars(select(Measurement).where(Measurement.submission_id.in_(of_unit)).order_by(Measurement.name)):
        gates[gate.submission_id].append(gate)
    rows = []
    for row in operations.unit_overview(db, course, unit):
        key = row.submission.id if row.submission else ""
        rows.append(_board_row(row, seen.get(key), gates[key], language))
    grading, returning = (progress(db, course, unit, kind, language) for kind in ("grade", "feedback"))
    return StaffBoard(rows, grading, returning, queue.rate, queue.left)


def _board_row(row: operations.UnitRow, seen: operations.QueueRow | None, gates: list[Measurement], language: str) -> BoardRow:
    job = seen.job if seen else None
    return BoardRow(
        row.login,
        row.name,
        row.submission,
        row.grade,
        row.feedback,
        job.state if job else "",
        phase_of(job) if job else "",
        seen.seconds if seen else None,
        seen.position if seen else None,
        [(name, job.phases[name]) for name in PHASES if name in job.phases] if job and job.state == "done" else [],
        retell(job.error, language) if job and job.error else "",
        notes(job, gates, language),
    )


@dataclass(frozen=True)
class OpenRegrade:
    """A request that waits for an answer, with what it is about."""

    regrade: Regrade
    grade: Grade | None
    feedback: Feedback | None


@dataclass(frozen=True)
class StaffDesk:
    """What staff decide in a unit."""

    release: Release | None
    names: dict[str, str]
    students: list[tuple[str, str]]
    extensions: list[Extension]
    regrades: list[OpenRegrade]


def staff_desk(db: Read, course: str, unit: str) -> StaffDesk:
    extensions = select(Extension).where(Extension.course == course, Extension.unit == unit).order_by(Extension.login)
    asked = [regrade for regrade in operations.open_regrades(db, course) if regrade.unit == unit]
    return StaffDesk(
        db.get(Release, (course, unit)),
        names_of(db, course),
        [(person.login, person.name) for person in members(db, course, "student")],
        list(db.scalars(extensions)),
        [OpenRegrade(r, db.get(Grade, r.submission_id), db.get(Feedback, r.submission_id)) for r in asked],
    )


def progress(db: Read, course: str, unit: str, kind: str, language: str) -> Progress:
    """How far grading, or feedback, is for the newest submissions of a unit."""
    newest = {submission.id: login for login, submission in newest_submissions(db, course, unit).items()}
    jobs = {key: job for key, job in _newest_jobs(db, course, unit, kind).items() if key in newest}
    states = [job.state for job in jobs.values() if job.state != "cancelled"]
    reasons: dict[str, list[str]] = defaultdict(list)
    for key, job in jobs.items():
        if job.state == "failed":
            reasons[retell(job.error or "", language)].append(newest[key])
    return Progress(
        total=len(states),
        queued=states.count("queued"),
        running=states.count("running"),
        done=states.count("done"),
        failed=states.count("failed"),
        failures=sorted((reason, sorted(logins)) for reason, logins in reasons.items()),
    )


def _newest_jobs(db: Read, course: str, unit: str, kind: str) -> dict[str, Job]:
    query = select(Job).where(Job.course == course, Job.unit == unit, Job.kind == kind).order_by(Job.created_at, Job.id)
    return {job.submission_id: job for job in db.scalars(query) if job.submission_id}
