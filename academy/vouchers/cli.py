"""``academy vouchers`` and ``academy teams``: grant, look, move, correct; what is once in the ledger stays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.database import Database, now
from academy.messages import AcademyError
from academy.people import normal_login
from academy.settings import Settings, load
from academy.vouchers import ledger, statement, teams
from academy.vouchers.records import GPU_HOUR, HolderKind, Team, Voucher

app = typer.Typer(no_args_is_help=True, help="Vouchers: GPU-hours of people, teams and courses.")
teams_app = typer.Typer(no_args_is_help=True, help="Teams that share vouchers.")

KINDS: dict[str, HolderKind] = {"person": "person", "team": "team", "course": "course"}
Number = Annotated[str, typer.Argument(help="The voucher's number.")]
TeamName = Annotated[str, typer.Argument(help="The team's name.")]
Login = Annotated[str, typer.Argument(help="Of somebody on the roster.")]
Reason = Annotated[str, typer.Option(help="Stands in the statement.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@contextmanager
def _database(write: bool = True) -> Iterator[tuple[Settings, Session]]:
    settings = load()
    database = Database(settings.database_url)
    try:
        with database.write() if write else database.read() as session:
            yield settings, session
    finally:
        database.close()


def _me() -> str:
    from academy.cli import actor

    return actor()


def _by_number(session: Session, number: str) -> Voucher:
    found = session.scalar(select(Voucher).where(Voucher.number == number))
    if found is None:
        raise AcademyError("voucher-unknown", 404, number=number)
    return found


def _day(text: str, settings: Settings) -> datetime:
    """The begin of a day in the academy's time zone."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(settings.academy.timezone))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a date such as 2026-12-31") from error


@app.command("list")
def list_() -> None:
    """Every voucher with what is left, held and used, in GPU-hours."""
    table = Table("number", "holder", "from", "until", "granted", "used", "held", "free")
    with _database(write=False) as (settings, session):
        zone = ZoneInfo(settings.academy.timezone)
        for one in ledger.accounts(session, session.scalars(select(Voucher).order_by(Voucher.ends_at))):
            voucher = one.voucher
            last = voucher.ends_at - timedelta(seconds=1)
            days = (f"{moment.astimezone(zone):%Y-%m-%d}" for moment in (voucher.starts_at, last))
            hours = (f"{amount / GPU_HOUR:.2f}" for amount in (one.granted, one.used, one.held, one.free))
            name = session.get_one(Team, voucher.holder).name if voucher.holder_kind == "team" else voucher.holder
            table.add_row(voucher.number, f"{voucher.holder_kind} {name}", *days, *hours)
    Console().print(table)


@app.command()
def grant(
    number: Annotated[str, typer.Argument(help="As the grant's papers have it.")],
    hours: Annotated[float, typer.Argument(help="GPU-hours.")],
    kind: Annotated[str, typer.Option("--to", help="person, team or course.")],
    holder: Annotated[str, typer.Option(help="Login, name of the team, or course.")],
    since: Annotated[str, typer.Option("--from", help="First day, such as 2026-03-02.")],
    until: Annotated[str, typer.Option(help="Last day.")],
    reason: Reason,
) -> None:
    """Grant GPU-hours from a day to a day."""
    if kind not in KINDS:
        raise typer.BadParameter("--to takes person, team or course")
    with _database() as (settings, session):
        if kind == "course" and not (settings.academy.courses / holder / "course.toml").is_file():
            raise AcademyError("voucher-no-holder", 404, holder=holder)
        holder_id = teams.named(session, holder).id if kind == "team" else normal_login(holder) if kind == "person" else holder
        begin, end = _day(since, settings), _day(until, settings) + timedelta(days=1)
        ledger.grant(session, number, KINDS[kind], holder_id, hours, begin, end, _me(), reason, now())
    typer.echo(f"{number}: {hours:g} GPU-hours granted.")


@app.command()
def transfer(
    source: Annotated[str, typer.Argument(help="Number of the voucher that gives.")],
    target: Annotated[str, typer.Argument(help="Number of the voucher that gets.")],
    hours: Annotated[float, typer.Argument(help="GPU-hours.")],
    reason: Reason,
    yes: Yes = False,
) -> None:
    """Move free hours from one voucher to another."""
    if not yes:
        typer.confirm(f"Move {hours:g} GPU-hours from {source} to {target}?", abort=True)
    with _database() as (_, session):
        pair = [_by_number(session, number).id for number in (source, target)]
        ledger.transfer(session, pair[0], pair[1], hours, _me(), reason, now())
    typer.echo(f"{hours:g} GPU-hours moved from {source} to {target}.")


@app.command()
def correct(
    number: Number,
    hours: Annotated[float, typer.Argument(help="To add; after `--`, a negative number takes away.")],
    reason: Reason,
    yes: Yes = False,
) -> None:
    """Add hours to a voucher, or take free ones away."""
    if hours < 0 and not yes:
        typer.confirm(f"Take {-hours:g} GPU-hours from {number}?", abort=True)
    with _database() as (_, session):
        ledger.correct(session, _by_number(session, number).id, hours, _me(), reason, now())
    typer.echo(f"{number}: corrected by {hours:+g} GPU-hours.")


@app.command("statement")
def statement_(
    number: Number,
    since: Annotated[str, typer.Option("--from", help="First day; else from the begin.")] = "",
    until: Annotated[str, typer.Option(help="Last day; else until now.")] = "",
) -> None:
    """Every line of a voucher's ledger as CSV."""
    with _database(write=False) as (settings, session):
        begin = _day(since, settings) if since else None
        end = _day(until, settings) + timedelta(days=1) if until else None
        sys.stdout.write(statement.table(session, [_by_number(session, number)], "", begin, end))


@app.command()
def expire() -> None:
    """Close the account of vouchers that have ended; the keeper of the GPU pool does so every minute."""
    with _database() as (_, session):
        typer.echo(f"Vouchers that had something left: {ledger.expire(session, now())}")


@teams_app.command("list")
def list_teams() -> None:
    """Every team with its members."""
    table = Table("team", "members", "invited")
    with _database(write=False) as (_, session):
        for team in session.scalars(select(Team).order_by(Team.name)):
            members = teams.members(session, team.id)
            names = [f"{member.login}{' (lead)' if member.leads else ''}" for member in members if member.joined_at]
            table.add_row(team.name, ", ".join(names), ", ".join(member.login for member in members if not member.joined_at))
    Console().print(table)


@teams_app.command("add")
def add_team(name: TeamName, lead: Annotated[str, typer.Option(help="Login of the one who invites the others.")]) -> None:
    """Make a team; its lead invites the members on the page of vouchers."""
    with _database() as (_, session):
        team = teams.make(session, name, normal_login(lead), _me(), now())
    typer.echo(f"{team.name}: made.")


@teams_app.command()
def invite(name: TeamName, login: Login) -> None:
    """Invite somebody; they are in the team once they accept on the page of vouchers."""
    with _database() as (_, session):
        teams.invite(session, teams.named(session, name).id, normal_login(login), _me(), now())
    typer.echo(f"{login}: invited.")


@teams_app.command()
def lead(name: TeamName, login: Login) -> None:
    """Let a member invite and remove others."""
    with _database() as (_, session):
        teams.lead(session, teams.named(session, name).id, normal_login(login), _me())
    typer.echo(f"{login}: leads {name}.")


@teams_app.command()
def remove(name: TeamName, login: Login, yes: Yes = False) -> None:
    """Take somebody out of a team, or an invitation back."""
    if not yes:
        typer.confirm(f"Take {login} out of {name}?", abort=True)
    with _database() as (_, session):
        teams.remove(session, teams.named(session, name).id, normal_login(login), _me())
    typer.echo(f"{login}: removed.")
