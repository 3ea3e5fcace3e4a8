"""``academy vouchers``: grant, look, move, correct. What is once in the ledger stays."""

from __future__ import annotations

import csv
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table
from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.database import Database, new_id, now
from academy.messages import AcademyError
from academy.settings import Settings, load
from academy.vouchers import ledger
from academy.vouchers.records import GPU_HOUR, HolderKind, Member, Team, Voucher

app = typer.Typer(no_args_is_help=True, help="Vouchers: GPU-hours of people, teams and courses.")
teams_app = typer.Typer(no_args_is_help=True, help="Teams that share vouchers.")

Reason = Annotated[str, typer.Option(help="Stands in the statement.")]


@contextmanager
def _transaction() -> Iterator[tuple[Settings, Session]]:
    settings = load()
    database = Database(settings.database_url)
    try:
        with database.write() as session:
            yield settings, session
    finally:
        database.close()


def _by_number(session: Session, number: str) -> Voucher:
    found = session.scalar(select(Voucher).where(Voucher.number == number))
    if found is None:
        raise AcademyError("voucher-unknown", 404, number=number)
    return found


def _day(text: str, settings: Settings, end: bool = False) -> datetime:
    """A date as the begin of that day in the academy's time zone, or its end."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=ZoneInfo(settings.academy.timezone))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a date such as 2026-12-31") from error
    return day + timedelta(days=1) if end else day


@app.command("list")
def list_() -> None:
    """Every voucher with what is left, held and used, in GPU-hours."""
    table = Table("number", "holder", "from", "until", "granted", "used", "held", "free")
    with _transaction() as (settings, session):
        zone = ZoneInfo(settings.academy.timezone)
        for one in ledger.accounts(session, session.scalars(select(Voucher).order_by(Voucher.ends_at))):
            voucher = one.voucher
            dates = [
                f"{moment.astimezone(zone):%Y-%m-%d}" for moment in (voucher.starts_at, voucher.ends_at - timedelta(seconds=1))
            ]
            hours = [f"{amount / GPU_HOUR:.2f}" for amount in (one.granted, one.used, one.held, one.free)]
            table.add_row(voucher.number, f"{voucher.holder_kind} {_name(session, voucher)}", *dates, *hours)
    Console().print(table)


def _name(session: Session, voucher: Voucher) -> str:
    team = session.get(Team, voucher.holder) if voucher.holder_kind == "team" else None
    return team.name if team else voucher.holder


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
    kinds: dict[str, HolderKind] = {"person": "person", "team": "team", "course": "course"}
    if kind not in kinds:
        raise typer.BadParameter("--to takes person, team or course")
    with _transaction() as (settings, session):
        if kind == "team":
            holder = session.scalar(select(Team.id).where(Team.name == holder)) or holder
        times = (_day(since, settings), _day(until, settings, end=True))
        ledger.grant(session, number, kinds[kind], holder, hours, *times, getpass.getuser(), reason, now())
    typer.echo(f"{number}: {hours:g} GPU-hours granted.")


@app.command()
def transfer(
    source: Annotated[str, typer.Argument(help="Number of the voucher that gives.")],
    target: Annotated[str, typer.Argument(help="Number of the voucher that gets.")],
    hours: float,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Move free hours from one voucher to another."""
    if not yes:
        typer.confirm(f"Move {hours:g} GPU-hours from {source} to {target}?", abort=True)
    with _transaction() as (_, session):
        pair = [_by_number(session, number).id for number in (source, target)]
        ledger.transfer(session, pair[0], pair[1], hours, getpass.getuser(), reason, now())


@app.command()
def correct(
    number: str,
    hours: Annotated[float, typer.Argument(help="To add; after `--`, a negative number takes away.")],
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Add hours to a voucher, or take free ones away."""
    if hours < 0 and not yes:
        typer.confirm(f"Take {-hours:g} GPU-hours from {number}?", abort=True)
    with _transaction() as (_, session):
        ledger.correct(session, _by_number(session, number).id, hours, getpass.getuser(), reason, now())


@app.command()
def statement(number: str) -> None:
    """Every line of a voucher's ledger as CSV."""
    with _transaction() as (_, session):
        entries = ledger.statement(session, [_by_number(session, number).id], datetime(2000, 1, 1, tzinfo=UTC), now())
        writer = csv.writer(sys.stdout)
        writer.writerow(ledger.COLUMNS)
        writer.writerows(ledger.row(entry) for entry in entries)


@teams_app.command("list")
def list_teams() -> None:
    """Every team with its members."""
    table = Table("team", "members", "invited")
    with _transaction() as (_, session):
        for team in session.scalars(select(Team).order_by(Team.name)):
            members = list(session.scalars(select(Member).where(Member.team_id == team.id).order_by(Member.login)))
            names = [f"{m.login}{' (lead)' if m.leads else ''}" for m in members if m.joined_at]
            table.add_row(team.name, ", ".join(names), ", ".join(m.login for m in members if not m.joined_at))
    Console().print(table)


@teams_app.command("add")
def add_team(name: str, lead: Annotated[str, typer.Option(help="Login of the one who invites the others.")]) -> None:
    """Make a team; its lead invites the members on the team's page."""
    with _transaction() as (_, session):
        ledger.make_team(session, new_id(), name, lead, getpass.getuser(), now())
    typer.echo(f"{name}: made.")
