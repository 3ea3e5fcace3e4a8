"""The account of vouchers: append-only, in exact integers, every step inside the caller's transaction.

What a server may use next is held beforehand, an hour at a time, so that two teammates cannot start on the same last hour.
Use is taken from what is held, which is filled up again from what is free; when neither is left, the server has run out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from academy.database import new_id
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.people import Person
from academy.vouchers.records import GPU_HOUR, Entry, EntryKind, HolderKind, Member, Team, Voucher

HOLD = timedelta(hours=1)  # of use, that a server holds ahead
LEAST = timedelta(minutes=5)  # of use: with less nothing starts
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
        return (self.free + self.held) / self.granted if self.granted else 0.0


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
    number, reason = number.strip(), reason.strip()
    if not number or not reason or not 0 < hours <= 1_000_000 or not (starts_at < ends_at and now < ends_at):
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
    _append(session, voucher.id, "grant", round(hours * GPU_HOUR), now, by, reason)
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


def choose(session: Session, person: Person, now: datetime, voucher_id: str = "") -> Voucher:
    """Who pays for a start: the voucher that is named, else of those with enough the one that ends first.

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
        if free(session, voucher.id) >= _cost(LEAST, 1000):
            return voucher
    raise AcademyError("voucher-empty", 402, number=is_open[0].number)


def free(session: Session, voucher_id: str) -> int:
    """What is left on a voucher and held by nobody."""
    return int(session.scalar(select(func.coalesce(func.sum(Entry.amount), 0)).where(Entry.voucher_id == voucher_id)) or 0)


def accounts(session: Session, vouchers: Iterable[Voucher]) -> list[Account]:
    """How vouchers stand."""
    found = []
    for voucher in vouchers:
        sums = select(Entry.kind, func.sum(Entry.amount)).where(Entry.voucher_id == voucher.id).group_by(Entry.kind)
        by_kind = {kind: int(total) for kind, total in session.execute(sums)}
        granted = by_kind.get("grant", 0) + by_kind.get("transfer", 0) + by_kind.get("correction", 0)
        # a use is paid out of what is held: it takes nothing from the balance that the hold has not taken before
        used = -by_kind.get("use", 0)
        held = -(by_kind.get("hold", 0) + by_kind.get("release", 0))
        found.append(Account(voucher, granted, sum(by_kind.values()), held, used))
    return found


def hold(session: Session, voucher_id: str, lease_id: str, weight: int, now: datetime) -> int:
    """Put aside what a server will use next; returns how much.

    Raises:
        AcademyError: less than a start needs is left.
    """
    voucher = _locked(session, voucher_id)
    amount = min(free(session, voucher_id), _cost(HOLD, weight))
    if amount < _cost(LEAST, weight) or not voucher.starts_at <= now < voucher.ends_at:
        raise AcademyError("voucher-empty", 402, number=voucher.number)
    _append(session, voucher_id, "hold", -amount, now, POOL, lease=lease_id)
    return amount


def charge(session: Session, lease_id: str, until: datetime) -> Standing:
    """Book what a lease has used since the last time; a clock that goes back books nothing."""
    lease = session.get_one(Lease, lease_id)
    assert lease.voucher_id
    voucher = _locked(session, lease.voucher_id)
    held, used, last = _of_lease(session, lease)
    began = max(last or lease.granted_at, lease.granted_at)
    # in whole, from the start: rounding never adds up
    owed = max(0, _cost(max(until, began) - lease.granted_at, lease.weight) - used)
    available = free(session, lease.voucher_id) if until < voucher.ends_at else 0
    paid = min(owed, held + available)
    if paid:
        if paid > held:
            _append(session, voucher.id, "hold", -(paid - held), until, POOL, lease=lease_id)
            held, available = paid, available - (paid - held)
        _append(session, voucher.id, "release", paid, until, POOL, lease=lease_id)
        _append(session, voucher.id, "use", -paid, max(until, began), POOL, lease=lease_id)
        held -= paid
    top = min(max(0, _cost(HOLD, lease.weight) - held), available)
    if top > 0:
        _append(session, voucher.id, "hold", -top, until, POOL, lease=lease_id)
        held, available = held + top, available - top
    [account] = accounts(session, [voucher])
    empty_at = None
    if lease.weight and held == 0:  # as many milliseconds as were paid, from the start
        empty_at = min(until, lease.granted_at + (used + paid) // lease.weight * MS)
    return Standing(account.free, held, account.left, empty_at)


def finish(session: Session, lease_id: str, at: datetime) -> None:
    """The last charge of a lease, and back with what it still holds."""
    lease = session.get_one(Lease, lease_id)
    assert lease.voucher_id
    charge(session, lease_id, at)
    held, _, _ = _of_lease(session, lease)
    if held:
        _append(session, lease.voucher_id, "release", held, at, POOL, lease=lease_id)


def expire(session: Session, now: datetime) -> int:
    """What ended vouchers have left, and no server holds any more, is gone. Returns how many had some."""
    count = 0
    for voucher in session.scalars(select(Voucher).where(Voucher.ends_at <= now)):
        left = free(session, _locked(session, voucher.id).id)
        if left > 0:
            _append(session, voucher.id, "expiry", -left, now, POOL)
            count += 1
    return count


def transfer(session: Session, source: str, target: str, hours: float, by: str, reason: str, now: datetime) -> None:
    """
    Raises:
        AcademyError: that much is not free, the vouchers are one, or there is no reason.
    """
    amount = round(hours * GPU_HOUR)
    for voucher_id in sorted({source, target}):  # always in one order: two transfers cannot wait for each other
        _locked(session, voucher_id)
    if amount <= 0 or source == target or not reason.strip():
        raise AcademyError("voucher-bad-grant")
    if amount > free(session, source):
        raise AcademyError("voucher-not-enough", 409, hours=f"{free(session, source) / GPU_HOUR:.2f}")
    _append(session, source, "transfer", -amount, now, by, reason)
    _append(session, target, "transfer", amount, now, by, reason)


def correct(session: Session, voucher_id: str, hours: float, by: str, reason: str, now: datetime) -> None:
    """Add hours, or take away what is free.

    Raises:
        AcademyError: that much is not free, or there is no reason.
    """
    amount, left = round(hours * GPU_HOUR), free(session, _locked(session, voucher_id).id)
    if not amount or not reason.strip():
        raise AcademyError("voucher-bad-grant")
    if left + amount < 0:
        raise AcademyError("voucher-not-enough", 409, hours=f"{left / GPU_HOUR:.2f}")
    _append(session, voucher_id, "correction", amount, now, by, reason)


def statement(session: Session, vouchers: Sequence[str], since: datetime, until: datetime) -> list[Entry]:
    """The lines of some vouchers in a time, oldest first."""
    wanted = select(Entry).where(Entry.voucher_id.in_(vouchers), Entry.at >= since, Entry.at < until)
    return list(session.scalars(wanted.order_by(Entry.at, Entry.id)))


COLUMNS = ("at", "kind", "gpu_hours", "amount", "lease", "by", "reason")


def row(entry: Entry) -> tuple[str | int, ...]:
    """A line of the ledger for a CSV; ``amount`` is exact (GPU_HOUR is one GPU for an hour)."""
    hours = f"{entry.amount / GPU_HOUR:.6f}"
    return (entry.at.isoformat(), entry.kind, hours, entry.amount, entry.lease_id or "", entry.by, entry.reason)


def make_team(session: Session, team_id: str, name: str, lead: str, by: str, now: datetime) -> Team:
    """
    Raises:
        AcademyError: the name is empty or taken, or the lead is not on the roster.
    """
    name = " ".join(name.split())
    if not name or session.scalar(select(Team.id).where(Team.name == name)):
        raise AcademyError("team-name-taken", 409, name=name)
    if session.get(Person, lead) is None:
        raise AcademyError("voucher-no-holder", 404, holder=lead)
    team = Team(id=team_id, name=name, made_by=by, made_at=now)
    session.add(team)
    session.flush()
    session.add(Member(team_id=team.id, login=lead, leads=True, invited_by=by, invited_at=now, joined_at=now))
    session.flush()
    return team


def invite(session: Session, team_id: str, login: str, by: str, now: datetime) -> None:
    """A lead asks somebody into the team; they are in it once they accept.

    Raises:
        AcademyError: they are not on the roster.
    """
    if session.get(Person, login) is None:
        raise AcademyError("voucher-no-holder", 404, holder=login)
    if session.get(Member, (team_id, login)) is None:
        session.add(Member(team_id=team_id, login=login, invited_by=by, invited_at=now))
        session.flush()


def warnings(session: Session, person: Person, now: datetime) -> list[Account]:
    """The open vouchers of which a fifth or less is left, the emptiest first."""
    is_open = [voucher for voucher in vouchers_of(session, person) if voucher.starts_at <= now < voucher.ends_at]
    return sorted((one for one in accounts(session, is_open) if one.left <= FEW), key=lambda one: one.left)


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
