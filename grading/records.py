"""What the exchange and the grader remember: releases, submissions, jobs, feedback, and the history of every action."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from academy.database import Base, UTCDateTime, new_id, now


class Release(Base):
    """A unit's student version as students can fetch it now; one row a unit."""

    __tablename__ = "releases"

    course: Mapped[str] = mapped_column(String(64), primary_key=True)
    unit: Mapped[str] = mapped_column(String(64), primary_key=True)
    blobs: Mapped[dict[str, str]] = mapped_column(JSON)  # language ("" when it has only one) -> SHA-256 of a tar.gz
    due_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    released_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    released_by: Mapped[str] = mapped_column(String(64))


class Submission(Base):
    """What a student handed in. Never changed."""

    __tablename__ = "submissions"
    __table_args__ = (
        Index("ix_submissions_unit", "course", "unit", "login", "received_at"),
        UniqueConstraint("login", "idempotency_key", name="uq_submissions_idempotency"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    course: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str] = mapped_column(String(64))
    login: Mapped[str] = mapped_column(String(64))
    language: Mapped[str] = mapped_column(String(2), default="")
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int]  # bytes
    received_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    late: Mapped[bool] = mapped_column(default=False)
    idempotency_key: Mapped[str | None] = mapped_column(String(64))  # the sender's: a repeated request makes no second row


class Job(Base):
    """Work for the grader. A submission and its job commit together."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_queue", "state", "priority", "id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(20))  # grade: a submission; feedback: a submission; execute: a formgrader run
    course: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str] = mapped_column(String(64))
    submission_id: Mapped[str | None] = mapped_column(ForeignKey("submissions.id"), index=True)
    payload_sha256: Mapped[str | None] = mapped_column(String(64))  # execute: what to run
    result_sha256: Mapped[str | None] = mapped_column(String(64))  # execute: what came out
    state: Mapped[str] = mapped_column(String(20), default="queued")  # queued, running, done, failed, cancelled
    priority: Mapped[int] = mapped_column(default=0)  # higher first
    requested_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    claimed_by: Mapped[str | None] = mapped_column(String(64))
    claim_expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    attempts: Mapped[int] = mapped_column(default=0)
    finished_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    phases: Mapped[dict[str, float]] = mapped_column(JSON, default=dict)  # name -> seconds
    error: Mapped[str | None] = mapped_column(Text)  # for staff
    phase: Mapped[str] = mapped_column(String(20), default="queued")  # queued, started, student cells, tests, recorded
    phase_at: Mapped[datetime | None] = mapped_column(UTCDateTime)  # since when
    cancelled_by: Mapped[str | None] = mapped_column(String(64))
    notes: Mapped[list[dict[str, str]]] = mapped_column(JSON, default=list)  # {"kind": "flag" or "repair", "text": ...}


class Grade(Base):
    """The score of a submission as the gradebook had it last."""

    __tablename__ = "grades"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    score: Mapped[float]
    max_score: Mapped[float]
    penalty: Mapped[float] = mapped_column(default=0.0)  # points taken off for being late; the score is without them
    needs_manual: Mapped[bool] = mapped_column(default=False)
    graded_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class Feedback(Base):
    """What a student gets back for a submission; seen once it is released."""

    __tablename__ = "feedback"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))  # of a tar.gz with one HTML page a notebook
    score: Mapped[float | None]
    max_score: Mapped[float | None]
    released_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    released_by: Mapped[str] = mapped_column(String(64))


class Extension(Base):
    """More time for one student."""

    __tablename__ = "extensions"

    course: Mapped[str] = mapped_column(String(64), primary_key=True)
    unit: Mapped[str] = mapped_column(String(64), primary_key=True)
    login: Mapped[str] = mapped_column(String(64), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(UTCDateTime)
    reason: Mapped[str] = mapped_column(Text)
    granted_by: Mapped[str] = mapped_column(String(64))
    granted_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class Regrade(Base):
    """A student's request to look at a submission's grade again, and its answer."""

    __tablename__ = "regrades"
    __table_args__ = (Index("ix_regrades_unit", "course", "unit", "state"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), index=True)
    course: Mapped[str] = mapped_column(String(64))
    unit: Mapped[str] = mapped_column(String(64))
    login: Mapped[str] = mapped_column(String(64))
    asked_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    text: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20), default="open")  # open, accepted, declined
    answer: Mapped[str] = mapped_column(Text, default="")
    answered_by: Mapped[str | None] = mapped_column(String(64))
    answered_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Measurement(Base):
    """A performance gate's figure as the grader measured it."""

    __tablename__ = "measurements"

    submission_id: Mapped[str] = mapped_column(ForeignKey("submissions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    ratio: Mapped[float]
    low: Mapped[float]  # of the rounds
    high: Mapped[float]
    at_least: Mapped[float]
    passed: Mapped[bool]
    measured_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class Nickname(Base):
    """Who stands on a course's leaderboards, and as whom."""

    __tablename__ = "nicknames"
    __table_args__ = (UniqueConstraint("course", "nickname", name="uq_nicknames"),)

    course: Mapped[str] = mapped_column(String(64), primary_key=True)
    login: Mapped[str] = mapped_column(String(64), primary_key=True)
    nickname: Mapped[str] = mapped_column(String(40))
    joined_at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)


class History(Base):
    """Who did what and when; rows are only ever added (the first migration's triggers refuse the rest)."""

    __tablename__ = "history"
    __table_args__ = (Index("ix_history_unit", "course", "unit"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, default=now)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(40))  # release, withdraw, fetch, submit, collect, grade, feedback, ...
    course: Mapped[str] = mapped_column(String(64), default="")
    unit: Mapped[str] = mapped_column(String(64), default="")
    login: Mapped[str] = mapped_column(String(64), default="")  # whom it concerns
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


def record(session: Session, actor: str, action: str, course: str = "", unit: str = "", login: str = "", **detail: Any) -> None:
    """Add a line to the history, in the caller's transaction."""
    session.add(History(actor=actor, action=action, course=course, unit=unit, login=login, detail=detail))


def newest_submissions(session: Session, course: str, unit: str, login: str | None = None) -> dict[str, Submission]:
    """Each student's newest submission of a unit, by login."""
    query = select(Submission).where(Submission.course == course, Submission.unit == unit).order_by(Submission.received_at)
    if login is not None:
        query = query.where(Submission.login == login)
    return {submission.login: submission for submission in session.scalars(query)}
