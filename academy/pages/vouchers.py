"""Vouchers and teams: what is left, who used what, who belongs to a team; granting for operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import or_, select
from sqlalchemy.orm import Session as Read
from starlette.datastructures import FormData

from academy.database import now
from academy.gpus.records import Lease
from academy.messages import AcademyError
from academy.pages import views
from academy.pages.hubapi import PREFIX
from academy.pages.render import COMMON_HEADERS, done
from academy.pages.visit import Visit, visit
from academy.people import Person, normal_login
from academy.settings import Settings
from academy.vouchers import ledger, teams
from academy.vouchers import statement as statements
from academy.vouchers.records import GPU_HOUR, Entry, HolderKind, Member, Team, Voucher

router = APIRouter()

PLOT = (560, 90)  # pixels
LINES = 200  # of a statement on a page; the CSV has every one
KINDS: dict[str, HolderKind] = {"person": "person", "team": "team", "course": "course"}


@dataclass(frozen=True)
class Row:
    """A voucher with the name of its holder."""

    account: ledger.Account
    holder: str
    is_open: bool


@dataclass(frozen=True)
class Scope:
    """What a statement is about; ``only``: this person's uses alone."""

    name: str
    vouchers: list[Voucher]
    only: str = ""


@router.get("/vouchers")
async def vouchers(visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, problem: str = "", form: FormData | None = None) -> HTMLResponse:
    def read(db: Read) -> dict[str, Any]:
        every = list(db.scalars(select(Voucher).order_by(Voucher.ends_at, Voucher.id))) if visit.operator else []
        return {
            "mine": _rows(db, visit, ledger.vouchers_of(db, visit.person)),
            "every": _rows(db, visit, every),
            "teams": [(team, teams.members(db, team.id)) for team in _teams_of(db, visit)],
            "all_teams": list(db.scalars(select(Team.name).order_by(Team.name))) if visit.operator else [],
        }

    found = await visit.read(read)
    return visit.page("vouchers.html", status, hour=GPU_HOUR, problem=problem, form=form or {}, me=visit.session.login, **found)


def _rows(db: Read, visit: Visit, found: list[Voucher]) -> list[Row]:
    at = now()
    return [
        Row(account, _holder(db, visit, account.voucher), account.voucher.starts_at <= at < account.voucher.ends_at)
        for account in ledger.accounts(db, found)
    ]


def _holder(db: Read, visit: Visit, voucher: Voucher) -> str:
    if voucher.holder_kind == "team":
        return db.get_one(Team, voucher.holder).name
    if voucher.holder_kind == "course":
        return views.named_course(visit.settings, voucher.holder, visit.language).title
    return voucher.holder


def _teams_of(db: Read, visit: Visit) -> list[Team]:
    mine = select(Member.team_id).where(Member.login == visit.session.login)
    return list(db.scalars(select(Team).where(Team.id.in_(mine)).order_by(Team.name)))


@router.post("/vouchers")
async def grant(visit: Visit = Depends(visit)) -> Response:
    """For operators."""
    form = await visit.form()
    _operator(visit)
    number, kind, holder, reason = (views.plain(form.get(name)) for name in ("number", "kind", "holder", "reason"))

    def run(db: Read) -> None:
        hours = _hours(form, "voucher-bad-grant")
        try:
            begin, last = (_day(views.plain(form.get(name)), visit.settings) for name in ("starts_on", "ends_on"))
            holder_id = teams.named(db, holder).id if KINDS[kind] == "team" else holder
        except (ValueError, KeyError) as error:
            raise AcademyError("voucher-bad-grant") from error
        if kind == "course" and not (visit.settings.academy.courses / holder / "course.toml").is_file():
            raise AcademyError("voucher-no-holder", 404, holder=holder)
        if kind == "person":
            holder_id = normal_login(holder)
        end = last + timedelta(days=1)
        ledger.grant(db, number, KINDS[kind], holder_id, hours, begin, end, visit.session.login, reason, now())

    try:
        await visit.write(run)
    except AcademyError as error:
        return await _page(visit, 422, str(error.message(visit.language)), form)
    return visit.back(f"{PREFIX}/vouchers", done("The voucher is granted."))


def _hours(form: FormData, key: str) -> float:
    try:
        return float(views.plain(form.get("hours")))
    except ValueError as error:
        raise AcademyError(key) from error


def _day(text: str, settings: Settings) -> datetime:
    """The begin of a day.

    Raises:
        ValueError: the text is no date.
    """
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(settings.academy.timezone))


@router.get("/vouchers/{of}")
async def statement(of: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    """Of a voucher or a team by its id, of the reader (``me``), or of every voucher (``every``, for operators)."""

    def read(db: Read) -> dict[str, Any]:
        scope = _scope(db, visit, of)
        one = scope.vouchers[0] if len(scope.vouchers) == 1 and scope.vouchers[0].id == of else None
        lines = statements.lines(db, scope.vouchers, scope.only)
        accounts = [] if scope.only else ledger.accounts(db, scope.vouchers)
        open_ones = select(Voucher).where(Voucher.ends_at > now(), Voucher.id != of).order_by(Voucher.number)
        return {
            "scope": scope,
            "row": _rows(db, visit, [one])[0] if one else None,
            "accounts": accounts,
            "used": -sum(line.amount for line in lines if line.kind == "use"),
            "lines": lines[:LINES],
            "more": len(lines) > LINES,
            "people": [] if scope.only else statements.people(lines),
            "plot": statements.plot(lines, now(), *PLOT),
            "others": list(db.scalars(open_ones)) if one and visit.operator else [],
        }

    return visit.page("statement.html", hour=GPU_HOUR, plot_size=PLOT, of=of, **await visit.read(read))


@router.get("/vouchers/{of}/statement.csv")
async def export(of: str, since: str = "", until: str = "", visit: Visit = Depends(visit)) -> Response:
    """Every line of the ledger, or those of some days."""

    def read(db: Read) -> str:
        scope = _scope(db, visit, of)
        try:
            begin = _day(since, visit.settings) if since else None
            end = _day(until, visit.settings) + timedelta(days=1) if until else None
        except ValueError as error:
            raise AcademyError("voucher-bad-day") from error
        return statements.table(db, scope.vouchers, scope.only, begin, end)

    name = f'attachment; filename="voucher-{of}.csv"'
    body = "\ufeff" + await visit.read(read)
    return Response(body, media_type="text/csv; charset=utf-8", headers={**COMMON_HEADERS, "Content-Disposition": name})


def _scope(db: Read, visit: Visit, of: str) -> Scope:
    """What the reader may see of it: members all of their team's, staff of their course's, students there what they used.

    Raises:
        AcademyError: nothing; the answer is that of something that does not exist.
    """
    login = visit.session.login
    if of == "me":
        used = select(Entry.voucher_id).join(Lease, Lease.id == Entry.lease_id).where(Lease.login == login)
        own = (Voucher.holder_kind == "person") & (Voucher.holder == login)
        return Scope("", list(db.scalars(select(Voucher).where(or_(own, Voucher.id.in_(used))))), login)
    if of == "every" and visit.operator:
        return Scope("", list(db.scalars(select(Voucher))))
    if team := db.get(Team, of):
        member = db.get(Member, (of, login))
        if visit.operator or (member and member.joined_at):
            return Scope(team.name, list(db.scalars(select(Voucher).where(Voucher.holder == of))))
    voucher = db.get(Voucher, of)
    if voucher and (visit.operator or of in {one.id for one in ledger.vouchers_of(db, visit.person)}):
        all_of_it = visit.operator or voucher.holder_kind != "course" or visit.person.staff_of(voucher.holder)
        return Scope(voucher.number, [voucher], "" if all_of_it else login)
    raise AcademyError("page-missing", status=404)


@router.post("/vouchers/{voucher_id}/correct")
async def correct(voucher_id: str, visit: Visit = Depends(visit)) -> Response:
    """Add hours or take free ones away, or move them to another voucher. For operators."""
    form = await visit.form()
    _operator(visit)
    reason, target = views.plain(form.get("reason")), views.plain(form.get("target"))

    def run(db: Read) -> None:
        hours = _hours(form, "voucher-bad-change")
        for one in filter(None, (voucher_id, target)):
            if db.get(Voucher, one) is None:
                raise AcademyError("page-missing", status=404)
        if target:
            ledger.transfer(db, voucher_id, target, hours, visit.session.login, reason, now())
        else:
            ledger.correct(db, voucher_id, hours, visit.session.login, reason, now())

    return await _act(visit, run, done("The ledger has a new line."), f"/vouchers/{voucher_id}")


@router.post("/teams")
async def make_team(visit: Visit = Depends(visit)) -> Response:
    """A founder makes a team and leads it."""
    name, login = views.plain((await visit.form()).get("name")), visit.session.login
    if visit.person.role not in ("founder", "operator"):
        raise AcademyError("page-missing", status=404)
    return await _act(visit, lambda db: teams.make(db, name, login, login, now()), done("The team is there."))


@router.post("/teams/{team_id}/invite")
async def invite(team_id: str, visit: Visit = Depends(visit)) -> Response:
    login = normal_login(views.plain((await visit.form()).get("login")))

    def run(db: Read) -> None:
        _member(db, visit, team_id, leads=True)
        teams.invite(db, team_id, login, visit.session.login, now())

    return await _act(visit, run, done("The invitation stands on their page of vouchers."))


@router.post("/teams/{team_id}/join")
async def join(team_id: str, visit: Visit = Depends(visit)) -> Response:
    await visit.form()

    def run(db: Read) -> None:
        _member(db, visit, team_id)
        teams.join(db, team_id, visit.session.login, now())

    return await _act(visit, run, done("You are in the team."))


@router.get("/teams/{team_id}/remove/{login}")
async def confirm_remove(team_id: str, login: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    def read(db: Read) -> tuple[Team, Person | None]:
        _may_remove(db, visit, team_id, login)
        return db.get_one(Team, team_id), db.get(Person, login)

    team, person = await visit.read(read)
    name = person.name if person and person.name else login
    return visit.page("remove_member.html", team=team, login=login, name=name, me=visit.session.login)


@router.post("/teams/{team_id}/remove/{login}")
async def remove(team_id: str, login: str, visit: Visit = Depends(visit)) -> Response:
    """Leave a team, turn an invitation down, or remove somebody as its lead."""
    await visit.form()

    def run(db: Read) -> None:
        _may_remove(db, visit, team_id, login)
        teams.remove(db, team_id, login, visit.session.login)

    return await _act(visit, run, done("Removed from the team."))


def _member(db: Read, visit: Visit, team_id: str, login: str = "", leads: bool = False) -> Member:
    """The reader's place in a team, or somebody's.

    Raises:
        AcademyError: there is none, or it does not lead; the answer is that of a team that does not exist.
    """
    member = db.get(Member, (team_id, login or visit.session.login))
    if member is None or (leads and not (member.leads and member.joined_at)):
        raise AcademyError("page-missing", status=404)
    return member


def _may_remove(db: Read, visit: Visit, team_id: str, login: str) -> None:
    if login != visit.session.login:
        _member(db, visit, team_id, leads=True)
    _member(db, visit, team_id, login)


async def _act(
    visit: Visit, work: Callable[[Read], object], said: tuple[str, str, dict[str, Any]], path: str = "/vouchers"
) -> Response:
    try:
        await visit.write(work)
    except AcademyError as error:
        if error.key == "page-missing":
            raise
        return visit.failed(PREFIX + path, error)
    return visit.back(PREFIX + path, said)


def _operator(visit: Visit) -> None:
    if not visit.operator:
        raise AcademyError("page-missing", status=404)
