"""What staff decide about a unit's grading: cancel, grade again, extend, answer; and the similarity report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session as Read
from starlette.concurrency import run_in_threadpool

from academy.messages import AcademyError
from academy.pages import views
from academy.pages.board import progress
from academy.pages.render import done
from academy.pages.unit import REASON_LENGTH, logins_of, unit_name, unit_path
from academy.pages.visit import Visit, visit
from grading import operations
from grading.records import Regrade
from grading.similarity import similarity

router = APIRouter(prefix="/courses/{course}/units/{unit}")

Flash = tuple[str, str, dict[str, Any]]


async def _act(visit: Visit, course: str, unit: str, work: Callable[[Read], Flash]) -> Response:
    """Do something in one transaction and go back to the unit's page, which says how it went."""
    try:
        said = await visit.write(work)
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), said)


@router.get("/cancel")
async def confirm_cancel(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    state = await visit.read(lambda db: progress(db, course, unit, "grade", visit.language))
    return visit.page(
        "cancel.html",
        course=views.named_course(visit.settings, course, visit.language),
        unit=unit_name(visit, course, unit),
        count=state.queued + state.running,
    )


@router.post("/cancel")
async def cancel(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Take all submissions that wait or are being graded out of the queue, or one student's."""
    visit.require_staff(course)
    logins = logins_of((await visit.form()).get("login"))

    def work(db: Read) -> Flash:
        count = len(operations.cancel_jobs(db, course, unit, visit.session.login, logins))
        return done("Cancelled: %(count)s.", count=count)

    return await _act(visit, course, unit, work)


@router.post("/again")
async def again(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Grade submissions again that were graded before: one student's, or all that failed."""
    visit.require_staff(course)
    form = await visit.form()
    logins = logins_of(form.get("login"))

    def work(db: Read) -> Flash:
        chosen = logins
        if form.get("failed"):
            chosen = [login for _, logins in progress(db, course, unit, "grade", visit.language).failures for login in logins]
        jobs = operations.grade_again(db, course, unit, visit.session.login, chosen)
        return done("Grading requested: %(count)s submissions.", count=len(jobs))

    return await _act(visit, course, unit, work)


@router.post("/extend")
async def extend(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Give one student more time."""
    visit.require_staff(course)
    form = await visit.form()
    login, until = str(form.get("login", "")), str(form.get("due_at", ""))[:40]
    reason = views.plain(form.get("reason"))[:REASON_LENGTH]

    def work(db: Read) -> Flash:
        due_at = operations.parse_due(until, visit.settings)
        operations.grant_extension(db, visit.settings, course, unit, login, due_at, reason, visit.session.login)
        return done("%(login)s has more time now.", login=login)

    return await _act(visit, course, unit, work)


@router.post("/revoke")
async def revoke(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    login = str((await visit.form()).get("login", ""))

    def work(db: Read) -> Flash:
        operations.revoke_extension(db, visit.settings, course, unit, login, visit.session.login)
        return done("The extension of %(login)s is revoked.", login=login)

    return await _act(visit, course, unit, work)


@router.post("/regrades/{regrade_id}")
async def answer(course: str, unit: str, regrade_id: str, visit: Visit = Depends(visit)) -> Response:
    """Accept or decline a regrade request, with a text for the student."""
    visit.require_staff(course)
    form = await visit.form()
    text, accept = views.plain(form.get("answer"))[: operations.REGRADE_TEXT[1]], form.get("accept") == "1"

    def work(db: Read) -> Flash:
        asked = db.get(Regrade, regrade_id)
        if asked is None or (asked.course, asked.unit) != (course, unit):
            raise AcademyError("page-missing", status=404)
        once_more = accept and form.get("again") == "1"
        operations.answer_regrade(db, asked.id, accept, text, visit.session.login, again=once_more)
        return done("The request of %(login)s is answered.", login=asked.login)

    return await _act(visit, course, unit, work)


@router.get("/similarity")
async def similar(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    """Which submissions have code in common; for staff's eyes only."""
    visit.require_staff(course)
    name = unit_name(visit, course, unit)
    pairs = await run_in_threadpool(similarity, visit.settings, visit.pages.database, course, unit)
    return visit.page(
        "similarity.html",
        course=views.named_course(visit.settings, course, visit.language),
        unit=name,
        pairs=pairs,
        names=await visit.read(lambda db: views.names_of(db, course)),
    )
