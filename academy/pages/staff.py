"""The staff's pages of a course: roster, units, releases, submissions, grading, feedback, grades."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy.orm import Session as Read
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from academy import i18n
from academy.database import now
from academy.messages import AcademyError, message
from academy.pages import views
from academy.pages.hubapi import PREFIX, pending_path, user_path
from academy.pages.render import COMMON_HEADERS, done, local_day
from academy.pages.visit import Visit, fresh_visit, poll, visit
from academy.people import RosterError, import_roster, members, parse_roster
from academy.profiles import GRADING, profiles_for
from grading import operations
from grading.records import Release, record

router = APIRouter(prefix="/courses/{course}")


def course_path(course: str) -> str:
    return f"{PREFIX}/courses/{course}"


def unit_path(course: str, unit: str) -> str:
    return f"{course_path(course)}/units/{unit}"


@router.get("")
async def units(course: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    rows = await visit.read(lambda db: views.staff_units(db, visit.settings, course, visit.language))
    people = await visit.read(lambda db: len(members(db, course)))
    return visit.page(
        "course.html",
        course=views.named_course(visit.settings, course, visit.language),
        units=rows,
        people=people,
        may_import=visit.may_import(course),
    )


@router.get("/people")
async def people(course: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _people_page(visit, course)


async def _people_page(visit: Visit, course: str, status: int = 200, error: RosterError | None = None) -> HTMLResponse:
    if not visit.operator:
        visit.require_staff(course)
    problems = [(line, message(key, visit.language, value=value)) for line, key, value in error.problems] if error else []
    return visit.page(
        "people.html",
        status,
        course=views.named_course(visit.settings, course, visit.language),
        people=await visit.read(lambda db: members(db, course)),
        problems=problems,
        may_import=visit.may_import(course),
        staff=visit.person.staff_of(course),
    )


@router.post("/people")
async def import_people(course: str, visit: Visit = Depends(visit)) -> Response:
    """Import a roster, or report every bad line and import nothing."""
    form = await visit.form()
    if not visit.may_import(course):
        raise AcademyError("roster-not-allowed", status=403)
    try:
        added, changed = await import_csv(visit, form.get("roster"), course)
    except RosterError as error:
        return await _people_page(visit, course, 422, error)
    return visit.back(
        f"{course_path(course)}/people",
        done("Roster imported: %(added)s added, %(changed)s changed.", added=added, changed=changed),
    )


async def import_csv(visit: Visit, upload: UploadFile | str | None, course: str | None) -> tuple[int, int]:
    """Import an uploaded roster in one transaction.

    Raises:
        RosterError: it has bad lines, or is no UTF-8 text; or an instructor names a role that only operators give.
    """
    try:
        text = (await upload.read()).decode("utf-8-sig") if isinstance(upload, UploadFile) else ""
    except UnicodeDecodeError as error:
        raise RosterError([(1, "roster-not-utf8", "")]) from error
    rows = parse_roster(text, course)
    if not visit.operator:
        denied = [(row.line, "roster-role-operator-only", row.role) for row in rows if row.role in ("founder", "operator")]
        if denied:
            raise RosterError(denied)

    def run(db: Read) -> tuple[int, int]:
        added, changed = import_roster(db, rows, course)
        record(db, visit.session.login, "roster", course or "", added=added, changed=changed)
        return added, changed

    return await visit.write(run)


@router.get("/units/{unit}")
async def unit(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    name = _unit_name(visit, course, unit)

    def gather(db: Read) -> tuple[Release | None, list[operations.UnitRow], views.Progress, views.Progress]:
        return (
            db.get(Release, (course, unit)),
            operations.unit_overview(db, course, unit),
            views.progress(db, course, unit, "grade"),
            views.progress(db, course, unit, "feedback"),
        )

    release, rows, grading, returning = await visit.read(gather)
    if any(row.grade and row.grade.needs_manual for row in rows):  # somebody may have read answers in formgrader since
        await visit.write(lambda db: operations.refresh_grades(db, visit.settings, course, unit))
        rows = await visit.read(lambda db: operations.unit_overview(db, course, unit))
    return visit.page(
        "unit.html",
        course=views.named_course(visit.settings, course, visit.language),
        unit=name,
        release=release,
        rows=rows,
        grading=grading,
        returning=returning,
        progress_text=progress_text(grading, visit.language),
        returning_text=progress_text(returning, visit.language),
    )


def _unit_name(visit: Visit, course: str, unit: str) -> views.Named:
    name = views.named_units(visit.settings, course, visit.language).get(unit)
    if name is None:
        raise AcademyError("page-missing", status=404)
    return name


def progress_text(progress: views.Progress, language: str) -> str:
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


@router.get("/units/{unit}/progress.json")
async def unit_progress(course: str, unit: str, kind: str = "grade", visit: Visit = Depends(poll)) -> Response:
    visit.require_staff(course)
    progress = await visit.read(lambda db: views.progress(db, course, unit, "feedback" if kind == "feedback" else "grade"))
    body = {
        "value": progress.done + progress.failed,
        "max": progress.total,
        "finished": progress.finished,
        "text": progress_text(progress, visit.language),
    }
    return JSONResponse(body, headers=COMMON_HEADERS)


@router.post("/units/{unit}/release")
async def release(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Release a unit, or change a released one's due date."""
    visit.require_staff(course)
    value = str((await visit.form()).get("due_at", ""))
    _unit_name(visit, course, unit)
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


@router.post("/units/{unit}/rebuild")
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


@router.get("/units/{unit}/withdraw")
async def confirm_withdraw(course: str, unit: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    visit.require_staff(course)
    named = views.named_course(visit.settings, course, visit.language)
    return visit.page("withdraw.html", course=named, unit=_unit_name(visit, course, unit))


@router.post("/units/{unit}/withdraw")
async def withdraw(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    await visit.form()
    try:
        await visit.write(lambda db: operations.withdraw_unit(db, course, unit, visit.session.login))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("The unit is withdrawn. Submissions are kept."))


@router.post("/units/{unit}/collect")
async def collect(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    await visit.form()
    try:
        taken = await visit.write(lambda db: operations.collect(db, visit.settings, course, unit, visit.session.login))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Collected: %(count)s submissions.", count=len(taken)))


@router.post("/units/{unit}/grade")
async def grade(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Queue the newest submissions for the grader: all, or one student's."""
    visit.require_staff(course)
    logins = _logins((await visit.form()).get("login"))
    try:
        jobs = await visit.write(lambda db: operations.request_grading(db, course, unit, visit.session.login, logins))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Grading requested: %(count)s submissions.", count=len(jobs)))


@router.post("/units/{unit}/feedback")
async def feedback(course: str, unit: str, visit: Visit = Depends(visit)) -> Response:
    """Make and release feedback: for all graded submissions, or for one student's."""
    visit.require_staff(course)
    logins = _logins((await visit.form()).get("login"))
    try:
        jobs = await visit.write(lambda db: operations.request_feedback(db, course, unit, visit.session.login, logins))
    except AcademyError as error:
        return visit.failed(unit_path(course, unit), error)
    return visit.back(unit_path(course, unit), done("Feedback requested: %(count)s submissions.", count=len(jobs)))


def _logins(value: object) -> list[str] | None:
    return [value] if isinstance(value, str) and value else None


@router.get("/grades.csv")
async def grades(course: str, visit: Visit = Depends(visit)) -> Response:
    visit.require_staff(course)
    try:
        text = await run_in_threadpool(operations.export_grades, visit.settings, course)
    except AcademyError as error:
        return visit.failed(course_path(course), error)
    name = f"grades-{course}-{local_day(now(), visit.settings)}.csv"
    headers = {**COMMON_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response("\ufeff" + text, media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/formgrader")
async def formgrader(course: str, visit: Visit = Depends(fresh_visit)) -> Response:
    """Start the grading server of this course if it is not running, and go to its formgrader."""
    visit.require_staff(course)
    await visit.form()
    login, name = visit.session.login, GRADING + course
    target = user_path(login, name, "formgrader")
    server = visit.identity.servers.get(name)
    if server is None or server.state == "stopped":
        profile = next(iter(profiles_for(visit.settings, visit.person, name, gpus=False)), "")
        try:
            await visit.pages.hub.start(visit.session.token, login, name, {"profile": profile})
        except AcademyError as error:
            return visit.failed(course_path(course), error)
    if server and server.state == "running":
        return visit.back(target)
    return visit.back(f"{pending_path(login, name)}?next={target}")
