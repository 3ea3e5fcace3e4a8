"""The operator's overview: courses, people, jobs, servers; and the roster of people of no course."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse, Response

from academy.messages import AcademyError, message
from academy.pages import views
from academy.pages.hubapi import PREFIX
from academy.pages.render import done
from academy.pages.staff import import_csv
from academy.pages.visit import Visit, visit
from academy.people import RosterError

router = APIRouter(prefix="/overview")


@router.get("")
async def overview(visit: Visit = Depends(visit)) -> HTMLResponse:
    return await _page(visit)


@router.post("/people")
async def import_people(visit: Visit = Depends(visit)) -> Response:
    """Founders and operators; a course's people are imported on its own page."""
    form = await visit.form()
    _require_operator(visit)
    try:
        added, changed = await import_csv(visit, form.get("roster"), None)
    except RosterError as error:
        return await _page(visit, 422, error)
    return visit.back(
        f"{PREFIX}/overview", done("Roster imported: %(added)s added, %(changed)s changed.", added=added, changed=changed)
    )


async def _page(visit: Visit, status: int = 200, error: RosterError | None = None) -> HTMLResponse:
    _require_operator(visit)
    problems = [(line, message(key, visit.language, value=value)) for line, key, value in error.problems] if error else []
    return visit.page(
        "overview.html",
        status,
        overview=await visit.read(lambda db: views.overview(db, visit.settings, visit.language)),
        servers=await visit.pages.hub.running_servers(),
        problems=problems,
    )


def _require_operator(visit: Visit) -> None:
    if not visit.operator:
        raise AcademyError("page-missing", status=404)
