"""Teams: a lead invites, whoever accepts is in, and from then on the team's vouchers pay for their servers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from academy.database import new_id
from academy.messages import AcademyError
from academy.people import Person
from academy.vouchers.records import Member, Team
from grading.records import record


def make(session: Session, name: str, lead: str, by: str, now: datetime) -> Team:
    """
    Raises:
        AcademyError: the name is empty or taken, or the lead is not on the roster.
    """
    name = " ".join(name.split())
    if not name or len(name) > 100 or session.scalar(select(Team.id).where(Team.name == name)):
        raise AcademyError("team-name-taken", 409, name=name)
    _on_roster(session, lead)
    team = Team(id=new_id(now), name=name, made_by=by, made_at=now)
    session.add(team)
    session.flush()
    session.add(Member(team_id=team.id, login=lead, leads=True, invited_by=by, invited_at=now, joined_at=now))
    session.flush()
    _record(session, team.id, "made", lead, by)
    return team


def named(session: Session, name: str) -> Team:
    """
    Raises:
        AcademyError: no team is called so.
    """
    team = session.scalar(select(Team).where(Team.name == name))
    if team is None:
        raise AcademyError("voucher-no-holder", 404, holder=name)
    return team


def members(session: Session, team_id: str) -> list[Member]:
    """Those in it and those invited, in the order of their invitations."""
    return list(session.scalars(select(Member).where(Member.team_id == team_id).order_by(Member.invited_at, Member.login)))


def invite(session: Session, team_id: str, login: str, by: str, now: datetime) -> None:
    """Ask somebody into the team; they are in it once they accept.

    Raises:
        AcademyError: they are not on the roster.
    """
    _on_roster(session, login)
    if session.get(Member, (team_id, login)) is None:
        session.add(Member(team_id=team_id, login=login, invited_by=by, invited_at=now))
        session.flush()
        _record(session, team_id, "invited", login, by)


def join(session: Session, team_id: str, login: str, now: datetime) -> None:
    """Accept an invitation."""
    member = session.get_one(Member, (team_id, login))
    if member.joined_at is None:
        member.joined_at = now
        session.flush()
        _record(session, team_id, "joined", login, login)


def remove(session: Session, team_id: str, login: str, by: str) -> None:
    """Leave the team, turn an invitation down, or take somebody out; what they used stays in the statements.

    Raises:
        AcademyError: the team would have no lead, or they are not in it.
    """
    session.get_one(Team, team_id, with_for_update=True)  # two leads cannot leave at once
    member = session.get(Member, (team_id, login), populate_existing=True)
    if member is None:
        raise AcademyError("team-not-in", 404, login=login)
    if member.leads and not any(one.leads and one.joined_at for one in members(session, team_id) if one is not member):
        raise AcademyError("team-last-lead", 409)
    session.delete(member)
    session.flush()
    _record(session, team_id, "removed", login, by)


def lead(session: Session, team_id: str, login: str, by: str) -> None:
    """Make a member a lead, too.

    Raises:
        AcademyError: they are not in the team.
    """
    member = session.get(Member, (team_id, login))
    if member is None or member.joined_at is None:
        raise AcademyError("team-not-in", 404, login=login)
    member.leads = True
    session.flush()
    _record(session, team_id, "lead", login, by)


def _on_roster(session: Session, login: str) -> None:
    if session.get(Person, login) is None:
        raise AcademyError("voucher-no-holder", 404, holder=login)


def _record(session: Session, team_id: str, what: str, login: str, by: str) -> None:
    record(session, by, "team", login=login, team=team_id, what=what)
