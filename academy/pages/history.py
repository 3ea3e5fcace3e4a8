"""The history of a course in words: who did what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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

LINES = 100  # on a page

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
    login: str


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
        lines=[_line(visit, row, units) for row in rows[:LINES]],
        older=rows[LINES - 1].id if len(rows) > LINES else 0,
    )


def _rows(db: Read, course: str, what: str, before: int) -> list[History]:
    query = select(History).where(History.course == course).order_by(History.id.desc()).limit(LINES + 1)
    if not what:
        query = query.where(History.action.in_(DECISIONS))
    if before > 0:
        query = query.where(History.id < before)
    return list(db.scalars(query))


def _line(visit: Visit, row: History, units: dict[str, views.Named]) -> Line:
    words = ANSWERS.get(str((row.detail or {}).get("state"))) or {**DECISIONS, **ROUTINE}.get(row.action)
    unit = units.get(row.unit, views.Named(row.unit, row.unit))
    return Line(
        row.at,
        row.actor,
        i18n.translate(visit.language, words) if words else row.action,
        _said(visit, row.detail or {}),
        f"{unit.number} {unit.title}".strip(),
        row.login,
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
