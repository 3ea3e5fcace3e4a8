"""Which units somebody has mastered, and which are so open to them: a unit opens when those before it are mastered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.people import Enrollment
from academy.settings import Settings
from grading.courses import catalogue
from grading.courses.catalogue import Course, Unit
from grading.records import Feedback, Grade, Submission

Key = tuple[str, str]  # course, unit


@dataclass(frozen=True)
class Mastery:
    """What one student has reached in the courses that they take."""

    taken: frozenset[str]
    shares: dict[Key, float]  # the best part of the points that a submission had, lateness left aside
    submitted: frozenset[Key]
    known: dict[str, tuple[Course, Unit]] = field(repr=False)  # units by number, and by "course/id"

    def mastered(self, course: Course, unit: Unit) -> bool:
        return self.shares.get((course.id, unit.id), 0.0) >= course.mastery

    def needed(self, course: Course, unit: Unit) -> list[Unit]:
        """The units that keep this one closed: not mastered yet, of courses that the student takes, and written already."""
        if not course.mastery:
            return []
        before = catalogue.before(self.known, course, unit)
        return [each for owner, each in before if owner.id in self.taken and not self.mastered(owner, each)]


def of(session: Session, settings: Settings, login: str) -> Mastery:
    """What a student's submissions have reached, as far as they may see it themselves."""
    known = catalogue.by_name(catalogue.courses(settings))
    taken = session.scalars(select(Enrollment.course).where(Enrollment.login == login, Enrollment.role == "student"))
    shares: dict[Key, float] = {}
    query = (
        select(Submission.course, Submission.unit, Grade, Feedback)
        .outerjoin(Grade, Grade.submission_id == Submission.id)
        .outerjoin(Feedback, Feedback.submission_id == Submission.id)
        .where(Submission.login == login)
    )
    submitted = set()
    for course, unit, grade, feedback in session.execute(query):
        submitted.add((course, unit))
        found = known.get(f"{course}/{unit}")
        share = _share(grade, feedback, bool(found and found[1].on_submit))
        shares[course, unit] = max(share, shares.get((course, unit), 0.0))
    return Mastery(frozenset(taken), shares, frozenset(submitted), known)


def _share(grade: Grade | None, feedback: Feedback | None, at_once: bool) -> float:
    """Part of the points; what the student may not see yet opens nothing, or it would tell the score."""
    if at_once and grade is not None:
        score, most = grade.score, grade.max_score
    elif feedback is not None and feedback.score is not None:
        score, most = feedback.score, feedback.max_score or 0.0
    else:
        return 0.0
    return (score + (grade.penalty if grade else 0.0)) / most if most else 0.0


def names(units: Iterable[Unit], language: str) -> str:
    """Units as a sentence names them."""
    return ", ".join(f"{unit.number} {unit.title[language]}" for unit in units)
