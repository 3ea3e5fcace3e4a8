"""The staff's pages of a course: units, roster, history, grades, formgrader."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response
from sqlalchemy.orm import Session as Read
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from academy.database import now
from academy.messages import AcademyError, message
from academy.pages import views
from academy.pages.hubapi import PREFIX, pending_path, user_path
from academy.pages.render import COMMON_HEADERS, done, local_day
from academy.pages.visit import Visit, fresh_visit, visit
from academy.people import RosterError, import_roster, members, parse_roster
from academy.profiles import GRADING, profiles_for
from grading import operations
from grading.records import record

router = APIRouter(prefix="/courses/{course}")


def course_path(course: str) -> str:
    return f"{PREFIX}/courses/{course}"


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
        profile = next(iter(profiles_for(visit.settings, visit.person, name, [])), "")
        try:
            await visit.pages.hub.start(visit.session.token, login, name, {"profile": profile})
        except AcademyError as error:
            return visit.failed(course_path(course), error)
    if server and server.state == "running":
        return visit.back(target)
    return visit.back(f"{pending_path(login, name)}?next={target}")
