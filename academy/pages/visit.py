"""A visit: who looks at a page, what they may do there, and the objects that every page needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy.orm import Session as DatabaseSession
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from academy.database import Database
from academy.messages import AcademyError
from academy.pages.hubapi import HubAPI, Identity
from academy.pages.render import COMMON_HEADERS, Renderer
from academy.pages.session import LoginRequired, Session, Sessions, check_navigation
from academy.people import Person
from academy.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class Pages:
    """What one running service is made of."""

    settings: Settings
    database: Database
    hub: HubAPI
    sessions: Sessions
    renderer: Renderer


@dataclass(frozen=True)
class Visit:
    """One request of a person who is signed in."""

    request: Request
    pages: Pages
    session: Session
    identity: Identity
    person: Person

    @property
    def settings(self) -> Settings:
        return self.pages.settings

    @property
    def language(self) -> str:
        return self.pages.renderer.language(self.request, self.person)

    @property
    def operator(self) -> bool:
        return self.person.role == "operator"

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        return self.pages.renderer.page(self.request, template, self.session, self.person, status, **values)

    def live(self, template: str, wait: int, **values: Any) -> Response:
        """What ``live.js`` puts into the page, and after how many milliseconds it asks again (0: not by itself)."""
        html = self.pages.renderer.fragment(self.language, template, **values)
        return JSONResponse({"html": html, "wait": wait}, headers=COMMON_HEADERS)

    def back(self, path: str, *flashes: tuple[str, str, dict[str, Any]]) -> Response:
        return self.pages.renderer.back(path, *flashes)

    def failed(self, path: str, error: AcademyError) -> Response:
        """Go to a page that says what failed and what to do."""
        return self.back(path, ("error", str(error.message(self.language))[:1500], {}))

    async def form(self) -> FormData:
        return await self.pages.sessions.read_form(self.request, self.session)

    async def read(self, work: Callable[[DatabaseSession], T]) -> T:
        """Do work with a read session, away from the event loop."""

        def run() -> T:
            with self.pages.database.read() as session:
                return work(session)

        return await run_in_threadpool(run)

    async def write(self, work: Callable[[DatabaseSession], T]) -> T:
        """Do work in one transaction, away from the event loop."""

        def run() -> T:
            with self.pages.database.write() as session:
                return work(session)

        return await run_in_threadpool(run)

    def require_staff(self, course: str) -> None:
        """Staff of the course only.

        Raises:
            AcademyError: they are not; the answer is that of a course that does not exist.
        """
        if not self.person.staff_of(course):
            raise AcademyError("page-missing", status=404)

    def may_import(self, course: str) -> bool:
        """Who changes a course's roster: its instructors, and operators. Assistants do not."""
        return self.operator or self.person.role_in(course) == "instructor"


async def visitor(request: Request) -> Visit | None:
    """The visit of whoever is signed in; None when nobody is, or the hub cannot say."""
    try:
        return await _visit(request)
    except (LoginRequired, AcademyError):
        return None


async def visit(request: Request) -> Visit:
    """A request that needs somebody signed in (a FastAPI dependency)."""
    check_navigation(request)
    return await _visit(request)


async def poll(request: Request) -> Visit:
    """The same for JSON that a script of our own page asks for."""
    return await _poll(request)


async def _poll(request: Request, fresh: bool = False) -> Visit:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise AcademyError("page-not-for-scripts", status=403)
    return await _visit(request, fresh)


async def fresh_poll(request: Request) -> Visit:
    """JSON with the servers' state as it is now."""
    return await _poll(request, fresh=True)


async def fresh_visit(request: Request) -> Visit:
    """A visit that asks the hub for the servers' state as it is now."""
    check_navigation(request)
    return await _visit(request, fresh=True)


async def _visit(request: Request, fresh: bool = False) -> Visit:
    pages: Pages = request.app.state.pages
    found = await pages.sessions.current(request, fresh)
    if found is None:
        raise LoginRequired
    session, identity = found
    person = await run_in_threadpool(_person, pages, session.login)
    return Visit(request, pages, session, identity, person)


def _person(pages: Pages, login: str) -> Person:
    with pages.database.read() as db:
        person = db.get(Person, login)
    if person is None:
        if not pages.settings.signin.open:
            raise AcademyError("not-on-roster", status=403, login=login)
        person = Person(login=login, name=login, enrollments=[])
    return person
