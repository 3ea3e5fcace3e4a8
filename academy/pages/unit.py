"""The staff's page of a unit: release, collect, grade, give feedback, and watch the grader work."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session as Read

from academy import i18n
from academy.messages import AcademyError
from academy.pages import views
from academy.pages.board import Progress, StaffBoard, staff_board, staff_desk
from academy.pages.render import done
from academy.pages.staff import course_path
from academy.pages.visit import Visit, poll, visit
from grading import operations
from grading.records import Release

router = APIRouter(prefix="/courses/{course}/units/{unit}")

REASON_LENGTH = 500  # characters
BUSY, IDLE = 1000, 15_000  # milliseconds between two looks while jobs run, and while none does


def unit_path(course: str, unit: str) -> str:
    return f"{course_path(course)}/units/{unit}"


@router.get("")
async def unit(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    values = await _live_values(visit, course, unit)
    if any(row.grade and row.grade.needs_manual for row in values["board"].rows):  # somebody may have read answers since
        await visit.write(lambda db: operations.refresh_grades(db, visit.settings, course, unit))
        values = await _live_values(visit, course, unit)
    desk = await visit.read(lambda db: staff_desk(db, course, unit))
    rules = views.rules_of(visit.settings, course)
    return visit.page(
        "unit.html",
        wait=_wait(values["board"]),
        desk=desk,
        late=rules.late,
        on_submit=rules.on_submit(unit),
        leaderboard=bool(rules.leaderboard(unit)),
        text_length=operations.REGRADE_TEXT[1],
        reason_length=REASON_LENGTH,
        **values,
    )


@router.get("/live.json")
async def live(course: str, unit: str, visit: Visit = Depends(poll)) -> Response:
    """What changes on the page while the grader works."""
    visit.require_staff(course)
    values = await _live_values(visit, course, unit)
    return visit.live("unit_live.html", _wait(values["board"]), **values)


async def _live_values(visit: Visit, course: str, unit: str) -> dict[str, Any]:
    """What ``unit_live.html`` shows."""
    name = unit_name(visit, course, unit)
    board = await visit.read(lambda db: staff_board(db, course, unit, visit.language))
    return {
        "course": views.named_course(visit.settings, course, visit.language),
        "unit": name,
        "board": board,
        "progress_text": progress_text(board.grading, visit.language),
        "returning_text": progress_text(board.returning, visit.language),
    }


def _wait(board: StaffBoard) -> int:
    return IDLE if board.grading.finished and board.returning.finished else BUSY


def unit_name(visit: Visit, course: str, unit: str) -> views.Named:
    name = views.named_units(visit.settings, course, visit.language).get(unit)
    if name is None:
        raise AcademyError("page-missing", status=404)
    return name


def progress_text(progress: Progress, language: str) -> str:
    """A sentence for people and for screen readers."""
    text = i18n.mark("%(done)s of %(total)s done, %(running)s running, %(queued)s waiting, %(failed)s failed")
    return i18n.translate(
        language,
        text,
        done=progress.done,
        total=progress.total,
        running=progress.running,
        queued=progress.queued,
        failed=progress.failed,
    )


@router.post("/release")
async def release(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Release a unit, or change a released one's due date."""
    visit.require_staff(course)
    value = str((await visit.form()).get("due_at", ""))
    unit_name(visit, course, unit)
    try:
        due_at = operations.parse_due(value[:40], visit.settings) if value else None
        change = await visit.write(lambda db: _release(db, visit, course, unit, due_at))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("The due date is changed.") if change else done("The unit is released."))


def _release(db: Read, visit: Visit, course: str, unit: str, due_at: datetime | None) -> bool:
    """Returns whether it was released before; then only its due date changes."""
    existing = db.get(Release, (course, unit))
    if existing is None:
        operations.release_unit(db, visit.settings, course, unit, due_at, visit.session.login)
        return False
    operations.change_due(db, visit.settings, existing, due_at, visit.session.login)
    return True


@router.post("/rebuild")
async def release_again(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Release the unit's present files in place of the released ones; the due date stays."""
    visit.require_staff(course)
    await visit.form()

    def run(db: Read) -> None:
        existing = db.get(Release, (course, unit))
        due_at = existing.due_at if existing else None
        operations.release_unit(db, visit.settings, course, unit, due_at, visit.session.login)

    try:
        await visit.write(run)
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("The unit's present version is released."))


@router.get("/withdraw")
async def confirm_withdraw(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    named = views.named_course(visit.settings, course, visit.language)
    return visit.page("withdraw.html", course=named, unit=unit_name(visit, course, unit))


@router.post("/withdraw")
async def withdraw(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    await visit.form()
    try:
        await visit.write(lambda db: operations.withdraw_unit(db, course, unit, visit.session.login))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("The unit is withdrawn. Submissions are kept."))


@router.post("/collect")
async def collect(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    await visit.form()
    try:
        taken = await visit.write(lambda db: operations.collect(db, visit.settings, course, unit, visit.session.login))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Collected: %(count)s submissions.", count=len(taken)))


@router.post("/grade")
async def grade(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Queue the newest submissions for the grader: all, or one student's."""
    visit.require_staff(course)
    logins = logins_of((await visit.form()).get("login"))
    try:
        jobs = await visit.write(lambda db: operations.request_grading(db, course, unit, visit.session.login, logins))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Grading requested: %(count)s submissions.", count=len(jobs)))


@router.post("/feedback")
async def feedback(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Make and release feedback: for all graded submissions, or for one student's."""
    visit.require_staff(course)
    logins = logins_of((await visit.form()).get("login"))
    try:
        jobs = await visit.write(lambda db: operations.request_feedback(db, course, unit, visit.session.login, logins))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Feedback requested: %(count)s submissions.", count=len(jobs)))


def logins_of(value: object) -> list[str] | None:
    return [value] if isinstance(value, str) and value else None
