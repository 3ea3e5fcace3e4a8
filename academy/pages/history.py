"""The history of a course in words: who did what, and when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session as Read

from academy import i18n
from academy.i18n import mark
from academy.pages import views
from academy.pages.visit import Visit, visit
from grading.records import History

router = APIRouter(prefix="/courses/{course}/history")

LINES = 200  # rows of the history on a page
AT_ONCE = timedelta(seconds=2)

DECISIONS = {
    "release": mark("released the unit"),
    "due": mark("changed the due date"),
    "withdraw": mark("withdrew the unit"),
    "extend": mark("gave a student more time"),
    "revoke-extension": mark("took an extension back"),
    "cancel": mark("cancelled the grading"),
    "ask-regrade": mark("asked for a regrade"),
    "answer-regrade": mark("answered a regrade request"),
    "roster": mark("imported a roster"),
    "team": mark("changed a team"),
    "voucher": mark("changed a voucher"),
    "person-added": mark("added a person"),
    "person-removed": mark("removed a person"),
}
ANSWERS = {"accepted": mark("accepted a regrade request"), "declined": mark("declined a regrade request")}
ROUTINE = {
    "fetch": mark("fetched the unit"),
    "submit": mark("submitted"),
    "collect": mark("collected the submission"),
    "request-grade": mark("asked for grading"),
    "request-feedback": mark("asked for feedback"),
    "grade": mark("had it graded"),
    "feedback": mark("released feedback"),
    "join-leaderboard": mark("joined the leaderboards"),
    "leave-leaderboard": mark("left the leaderboards"),
    "execute": mark("ran a notebook in the sandbox"),
}


@dataclass(frozen=True)
class Line:
    """One line of the history as a person reads it."""

    at: datetime
    actor: str
    words: str
    said: str  # dates, scores, reasons
    unit: str
    logins: list[str]


@router.get("")
async def history(course: str, what: str = "", before: int = 0, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    what = "all" if what == "all" else ""
    rows = await visit.read(lambda db: _rows(db, course, what, before))
    units = views.named_units(visit.settings, course, visit.language)
    return visit.page(
        "history.html",
        course=views.named_course(visit.settings, course, visit.language),
        what=what,
        lines=_lines(visit, rows[:LINES], units),
        older=rows[LINES - 1].id if len(rows) > LINES else 0,
    )


def _rows(db: Read, course: str, what: str, before: int) -> list[History]:
    query = select(History).where(History.course == course).order_by(History.id.desc()).limit(LINES + 1)
    if not what:
        query = query.where(History.action.in_(DECISIONS))
    if before > 0:
        query = query.where(History.id < before)
    return list(db.scalars(query))


def _lines(visit: Visit, rows: list[History], units: dict[str, views.Named]) -> list[Line]:
    """The newest first; what one person did for many students at once is one line."""
    lines: list[Line] = []
    for line in (_line(visit, row, units) for row in rows):
        last = lines[-1] if lines else None
        if last and replace(line, at=last.at, logins=last.logins) == last and line.logins and last.at - line.at < AT_ONCE:
            last.logins.extend(line.logins)
        else:
            lines.append(line)
    return lines


def _line(visit: Visit, row: History, units: dict[str, views.Named]) -> Line:
    words = ANSWERS.get(str((row.detail or {}).get("state"))) or {**DECISIONS, **ROUTINE}.get(row.action)
    unit = units.get(row.unit, views.Named(row.unit, row.unit))
    return Line(
        row.at,
        row.actor,
        i18n.translate(visit.language, words) if words else row.action,
        _said(visit, row.detail or {}),
        f"{unit.number} {unit.title}".strip(),
        [row.login] if row.login and row.login != row.actor else [],
    )


def _said(visit: Visit, detail: dict[str, Any]) -> str:
    """The parts of a line's detail that a person wants to read."""
    parts = []
    if detail.get("due_at"):
        moment = datetime.fromisoformat(detail["due_at"])
        parts.append(i18n.show_time(moment, visit.language, visit.settings.academy.timezone))
    if detail.get("max_score") is not None:
        parts.append(f"{detail.get('score', 0):g} / {detail['max_score']:g}")
    parts += [str(detail[key]) for key in ("reason", "text", "answer", "nickname") if detail.get(key)]
    return " · ".join(parts)
