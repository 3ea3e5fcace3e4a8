"""Statements: what was granted, moved and used, of one voucher or several, by everybody or by one person."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from academy.gpus.records import Lease
from academy.vouchers.records import GPU_HOUR, Entry, EntryKind, Voucher

COLUMNS = ("voucher", "at", "kind", "gpu_hours", "amount", "lease", "by", "reason", "who")


@dataclass(frozen=True)
class Line:
    """A decision, or all that one server used."""

    number: str  # the voucher's
    kind: EntryKind
    since: datetime
    until: datetime  # of a use
    amount: int
    who: str  # whoever decided or used it
    said: str  # the reason, or the server's name


@dataclass(frozen=True)
class Plot:
    """Two SVG paths over time, from the ground: all that was granted, and of it what was used."""

    granted: str
    used: str
    since: datetime
    until: datetime
    most: float  # GPU-hours at the top


def lines(session: Session, vouchers: Sequence[Voucher], only: str = "") -> list[Line]:
    """The newest first.

    Args:
        only: this person's uses alone, and the decisions about vouchers of their own.
    """
    decided = select(Entry, Voucher.number).join(Voucher).where(Entry.kind.in_(("grant", "transfer", "correction", "expiry")))
    found = [
        Line(number, entry.kind, entry.at, entry.at, entry.amount, entry.by, entry.reason)
        for entry, number in session.execute(_among(decided, vouchers, Voucher.holder == only if only else None))
    ]
    columns = (Voucher.number, Lease.login, Lease.server, Lease.granted_at)
    used = select(*columns, func.max(Entry.at), func.sum(Entry.amount)).join(Voucher).join(Lease, Lease.id == Entry.lease_id)
    used = used.where(Entry.kind == "use").group_by(Lease.id, *columns)
    for number, login, server, since, until, amount in session.execute(
        _among(used, vouchers, Lease.login == only if only else None)
    ):
        found.append(Line(number, "use", since, until, int(amount), login, server))
    return sorted(found, key=lambda line: (line.until, line.since), reverse=True)


def people(found: Sequence[Line]) -> list[tuple[str, int]]:
    """Who used how much, the most first."""
    sums: dict[str, int] = {}
    for line in found:
        if line.kind == "use":
            sums[line.who] = sums.get(line.who, 0) - line.amount
    return sorted(sums.items(), key=lambda one: -one[1])


def table(
    session: Session, vouchers: Sequence[Voucher], only: str = "", since: datetime | None = None, until: datetime | None = None
) -> str:
    """Every line of the ledger as CSV, oldest first; ``amount`` is exact (``GPU_HOUR`` is one GPU for an hour)."""
    wanted = select(Entry, Voucher.number, Lease.login).join(Voucher).outerjoin(Lease, Lease.id == Entry.lease_id)
    theirs = or_(and_(Entry.lease_id.is_(None), Voucher.holder == only), Lease.login == only) if only else None
    wanted = _among(wanted, vouchers, theirs).order_by(Entry.at, Entry.id)
    if since:
        wanted = wanted.where(Entry.at >= since)
    if until:
        wanted = wanted.where(Entry.at < until)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for entry, number, login in session.execute(wanted):
        hours = f"{entry.amount / GPU_HOUR:.6f}"
        rest = (entry.lease_id or "", entry.by, entry.reason, login or "")
        writer.writerow((number, entry.at.isoformat(), entry.kind, hours, entry.amount, *rest))
    return text.getvalue()


def _among(query: Any, vouchers: Sequence[Voucher], theirs: ColumnElement[bool] | None) -> Any:
    query = query.where(Entry.voucher_id.in_([voucher.id for voucher in vouchers]))
    return query if theirs is None else query.where(theirs)


def plot(found: Sequence[Line], now: datetime, width: int, height: int) -> Plot | None:
    """The course of grants and uses; what a server used, it used evenly. None before there is any time to show."""
    since = min((line.since for line in found), default=now)
    until = max([now, *(line.until for line in found)])
    if until <= since:
        return None
    granted = [(line.since, line.amount, 0.0) for line in found if line.kind != "use"]
    used = [change for line in found if line.kind == "use" for change in _even(line)]
    tops = [_course(changes, since, until, width) for changes in (granted, used)]
    most = max(value for top in tops for _, value in top)
    if most <= 0:
        return None
    paths = ["".join(f"L{x} {height * (1 - max(0.0, value) / most):.1f}" for x, value in top) for top in tops]
    whole = [f"M0 {height}{path}L{width} {height}Z" for path in paths]
    return Plot(whole[0], whole[1], since, until, most / GPU_HOUR)


def _even(line: Line) -> list[tuple[datetime, float, float]]:
    """(when, jump, change of slope a second) of a use."""
    seconds = (line.until - line.since).total_seconds()
    if seconds <= 0:
        return [(line.until, -line.amount, 0.0)]
    slope = -line.amount / seconds
    return [(line.since, 0.0, slope), (line.until, 0.0, -slope)]


def _course(
    changes: Sequence[tuple[datetime, float, float]], since: datetime, until: datetime, width: int
) -> list[tuple[int, float]]:
    """(x in pixels, value), at most two a pixel: before the first change in it and after the last."""
    value, slope, last = 0.0, 0.0, since
    points: dict[int, tuple[float, float]] = {}
    for at, jump, bend in [*sorted(changes), (until, 0.0, 0.0)]:
        value += slope * (at - last).total_seconds()
        before = value
        value, slope, last = value + jump, slope + bend, at
        x = round(width * ((at - since) / (until - since)))
        points[x] = (points[x][0] if x in points else before, value)
    return [(x, value) for x, pair in points.items() for value in dict.fromkeys(pair)]
