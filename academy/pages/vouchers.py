"""Vouchers and teams: what is left, who used what, who belongs to a team; granting for operators."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session as Read
from starlette.datastructures import FormData

from academy.database import new_id, now
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.pages import views
from academy.pages.hubapi import PREFIX
from academy.pages.render import COMMON_HEADERS, done
from academy.pages.visit import Visit, visit
from academy.people import Person
from academy.settings import Settings
from academy.vouchers import ledger
from academy.vouchers.records import GPU_HOUR, Entry, HolderKind, Member, Team, Voucher
from grading.records import record

router = APIRouter()

PLOT = (560, 90)  # pixels
EVER = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    """A voucher with the name of its holder."""

    account: ledger.Account
    holder: str
    few: bool
    is_open: bool


@dataclass(frozen=True)
class Line:
    """A line of a statement; ``who`` used it."""

    entry: Entry
    hours: float
    who: str


@router.get("/vouchers")
async def vouchers(visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, problem: str = "", form: FormData | None = None) -> HTMLResponse:
    def read(db: Read) -> dict[str, Any]:
        mine = ledger.vouchers_of(db, visit.person)
        every = list(db.scalars(select(Voucher).order_by(Voucher.ends_at, Voucher.id))) if visit.operator else []
        return {
            "mine": [_row(db, visit, voucher) for voucher in mine],
            "every": [_row(db, visit, voucher) for voucher in every],
            "teams": [_team(db, team) for team in _teams_of(db, visit)],
            "all_teams": list(db.scalars(select(Team).order_by(Team.name))) if visit.operator else [],
        }

    found = await visit.read(read)
    return visit.page("vouchers.html", status, hour=GPU_HOUR, problem=problem, form=form or {}, me=visit.session.login, **found)


def _row(db: Read, visit: Visit, voucher: Voucher) -> Row:
    [account] = ledger.accounts(db, [voucher])
    name = voucher.holder
    if voucher.holder_kind == "team" and (team := db.get(Team, voucher.holder)):
        name = team.name
    elif voucher.holder_kind == "course":
        name = views.named_course(visit.settings, voucher.holder, visit.language).title
    return Row(account, name, account.left <= ledger.FEW, voucher.starts_at <= now() < voucher.ends_at)


def _teams_of(db: Read, visit: Visit) -> list[Team]:
    mine = select(Member.team_id).where(Member.login == visit.session.login)
    return list(db.scalars(select(Team).where(Team.id.in_(mine)).order_by(Team.name)))


def _team(db: Read, team: Team) -> tuple[Team, list[Member]]:
    return team, list(db.scalars(select(Member).where(Member.team_id == team.id).order_by(Member.invited_at, Member.login)))


@router.post("/vouchers")
async def grant(visit: Visit = Depends(visit)) -> Response:
    """For operators."""
    form = await visit.form()
    _operator(visit)
    text = {
        name: views.plain(form.get(name)) for name in ("number", "kind", "holder", "hours", "starts_on", "ends_on", "reason")
    }
    kinds: dict[str, HolderKind] = {"person": "person", "team": "team", "course": "course"}

    def run(db: Read) -> None:
        try:
            hours, kind = float(text["hours"]), kinds[text["kind"]]
            times = (_day(text["starts_on"], visit.settings), _day(text["ends_on"], visit.settings) + timedelta(days=1))
        except (ValueError, KeyError) as error:
            raise AcademyError("voucher-bad-grant") from error
        holder = text["holder"]
        if kind == "team":
            holder = db.scalar(select(Team.id).where(Team.name == holder)) or holder
        ledger.grant(db, text["number"], kind, holder, hours, *times, visit.session.login, text["reason"], now())
        record(
            db, visit.session.login, "voucher", number=text["number"], hours=hours, holder=text["holder"], reason=text["reason"]
        )

    try:
        await visit.write(run)
    except AcademyError as error:
        return await _page(visit, 422, str(error.message(visit.language)), form)
    return visit.back(f"{PREFIX}/vouchers", done("The voucher is granted."))


def _day(text: str, settings: Settings) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(settings.academy.timezone))


@router.get("/vouchers/{voucher_id}")
async def statement(voucher_id: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    def read(db: Read) -> dict[str, Any]:
        voucher = _seen(db, visit, voucher_id)
        entries = ledger.statement(db, [voucher.id], EVER, now() + timedelta(days=1))
        others = [other for other in db.scalars(select(Voucher)) if other.id != voucher.id] if visit.operator else []
        lines, by_person = _lines(db, entries)
        plot = curve(entries, voucher, now())
        return {"row": _row(db, visit, voucher), "lines": lines, "by_person": by_person, "plot": plot, "others": others}

    return visit.page("voucher.html", hour=GPU_HOUR, plot_size=PLOT, **await visit.read(read))


@router.get("/vouchers/{voucher_id}/statement.csv")
async def export(voucher_id: str, visit: Visit = Depends(visit)) -> Response:
    def read(db: Read) -> str:
        voucher = _seen(db, visit, voucher_id)
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow((*ledger.COLUMNS, "who"))
        entries = ledger.statement(db, [voucher.id], EVER, now() + timedelta(days=1))
        who = _who(db, entries)
        writer.writerows((*ledger.row(entry), who.get(entry.lease_id or "", "")) for entry in entries)
        return text.getvalue()

    name = f'attachment; filename="voucher-{voucher_id}.csv"'
    body = "\ufeff" + await visit.read(read)
    return Response(body, media_type="text/csv; charset=utf-8", headers={**COMMON_HEADERS, "Content-Disposition": name})


def _seen(db: Read, visit: Visit, voucher_id: str) -> Voucher:
    """A voucher that the reader may see: theirs, their team's, their staffed course's; operators see all."""
    voucher = db.get(Voucher, voucher_id)
    theirs = voucher is not None and voucher.id in {one.id for one in ledger.vouchers_of(db, visit.person)}
    if theirs and voucher is not None and voucher.holder_kind == "course":
        theirs = visit.person.staff_of(voucher.holder)
    if voucher is None or not (theirs or visit.operator):
        raise AcademyError("page-missing", status=404)
    return voucher


def _who(db: Read, entries: list[Entry]) -> dict[str, str]:
    leases = {entry.lease_id for entry in entries if entry.lease_id}
    return {lease.id: lease.login for lease in db.scalars(select(Lease).where(Lease.id.in_(leases)))}


def _lines(db: Read, entries: list[Entry]) -> tuple[list[Line], list[tuple[str, float]]]:
    """What the page shows: every decision, and the uses of each server as one line; and who used how much."""
    who = _who(db, entries)
    uses: dict[str, Line] = {}
    lines: list[Line] = []
    people: dict[str, float] = {}
    for entry in entries:
        login, hours = who.get(entry.lease_id or "", ""), entry.amount / GPU_HOUR
        if entry.kind == "use":
            before = uses.get(entry.lease_id or "")
            uses[entry.lease_id or ""] = Line(entry, hours + (before.hours if before else 0), login)
            people[login] = people.get(login, 0) - hours
        elif entry.kind not in ("hold", "release"):
            lines.append(Line(entry, hours, login))
    lines += uses.values()
    return sorted(lines, key=lambda line: line.entry.at, reverse=True), sorted(people.items(), key=lambda x: -x[1])


def curve(entries: list[Entry], voucher: Voucher, at: datetime) -> str:
    """An SVG path: what was left of the voucher, holds not taken off, from its begin to its end or now."""
    width, height = PLOT
    begin, end = voucher.starts_at, max(voucher.starts_at + timedelta(hours=1), min(voucher.ends_at, at))
    left, most, points = 0, 0, []
    for entry in entries:
        if entry.kind in ("hold", "release"):
            continue
        left += entry.amount
        most = max(most, left)
        points.append((min(1.0, max(0.0, (entry.at - begin) / (end - begin))), left))
    if not most:
        return ""
    path, y = f"M0 {height}", float(height)
    for x, value in points:
        after = height - height * value / most
        path += f"L{width * x:.1f} {y:.1f}L{width * x:.1f} {after:.1f}"
        y = after
    return f"{path}L{width} {y:.1f}L{width} {height}Z"


@router.post("/vouchers/{voucher_id}/correct")
async def correct(voucher_id: str, visit: Visit = Depends(visit)) -> Response:
    """Add hours or take free ones away, or move them to another voucher. For operators."""
    form = await visit.form()
    _operator(visit)
    reason, target = views.plain(form.get("reason")), views.plain(form.get("target"))

    def run(db: Read) -> None:
        try:
            hours = float(views.plain(form.get("hours")))
        except ValueError as error:
            raise AcademyError("voucher-bad-grant") from error
        if target:
            if db.get(Voucher, target) is None:
                raise AcademyError("voucher-unknown", 404, number=target)
            ledger.transfer(db, voucher_id, target, hours, visit.session.login, reason, now())
        else:
            ledger.correct(db, _seen(db, visit, voucher_id).id, hours, visit.session.login, reason, now())
        record(db, visit.session.login, "voucher", voucher=voucher_id, hours=hours, target=target, reason=reason)

    try:
        await visit.write(run)
    except AcademyError as error:
        return visit.failed(f"{PREFIX}/vouchers/{voucher_id}", error)
    return visit.back(f"{PREFIX}/vouchers/{voucher_id}", done("The ledger has a new line."))


@router.post("/teams")
async def make_team(visit: Visit = Depends(visit)) -> Response:
    """A founder makes a team and leads it."""
    name = views.plain((await visit.form()).get("name"))
    if visit.person.role not in ("founder", "operator"):
        raise AcademyError("page-missing", status=404)
    login = visit.session.login

    def run(db: Read) -> None:
        ledger.make_team(db, new_id(), name, login, login, now())
        record(db, login, "team", team=name, what="made")

    return await _act(visit, run, done("The team is there."))


@router.post("/teams/{team_id}/invite")
async def invite(team_id: str, visit: Visit = Depends(visit)) -> Response:
    login = views.plain((await visit.form()).get("login"))

    def run(db: Read) -> None:
        _member(db, visit, team_id, leads=True)
        ledger.invite(db, team_id, login, visit.session.login, now())
        record(db, visit.session.login, "team", team=team_id, what="invited", login=login)

    return await _act(visit, run, done("The invitation stands on their page of vouchers."))


@router.post("/teams/{team_id}/join")
async def join(team_id: str, visit: Visit = Depends(visit)) -> Response:
    await visit.form()

    def run(db: Read) -> None:
        member = _member(db, visit, team_id)
        member.joined_at = member.joined_at or now()
        record(db, visit.session.login, "team", team=team_id, what="joined")

    return await _act(visit, run, done("You are in the team."))


@router.get("/teams/{team_id}/remove/{login}")
async def confirm_remove(team_id: str, login: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    def read(db: Read) -> tuple[Team, Person | None]:
        _removable(db, visit, team_id, login)
        return db.get_one(Team, team_id), db.get(Person, login)

    team, person = await visit.read(read)
    return visit.page("remove_member.html", team=team, login=login, name=person.name if person else login)


@router.post("/teams/{team_id}/remove/{login}")
async def remove(team_id: str, login: str, visit: Visit = Depends(visit)) -> Response:
    """Leave a team, turn an invitation down, or remove somebody as its lead. What they used stays in the statement."""
    await visit.form()

    def run(db: Read) -> None:
        db.delete(_removable(db, visit, team_id, login))
        record(db, visit.session.login, "team", team=team_id, what="removed", login=login)

    return await _act(visit, run, done("Removed from the team."))


def _member(db: Read, visit: Visit, team_id: str, leads: bool = False) -> Member:
    member = db.get(Member, (team_id, visit.session.login))
    if member is None or (leads and not (member.leads and member.joined_at)):
        raise AcademyError("page-missing", status=404)
    return member


def _removable(db: Read, visit: Visit, team_id: str, login: str) -> Member:
    if login != visit.session.login:
        _member(db, visit, team_id, leads=True)
    found = db.get(Member, (team_id, login))
    if found is None:
        raise AcademyError("page-missing", status=404)
    leads = db.scalars(select(Member).where(Member.team_id == team_id, Member.leads, Member.joined_at.is_not(None))).all()
    if found.leads and len(leads) == 1:
        raise AcademyError("team-last-lead", 409)
    return found


async def _act(visit: Visit, work: Callable[[Read], None], said: tuple[str, str, dict[str, Any]]) -> Response:
    try:
        await visit.write(work)
    except AcademyError as error:
        if error.status == 404 and error.key == "page-missing":
            raise
        return visit.failed(f"{PREFIX}/vouchers", error)
    return visit.back(f"{PREFIX}/vouchers", said)


def _operator(visit: Visit) -> None:
    if not visit.operator:
        raise AcademyError("page-missing", status=404)
