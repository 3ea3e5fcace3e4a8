"""Lessons book GPUs: so many of a kind, for a course, from one time to another; once or every week."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.database import new_id
from academy.gpus.inventory import Device
from academy.gpus.plan import Kind, fits
from academy.gpus.records import Booking
from academy.messages import AcademyError
from academy.settings import Settings

LONGEST = timedelta(hours=12)
MOST_WEEKS = 30


def book(
    session: Session,
    settings: Settings,
    devices: Sequence[Device],
    course: str,
    kind: Kind,
    places: int,
    starts_at: datetime,
    ends_at: datetime,
    by: str,
    now: datetime,
    weeks: int = 1,
    profile: str = "",
) -> list[Booking]:
    """Book a lesson, or the same hours of several weeks by the academy's clock. All of them, or none.

    Args:
        profile: with which the students' servers are started a few minutes before; "": they start them themselves.

    Raises:
        AcademyError: the times make no sense, or other lessons have booked too much; says which.
    """
    if not (now < ends_at and starts_at < ends_at <= starts_at + LONGEST):
        raise AcademyError("booking-times", hours=LONGEST // timedelta(hours=1))
    if not 1 <= weeks <= MOST_WEEKS:
        raise AcademyError("booking-weeks", most=MOST_WEEKS)
    if places < 1 or not fits(devices, [(kind, places)]):
        raise AcademyError("booking-too-many", places=places, kind=kind)
    zone, series = ZoneInfo(settings.academy.timezone), new_id(now)
    made = []
    for week in range(weeks):
        begin, end = (  # the sum forgets which of an autumn night's doubled hours was meant
            (local + timedelta(weeks=week)).replace(fold=local.fold).astimezone(UTC)
            for local in (starts_at.astimezone(zone), ends_at.astimezone(zone))
        )
        for other in conflicts(session, devices, kind, places, begin, end):
            when = other.starts_at.astimezone(zone)
            raise AcademyError("booking-taken", 409, course=other.course, places=other.places, when=f"{when:%Y-%m-%d %H:%M}")
        made.append(
            Booking(
                id=new_id(now),
                series=series,
                course=course,
                kind=kind,
                places=places,
                starts_at=begin,
                ends_at=end,
                profile=profile,
                booked_by=by,
                booked_at=now,
            )
        )
    session.add_all(made)
    return made


def conflicts(
    session: Session, devices: Sequence[Device], kind: Kind, places: int, starts_at: datetime, ends_at: datetime
) -> list[Booking]:
    """The lessons at one moment of the time that leave too little for this one; none where it fits throughout."""
    others = between(session, starts_at, ends_at)
    for moment in [starts_at, *(other.starts_at for other in others if other.starts_at > starts_at)]:
        there = [other for other in others if other.starts_at <= moment < other.ends_at]
        if not fits(devices, [(kind, places), *((other.kind, other.places) for other in there)]):
            return there
    return []


def between(session: Session, since: datetime, until: datetime) -> list[Booking]:
    """The lessons of a time, by their begin."""
    wanted = (Booking.starts_at < until, Booking.ends_at > since, Booking.cancelled_at.is_(None))
    return list(session.scalars(select(Booking).where(*wanted).order_by(Booking.starts_at, Booking.course)))


def cancel(session: Session, booking: Booking, by: str, now: datetime, following: bool = False) -> int:
    """Cancel a lesson that is not over, or also those of its series that follow; returns how many."""
    wanted = (
        [Booking.series == booking.series, Booking.starts_at >= booking.starts_at] if following else [Booking.id == booking.id]
    )
    found = session.scalars(select(Booking).where(*wanted, Booking.ends_at > now, Booking.cancelled_at.is_(None))).all()
    for one in found:
        one.cancelled_by, one.cancelled_at = by, now
    return len(found)
