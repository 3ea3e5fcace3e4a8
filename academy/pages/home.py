"""The home page: courses, units, receipts, scores, feedback, and a person's own servers."""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy.orm import Session as Read
from starlette.concurrency import run_in_threadpool

from academy import profiles
from academy.database import now
from academy.gpus import pool
from academy.i18n import mark
from academy.messages import AcademyError
from academy.pages import show, storage, views, work
from academy.pages.hubapi import PREFIX, Server, spawn_path
from academy.pages.render import COMMON_HEADERS, done, feedback_headers
from academy.pages.visit import Visit, fresh_poll, fresh_visit, poll, visit
from academy.vouchers import ledger
from academy.vouchers.records import GPU_HOUR
from grading.exchange.store import Store
from grading.records import Feedback, Submission

router = APIRouter()

HOME = f"{PREFIX}/"
_SERVER_NAME = re.compile(r"^(?=.{1,30}$)[a-z](-?[a-z0-9]+)*$")  # what the hub takes
_MAX_PAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ServerRow:
    """A person's server on the home page."""

    server: Server
    title: str
    start: str  # the hub's page that starts it


@router.get("/")
async def home(visit: Visit = Depends(fresh_visit)) -> HTMLResponse:
    return await _home(visit)


async def _home(visit: Visit, status: int = 200, sandbox_error: str = "", sandbox_name: str = "") -> HTMLResponse:
    given = [e.course for e in visit.person.enrollments if e.role != "student"]
    courses, path = await visit.read(lambda db: work.courses_of(visit, db))
    ending, low = await visit.read(lambda db: (pool.ending(db, visit.session.login), ledger.warnings(db, visit.person, now())))
    volumes = await visit.read(lambda db: storage.rows(db, visit))
    return visit.page(
        "home.html",
        status,
        courses=courses,
        path=path,
        ending=ending,
        low=low,
        volumes=volumes,
        hour=GPU_HOUR,
        wait=work.wait(courses),
        teaching=[views.named_course(visit.settings, course, visit.language) for course in given],
        servers=_servers(visit),
        states=_states(visit),
        may_sandbox=may_sandbox(visit),
        may_show=show.may_show(visit),
        sandbox_limit=profiles.most_named_servers(visit.settings, visit.person),
        sandbox_error=sandbox_error,
        sandbox_name=sandbox_name,
    )


def may_sandbox(visit: Visit) -> bool:
    return bool(profiles.profiles_for(visit.settings, visit.person, "sandbox"))


def _servers(visit: Visit) -> list[ServerRow]:
    """The coursework server first, then named ones; grading servers are opened from their course."""
    login, known = visit.session.login, visit.identity.servers
    coursework = profiles.profiles_for(visit.settings, visit.person, "")
    own = {"": known.get("", Server("", "", False, "", ""))} if coursework or "" in known else {}
    named = {name: server for name, server in sorted(known.items()) if name}
    return [
        ServerRow(server, _server_title(visit, server), spawn_path(login, name))
        for name, server in {**own, **named}.items()
        if not name.startswith(profiles.GRADING) or server.state != "stopped"
    ]


def _server_title(visit: Visit, server: Server) -> str:
    profile = visit.settings.profiles.get(server.profile)
    return profile.title[visit.language] if profile and server.state != "stopped" else ""


@router.get("/servers.json")
async def server_states(visit: Visit = Depends(fresh_poll)) -> Response:
    """The state of each server, for the page to follow a start or a stop."""
    return JSONResponse(_states(visit), headers=COMMON_HEADERS)


def _states(visit: Visit) -> dict[str, str]:
    return {name: server.state for name, server in visit.identity.servers.items()}


@router.post("/servers/stop")
async def stop_server(visit: Visit = Depends(visit)) -> Response:
    name = str((await visit.form()).get("server", ""))
    try:
        await visit.pages.hub.stop(visit.session.token, visit.session.login, name)
    except AcademyError as error:
        return visit.failed(HOME, error)
    return visit.back(HOME, done("The server is stopping."))


@router.post("/servers/new")
async def new_sandbox(visit: Visit = Depends(fresh_visit)) -> Response:
    """Check the name of a new sandbox and go on to the hub's page that starts it."""
    name = str((await visit.form()).get("name", "")).strip().lower()
    if not may_sandbox(visit):
        raise AcademyError("page-missing", status=404)
    problem = _sandbox_problem(visit, name)
    if problem:
        return await _home(visit, 422, sandbox_error=problem, sandbox_name=name)
    return visit.back(spawn_path(visit.session.login, name))


def _sandbox_problem(visit: Visit, name: str) -> str:
    if not _SERVER_NAME.match(name) or name.startswith(profiles.GRADING):
        return mark("Use 1 to 30 lowercase letters, digits and single hyphens, starting with a letter; not “grade-…”.")
    limit = profiles.most_named_servers(visit.settings, visit.person)
    if name in visit.identity.servers:
        return mark("You already have a sandbox of this name.")
    if len([server for server in visit.identity.servers if server]) >= limit:
        return mark("You have as many named servers as one person may have. Delete one first.")
    return ""


@router.get("/servers/{name}/delete")
async def confirm_delete(name: str, visit: Visit = Depends(fresh_visit)) -> HTMLResponse:
    if name not in visit.identity.servers or name.startswith(profiles.GRADING):
        raise AcademyError("page-missing", status=404)
    return visit.page("delete_server.html", name=name)


@router.post("/servers/{name}/delete")
async def delete_server(name: str, visit: Visit = Depends(fresh_visit)) -> Response:
    await visit.form()
    if name not in visit.identity.servers or name.startswith(profiles.GRADING):
        raise AcademyError("page-missing", status=404)
    try:
        await visit.pages.hub.stop(visit.session.token, visit.session.login, name, remove=True)
    except AcademyError as error:
        return visit.failed(HOME, error)
    return visit.back(HOME, done("The sandbox %(name)s is deleted.", name=name))


@router.get("/submissions/{submission_id}/feedback")
async def feedback(submission_id: str, visit: Visit = Depends(visit)) -> HTMLResponse:
    """Score and feedback of a submission; the pages themselves lie in a sandboxed frame."""
    submission, given = await visit.read(lambda db: _feedback(db, submission_id, visit))
    names = await run_in_threadpool(_page_names, visit, given)
    course = views.named_course(visit.settings, submission.course, visit.language)
    units = views.named_units(visit.settings, submission.course, visit.language)
    return visit.page(
        "feedback.html",
        submission=submission,
        feedback=given,
        course=course,
        unit=units.get(submission.unit, views.Named(submission.unit, submission.unit)),
        names=names,
    )


@router.get("/submissions/{submission_id}/feedback/{number}")
async def feedback_page(submission_id: str, number: int, request: Request) -> Response:
    """One HTML page of a feedback archive; hostile, so it gets no origin and no script."""
    shown = await _visit_in_frame(request)
    _submission, given = await shown.read(lambda db: _feedback(db, submission_id, shown))
    body = await run_in_threadpool(_page_body, shown, given, number)
    return HTMLResponse(body, headers=feedback_headers())


async def _visit_in_frame(request: Request) -> Visit:
    """Like ``visit``, for a page that our own page frames."""
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        raise AcademyError("page-not-for-scripts", status=403)
    return await poll(request)


def _feedback(db: Read, submission_id: str, visit: Visit) -> tuple[Submission, Feedback]:
    """The author, once it is released, and the course's staff; for anybody else it does not exist."""
    submission, given = db.get(Submission, submission_id), db.get(Feedback, submission_id)
    if submission is None or given is None:
        raise AcademyError("page-missing", status=404)
    if submission.login != visit.session.login and not visit.person.staff_of(submission.course):
        raise AcademyError("page-missing", status=404)
    return submission, given


def _pages(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    found = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(".html") and m.size <= _MAX_PAGE_BYTES]
    return sorted(found, key=lambda member: member.name)


def _open(visit: Visit, given: Feedback) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(Store(visit.settings).read(given.sha256)), mode="r:gz")


def _page_names(visit: Visit, given: Feedback) -> list[str]:
    with _open(visit, given) as archive:
        return [member.name.removeprefix("./").removesuffix(".html") for member in _pages(archive)]


def _page_body(visit: Visit, given: Feedback, number: int) -> bytes:
    with _open(visit, given) as archive:
        pages = _pages(archive)
        if not 0 <= number < len(pages):
            raise AcademyError("page-missing", status=404)
        file = archive.extractfile(pages[number])
        assert file is not None
        return file.read()
