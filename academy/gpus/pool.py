"""The GPU pool in the database: ask, wait, hold, release. Every function is one step of a transaction that the caller commits.

No two hold one share, whatever crashes: each held share is a row under a primary key, and decisions follow one another.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from academy.database import new_id
from academy.gpus.inventory import Device
from academy.gpus.plan import LEAD, Decision, Kind, Lesson, Live, Waiting, decide, forecast, suits
from academy.gpus.records import Booking, Held, Lease, Reading, Wait
from academy.messages import AcademyError
from academy.people import Person
from academy.settings import Profile, Settings
from academy.vouchers import ledger

LOCK = 0x61676F7573  # PostgreSQL's: decisions follow one another; SQLite's writers do anyway
HERE = timedelta(seconds=20)  # since whoever waits was last seen
LOST = timedelta(minutes=15)  # after that nobody comes back for a place in the line
WEEK = timedelta(days=7)
GRADER = "(grading)"  # in place of a login: who holds the GPUs of graded runs
LAST_STARTS = 50  # of a profile, for the guess how long the next stays


@dataclass(frozen=True)
class Place:
    """Where somebody stands in the line: the first is 1; ``expected_at`` when it is likely to be their turn, if known."""

    number: int
    of: int
    expected_at: datetime | None
    booked_until: datetime | None  # a lesson for which free places are kept


def holder_of(login: str, server: str) -> str:
    return f"{login}/{server}"


def ask(
    session: Session, settings: Settings, person: Person, server: str, profile_key: str, now: datetime, voucher: str = ""
) -> None:
    """Join the line; whoever stands there already keeps the place, unless they want something else now.

    Raises:
        AcademyError: the profile has to be paid for, and no voucher of the person's can.
    """
    profile, holder = settings.profiles[profile_key], holder_of(person.login, server)
    assert profile.gpu != "none"
    payer = ledger.choose(session, person, now, voucher).id if profile.paid else None
    tier, courses = tier_of(settings, person.roles()), sorted(enrollment.course for enrollment in person.enrollments)
    wait = session.get(Wait, holder)
    if wait is not None and wait.profile != profile_key:
        session.delete(wait)
        session.flush()
        wait = None
    if wait is None:
        wait = Wait(holder=holder, login=person.login, server=server, purpose="server", profile=profile_key, asked_at=now)
        session.add(wait)
    wait.kind, wait.memory_mb, wait.tier, wait.courses = profile.gpu, profile.gpu_memory_mb, tier, " ".join(courses)
    wait.voucher_id, wait.seen_at, wait.refused = payer, now, ""


def for_run(session: Session, settings: Settings, devices: Sequence[Device], job: str, now: datetime) -> Lease | None:
    """The whole device of a graded run, once it is its turn; until then the run stands in the line like everybody."""
    holder = holder_of(GRADER, job)
    if (lease := lease_of(session, holder)) is not None:
        return lease
    if session.get(Wait, holder) is None:
        tier = tier_of(settings, ["grading"])
        wait = Wait(
            holder=holder, login=GRADER, server=job, purpose="grading", profile="", kind="whole", tier=tier, asked_at=now
        )
        wait.seen_at = now
        session.add(wait)
        session.flush()
    settle(session, settings, devices, now)
    return lease_of(session, holder)


def tier_of(settings: Settings, roles: Iterable[str]) -> int:
    """The best tier of a person's roles; the lower waits in front."""
    tiers, roles = settings.gpus.tiers, set(roles)
    return next((number for number, tier in enumerate(tiers) if roles & set(tier)), len(tiers))


def lease_of(session: Session, holder: str) -> Lease | None:
    """What somebody holds now."""
    return session.scalar(select(Lease).where(Lease.holder == holder))


def ending(session: Session, login: str) -> list[Lease]:
    """A person's GPUs that will be taken, the first to go first."""
    theirs = (Lease.login == login, Lease.holder.is_not(None), Lease.ends_at.is_not(None))
    return list(session.scalars(select(Lease).where(*theirs).order_by(Lease.ends_at)))


def leave(session: Session, holder: str) -> None:
    """Step out of the line."""
    session.execute(delete(Wait).where(Wait.holder == holder))


def settle(session: Session, settings: Settings, devices: Sequence[Device], now: datetime) -> list[str]:
    """Give what is free to those whose turn it is, and tell outsiders when lessons need their places; returns new leases."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    session.execute(delete(Wait).where(Wait.seen_at < now - LOST))
    decision = _decision(session, settings, devices, now)
    if decision is None:
        return []
    for lease_id, ends_at in decision.moves.items():
        session.execute(update(Lease).where(Lease.id == lease_id).values(ends_at=ends_at, ends_why="booked"))
    if decision.stays:
        session.execute(update(Lease).where(Lease.id.in_(decision.stays)).values(ends_at=None, ends_why=""))
    granted = []
    for grant in decision.grants:
        wait = session.get_one(Wait, grant.holder)
        of = next(device.shares for device in devices if device.uuid == grant.device)
        lease = Lease(
            id=new_id(now),
            device=grant.device,
            shares=grant.shares,
            of_shares=of,
            holder=wait.holder,
            login=wait.login,
            server=wait.server,
            purpose=wait.purpose,
            profile=wait.profile,
            tier=wait.tier,
            courses=wait.courses,
            voucher_id=wait.voucher_id,
            weight=weight_of(settings.profiles.get(wait.profile)),
            granted_at=now,
            busy_at=now,
        )
        try:
            if wait.voucher_id:
                ledger.hold(session, wait.voucher_id, lease.id, lease.weight, now)
        except AcademyError as error:
            wait.refused = error.key  # whoever waits reads it
            continue
        session.delete(wait)
        session.add(lease)
        session.flush()
        taken = set(session.scalars(select(Held.share).where(Held.device == grant.device)))
        free = (share for share in range(of) if share not in taken)
        session.add_all(Held(device=grant.device, share=share, lease_id=lease.id) for share in islice(free, grant.shares))
        session.flush()
        granted.append(lease.id)
    return granted


def weight_of(profile: Profile | None) -> int:
    """Thousandths of a GPU-hour that an hour costs."""
    return round(profile.weight * 1000) if profile else 1000


def started(session: Session, lease_id: str, container: str, now: datetime) -> None:
    """Its server runs."""
    session.execute(update(Lease).where(Lease.id == lease_id).values(started_at=now, busy_at=now, container=container))


def release(session: Session, lease_id: str, why: str, now: datetime) -> bool:
    """Give a device back and close its account; False where that had been done."""
    lease = session.get(Lease, lease_id, with_for_update=True)
    if lease is None or lease.released_at is not None:
        return False
    if lease.ends_at and lease.ends_at <= now:
        why = lease.ends_why  # whoever stopped it, that is the reason
    lease.holder, lease.released_at, lease.released_why = None, max(now, lease.granted_at), why
    session.execute(delete(Held).where(Held.lease_id == lease_id))
    if lease.voucher_id:
        session.flush()
        ledger.finish(session, lease_id, lease.released_at)
    return True


def places(session: Session, settings: Settings, devices: Sequence[Device], now: datetime) -> dict[str, Place]:
    """Where everybody who waits stands."""
    decision = _decision(session, settings, devices, now)
    if decision is None:
        return {}
    live = _live(session, settings, devices, now, forecasting=True)
    waiting = {wait.holder: wait for wait in _waiting(session, now)}
    expected = forecast(devices, live, waiting, decision.order, now)
    lessons = [lesson for lesson in _lessons(session, now) if lesson.starts_at - LEAD <= now]
    left = {device.uuid: device.shares for device in devices}
    for lease in live:
        if lease.device in left:
            left[lease.device] -= lease.shares
    found, numbers = {}, dict.fromkeys(("whole", "slice", "share"), 0)
    of = {kind: sum(waiting[holder].kind == kind for holder in decision.order) for kind in numbers}
    for holder in decision.order:
        wait = waiting[holder]
        numbers[wait.kind] += 1
        spare = any(left[d.uuid] >= (d.shares if wait.kind == "whole" else 1) and suits(d, wait.kind) for d in devices)
        kept = [
            lesson.ends_at for lesson in lessons if spare and lesson.kind == wait.kind and lesson.course not in wait.courses
        ]
        found[holder] = Place(numbers[wait.kind], of[wait.kind], expected.get(holder), max(kept, default=None))
    return found


def _decision(session: Session, settings: Settings, devices: Sequence[Device], now: datetime) -> Decision | None:
    """What to do now; None where nobody waits and no lesson is near."""
    waiting, lessons = _waiting(session, now), _lessons(session, now)
    told = list(session.scalars(select(Lease.id).where(Lease.holder.is_not(None), Lease.ends_why == "booked")))
    if not waiting and not lessons:
        return Decision([], {}, told, []) if told else None
    live = _live(session, settings, devices, now) if lessons or told else _held(session, devices)
    no_show = timedelta(minutes=settings.gpus.no_show_minutes)
    return decide(devices, live, waiting, lessons, _used(session, now), now, no_show)


def _waiting(session: Session, now: datetime) -> list[Waiting]:
    c = Wait.__table__.c
    columns = (c.holder, c.login, c.kind, c.memory_mb, c.tier, c.courses, c.asked_at, c.seen_at >= now - HERE)
    rows = session.execute(select(*columns).where(c.refused == "")).all()
    courses_of = {row[5]: frozenset(row[5].split()) for row in rows}
    return [
        Waiting(holder, login, kind, memory, tier, courses_of[courses], asked_at, bool(here))
        for holder, login, kind, memory, tier, courses, asked_at, here in rows
    ]


def _live(
    session: Session, settings: Settings, devices: Sequence[Device], now: datetime, forecasting: bool = False
) -> list[Live]:
    kind = _kind_on(devices)
    c = Lease.__table__.c  # not by the mapped class, which takes twice as long for a thousand rows
    columns = (c.id, c.device, c.shares, c.of_shares, c.login, c.tier, c.courses, c.granted_at, c.ends_at, c.ends_why)
    rows = session.execute(select(*columns, c.purpose, c.profile).where(c.holder.is_not(None))).all()
    stay = {profile: _usual_stay(session, settings, profile) for profile in {row[-1] for row in rows} if forecasting}
    courses_of = {row[6]: frozenset(row[6].split()) for row in rows}
    live = []
    for id_, device, shares, of, login, tier, courses, granted_at, ends_at, ends_why, purpose, profile in rows:
        likely = granted_at + stay[profile] if forecasting else None
        on = (id_, device, shares, kind(device, shares == of), login, tier, courses_of[courses], granted_at, ends_at, ends_why)
        live.append(Live(*on, purpose == "server", likely))
    return live


def _held(session: Session, devices: Sequence[Device]) -> list[Live]:
    """What is held of each device, as one lease a device or two: all that matters to a decision where no lesson is near."""
    c, kind = Lease.__table__.c, _kind_on(devices)
    whole = c.shares == c.of_shares
    rows = session.execute(
        select(c.device, whole, func.sum(c.shares), func.max(c.granted_at))
        .where(c.holder.is_not(None))
        .group_by(c.device, whole)
    )
    return [
        Live("", device, shares, kind(device, all_of_it), "", 0, frozenset(), granted_at)
        for device, all_of_it, shares, granted_at in rows
    ]


def _kind_on(devices: Sequence[Device]) -> Callable[[str, bool], Kind]:
    """What a lease on a device is, by whether it had all of it."""
    slices = {device.uuid for device in devices if device.slice}
    return lambda device, all_of_it: "slice" if device in slices else "whole" if all_of_it else "share"


def _usual_stay(session: Session, settings: Settings, profile: str) -> timedelta:
    """How long servers of a profile held their GPUs lately; with too few to say, as long as they may."""
    ended = select(Lease.granted_at, Lease.released_at).where(Lease.profile == profile, Lease.released_at.is_not(None))
    rows = session.execute(ended.order_by(Lease.released_at.desc()).limit(LAST_STARTS)).all()
    if len(rows) >= 5:
        return timedelta(seconds=statistics.median((until - since).total_seconds() for since, until in rows if until))
    known = settings.profiles.get(profile)
    return timedelta(hours=known.hours if known else 1)


def _lessons(session: Session, now: datetime) -> list[Lesson]:
    """Those that are on or begin within a lead."""
    columns = (Booking.id, Booking.course, Booking.kind, Booking.places, Booking.starts_at, Booking.ends_at)
    soon = (Booking.ends_at > now, Booking.starts_at <= now + LEAD, Booking.cancelled_at.is_(None))
    return [Lesson(*row) for row in session.execute(select(*columns).where(*soon))]


def _used(session: Session, now: datetime) -> dict[str, int]:
    """Login -> device-milliseconds of the last week, for those who wait."""
    columns = (Lease.login, Lease.granted_at, Lease.released_at, Lease.shares, Lease.of_shares)
    recent = select(*columns).where((Lease.released_at.is_(None)) | (Lease.released_at > now - WEEK))
    used: dict[str, int] = {}
    for login, since, until, shares, of in session.execute(recent.where(Lease.login.in_(select(Wait.login)))):
        spent = (until or now) - max(since, now - WEEK)
        used[login] = used.get(login, 0) + max(0, spent // timedelta(milliseconds=1)) * shares // of
    return used


def keep(session: Session, settings: Settings, holder: str, now: datetime) -> int:
    """Keep it, I am thinking: an idle GPU stays; returns how often that still goes.

    Raises:
        AcademyError: there is no idle GPU to keep, or it was kept often enough.
    """
    lease = lease_of(session, holder)
    if lease is None or lease.ends_why != "idle":
        raise AcademyError("gpu-not-idle", 409)
    profile = settings.profiles.get(lease.profile)
    left = (profile.idle_keeps if profile else 0) - lease.keeps
    if left <= 0:
        raise AcademyError("gpu-kept-often", 409, times=lease.keeps)
    lease.keeps, lease.busy_at, lease.ends_at, lease.ends_why = lease.keeps + 1, now, None, ""
    return left - 1


def note(session: Session, readings: dict[str, tuple[int | None, int]], now: datetime) -> None:
    """Keep the minute's figures of each device: percent and MiB, and how many of its shares are held."""
    minute = now.replace(second=0, microsecond=0)
    held = {device: count for device, count in session.execute(select(Held.device, func.count()).group_by(Held.device))}
    for device, (utilisation, memory_mb) in readings.items():
        session.merge(Reading(device=device, at=minute, utilisation=utilisation, memory_mb=memory_mb, held=held.get(device, 0)))
    session.execute(delete(Reading).where(Reading.at < now - 2 * WEEK))
