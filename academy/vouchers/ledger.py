"""The account of vouchers: append-only, in exact integers, every step inside the caller's transaction.

What a server may use next is held beforehand, an hour at a time, so that two teammates cannot start on the same last hour.
Use is taken from what is held, which is filled up again from what is free; when neither is left, the server has run out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from academy.database import new_id
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.people import Person
from academy.vouchers.records import GPU_HOUR, Entry, EntryKind, HolderKind, Member, Team, Voucher
from grading.records import record

HOLD = timedelta(hours=1)  # of use, that a server holds ahead
LEAST = timedelta(minutes=5)  # of use: with less nothing starts
MOST = 1_000_000  # GPU-hours in one line
MS = timedelta(milliseconds=1)
FEW, LAST = 0.2, 0.05  # of a voucher left: people are told
POOL = "pool"  # who writes what no person decides


@dataclass(frozen=True)
class Standing:
    """How a lease's voucher stands after a charge."""

    free: int  # neither used nor held by anybody
    held: int  # by this lease
    left: float  # of all that was granted, 0 to 1
    empty_at: datetime | None  # since when this lease uses what nobody pays


@dataclass(frozen=True)
class Account:
    """A voucher and what is left on it."""

    voucher: Voucher
    granted: int
    free: int
    held: int
    used: int

    @property
    def left(self) -> float:
        """Of all that was granted, 0 to 1; what a server holds counts as left."""
        return (self.free + self.held) / self.granted if self.granted else 0.0

    @property
    def low(self) -> Literal["", "few", "last"]:
        """Whether people are told how little is left."""
        return "last" if self.left <= LAST else "few" if self.left <= FEW else ""


def grant(
    session: Session,
    number: str,
    kind: HolderKind,
    holder: str,
    hours: float,
    starts_at: datetime,
    ends_at: datetime,
    by: str,
    reason: str,
    now: datetime,
) -> Voucher:
    """
    Raises:
        AcademyError: the number is taken, the times or the hours make no sense, nobody is called so.
    """
    number, reason, amount = number.strip(), reason.strip(), _amount(hours)
    if not 0 < len(number) <= 64 or not reason or amount <= 0 or not (starts_at < ends_at and now < ends_at):
        raise AcademyError("voucher-bad-grant")
    known = {"person": select(Person.login).where(Person.login == holder), "team": select(Team.id).where(Team.id == holder)}
    if kind in known and session.scalar(known[kind]) is None:
        raise AcademyError("voucher-no-holder", 404, holder=holder)
    if session.scalar(select(Voucher.id).where(Voucher.number == number)):
        raise AcademyError("voucher-number-taken", 409, number=number)
    voucher = Voucher(
        id=new_id(now),
        number=number,
        holder_kind=kind,
        holder=holder,
        starts_at=starts_at,
        ends_at=ends_at,
        granted_by=by,
        granted_at=now,
        reason=reason,
    )
    session.add(voucher)
    session.flush()
    _append(session, voucher.id, "grant", amount, now, by, reason)
    _record(session, voucher, by, reason, "grant", hours)
    return voucher


def vouchers_of(session: Session, person: Person) -> list[Voucher]:
    """Those that can pay for a person's servers, ended ones too: their own, their teams', their courses'."""
    teams = select(Member.team_id).where(Member.login == person.login, Member.joined_at.is_not(None))
    courses = [enrollment.course for enrollment in person.enrollments]
    theirs = or_(
        (Voucher.holder_kind == "person") & (Voucher.holder == person.login),
        (Voucher.holder_kind == "team") & Voucher.holder.in_(teams),
        (Voucher.holder_kind == "course") & Voucher.holder.in_(courses),
    )
    return list(session.scalars(select(Voucher).where(theirs).order_by(Voucher.ends_at, Voucher.id)))


def choose(session: Session, person: Person, now: datetime, voucher_id: str = "", weight: int = 1000) -> Voucher:
    """Who pays for a start: the voucher that is named, else of those with enough the one that ends first.

    Args:
        weight: thousandths of a GPU that the server costs.

    Raises:
        AcademyError: none can; says what is missing and whom to ask.
    """
    theirs = vouchers_of(session, person)
    if voucher_id:
        theirs = [voucher for voucher in theirs if voucher.id == voucher_id]
        if not theirs:
            raise AcademyError("voucher-not-yours", 403)
    is_open = [voucher for voucher in theirs if voucher.starts_at <= now < voucher.ends_at]
    if not is_open:
        raise AcademyError("voucher-none", 402)
    for voucher in is_open:
        if free(session, voucher.id) >= _cost(LEAST, weight):
            return voucher
    raise AcademyError("voucher-empty", 402, number=is_open[0].number)


def free(session: Session, voucher_id: str) -> int:
    """What is left on a voucher and held by nobody."""
    return int(session.scalar(select(func.coalesce(func.sum(Entry.amount), 0)).where(Entry.voucher_id == voucher_id)) or 0)


def accounts(session: Session, vouchers: Iterable[Voucher]) -> list[Account]:
    """How vouchers stand, in their order."""
    by_id = {voucher.id: voucher for voucher in vouchers}
    kinds: dict[str, dict[str, int]] = {voucher_id: {} for voucher_id in by_id}
    sums = select(Entry.voucher_id, Entry.kind, func.sum(Entry.amount)).where(Entry.voucher_id.in_(by_id))
    for voucher_id, kind, total in session.execute(sums.group_by(Entry.voucher_id, Entry.kind)):
        kinds[voucher_id][kind] = int(total)
    return [_account(voucher, kinds[voucher_id]) for voucher_id, voucher in by_id.items()]


def _account(voucher: Voucher, sums: Mapping[str, int]) -> Account:
    granted = sums.get("grant", 0) + sums.get("transfer", 0) + sums.get("correction", 0)
    held = -(sums.get("hold", 0) + sums.get("release", 0))
    return Account(voucher, granted, sum(sums.values()), held, -sums.get("use", 0))


def hold(session: Session, voucher_id: str, lease_id: str, weight: int, now: datetime) -> int:
    """Put aside what a server will use next; returns how much.

    Raises:
        AcademyError: less than a start needs is left, or the voucher is not open any more.
    """
    voucher = _locked(session, voucher_id)
    amount = min(free(session, voucher_id), _cost(HOLD, weight))
    if amount < _cost(LEAST, weight) or not voucher.starts_at <= now < voucher.ends_at:
        raise AcademyError("voucher-spent", 402)
    _append(session, voucher_id, "hold", -amount, now, POOL, lease=lease_id)
    return amount


def charge(session: Session, lease_id: str, until: datetime) -> Standing:
    """Book what a lease has used since the last time; a clock that goes back books nothing.

    One line says the use, another by how much the hour that is held grew or shrank, if it did.
    """
    lease = session.get_one(Lease, lease_id)
    assert lease.voucher_id
    voucher = _locked(session, lease.voucher_id)
    # as the database has it now that nobody else charges: the server may have ended meanwhile
    released_at = session.scalar(select(Lease.released_at).where(Lease.id == lease_id))
    held, used, last = _of_lease(session, lease)
    until = max(min(until, released_at or until), last or lease.granted_at, lease.granted_at)
    # in whole, from the start: rounding never adds up
    owed = max(0, _cost(until - lease.granted_at, lease.weight) - used)
    owed_before_end = max(0, _cost(min(until, voucher.ends_at) - lease.granted_at, lease.weight) - used)
    [before] = accounts(session, [voucher])
    available = before.free
    more = min(available, max(0, owed_before_end - held))  # after the voucher's end only what is held pays
    paid = min(owed, held + more)
    rest, left = held + more - paid, held + available - paid
    ahead = _cost(HOLD, lease.weight) if released_at is None and until < voucher.ends_at else 0
    new = max(rest, min(ahead, left))
    if new != held:
        _append(session, voucher.id, "hold" if new > held else "release", held - new, until, POOL, lease=lease_id)
    if paid:
        _append(session, voucher.id, "use", -paid, until, POOL, lease=lease_id)
    after = replace(before, free=left - new, held=before.held + new - held, used=before.used + paid)
    empty_at = None
    if lease.weight and not new:  # as many milliseconds as are paid, from the start
        empty_at = min(until, lease.granted_at + (used + paid) // lease.weight * MS)
    return Standing(after.free, new, after.left, empty_at)


def finish(session: Session, lease_id: str, at: datetime) -> None:
    """The last charge of a lease, up to its release where that is known, and back with what it still holds."""
    lease = session.get_one(Lease, lease_id)
    assert lease.voucher_id
    charge(session, lease_id, at)
    held, _, _ = _of_lease(session, lease)
    if held:
        _append(session, lease.voucher_id, "release", held, at, POOL, lease=lease_id)


def expire(session: Session, now: datetime) -> int:
    """What ended vouchers have left, and no server holds any more, is gone. Returns how many had some."""
    ended = select(Voucher.id).join(Entry, Entry.voucher_id == Voucher.id).where(Voucher.ends_at <= now)
    some = list(session.scalars(ended.group_by(Voucher.id).having(func.sum(Entry.amount) > 0).order_by(Voucher.id)))
    for voucher_id in some:
        left = free(session, _locked(session, voucher_id).id)
        if left:
            _append(session, voucher_id, "expiry", -left, now, POOL)
    return len(some)


def transfer(session: Session, source: str, target: str, hours: float, by: str, reason: str, now: datetime) -> None:
    """
    Raises:
        AcademyError: that much is not free, the vouchers are one, the second has ended, or there is no reason.
    """
    amount = _amount(hours)
    found = {one: _locked(session, one) for one in sorted({source, target})}  # in one order: no two wait for each other
    if amount <= 0 or source == target or not reason.strip():
        raise AcademyError("voucher-bad-change")
    _take(session, found[source], amount)
    _give(found[target], now)
    _append(session, source, "transfer", -amount, now, by, reason)
    _append(session, target, "transfer", amount, now, by, reason)
    for voucher in found.values():
        _record(session, voucher, by, reason, "transfer", hours if voucher.id == target else -hours)


def correct(session: Session, voucher_id: str, hours: float, by: str, reason: str, now: datetime) -> None:
    """Add hours, or take away what is free.

    Raises:
        AcademyError: that much is not free, the voucher has ended, or there is no reason.
    """
    amount, voucher = _amount(hours), _locked(session, voucher_id)
    if not amount or not reason.strip():
        raise AcademyError("voucher-bad-change")
    if amount < 0:
        _take(session, voucher, -amount)
    else:
        _give(voucher, now)
    _append(session, voucher_id, "correction", amount, now, by, reason)
    _record(session, voucher, by, reason, "correction", hours)


def _take(session: Session, voucher: Voucher, amount: int) -> None:
    left = free(session, voucher.id)
    if amount > left:
        raise AcademyError("voucher-not-enough", 409, hours=f"{left / GPU_HOUR:.2f}")


def _give(voucher: Voucher, now: datetime) -> None:
    """What an ended voucher gets would be gone at once."""
    if voucher.ends_at <= now:
        raise AcademyError("voucher-over", 409, number=voucher.number)


def warnings(session: Session, person: Person, now: datetime) -> list[Account]:
    """The open vouchers of which a fifth or less is left, the emptiest first."""
    is_open = [voucher for voucher in vouchers_of(session, person) if voucher.starts_at <= now < voucher.ends_at]
    return sorted((one for one in accounts(session, is_open) if one.low), key=lambda one: one.left)


def _locked(session: Session, voucher_id: str) -> Voucher:
    """The voucher, which nobody else charges meanwhile."""
    return session.get_one(Voucher, voucher_id, with_for_update=True)


def _of_lease(session: Session, lease: Lease) -> tuple[int, int, datetime | None]:
    """(held, used, until when it is charged) of one lease."""
    rows = select(Entry.kind, func.sum(Entry.amount), func.max(Entry.at)).where(Entry.lease_id == lease.id).group_by(Entry.kind)
    found = {kind: (int(total), at) for kind, total, at in session.execute(rows)}
    held = -(found.get("hold", (0, None))[0] + found.get("release", (0, None))[0])
    used, until = found.get("use", (0, None))
    return held, -used, until


def _cost(time: timedelta, weight: int) -> int:
    return time // MS * weight


def _amount(hours: float) -> int:
    """In the ledger's unit; 0 for what is no sensible number."""
    return round(hours * GPU_HOUR) if math.isfinite(hours) and abs(hours) <= MOST else 0


def _record(session: Session, voucher: Voucher, by: str, reason: str, what: str, hours: float) -> None:
    """A line of the academy's history, and of the course's whose voucher it is."""
    course, login = (voucher.holder if voucher.holder_kind == kind else "" for kind in ("course", "person"))
    record(session, by, "voucher", course, login=login, number=voucher.number, reason=reason.strip(), what=what, hours=hours)


def _append(
    session: Session,
    voucher_id: str,
    kind: EntryKind,
    amount: int,
    at: datetime,
    by: str,
    reason: str = "",
    lease: str | None = None,
) -> None:
    session.add(Entry(voucher_id=voucher_id, kind=kind, amount=amount, lease_id=lease, at=at, by=by, reason=reason.strip()))
    session.flush()
