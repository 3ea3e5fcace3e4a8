"""The web application: pages, sign-in, static files, and the exchange API under one prefix."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy import text
from starlette.exceptions import HTTPException

from academy import settings as settings_module
from academy.database import Database
from academy.messages import AcademyError, message
from academy.pages import gpus, grading, history, home, overview, show, signin, staff, storage, unit, vouchers, work
from academy.pages.hubapi import PREFIX, HubAPI
from academy.pages.render import HERE, Renderer
from academy.pages.session import LoginRequired, Sessions
from academy.pages.visit import Pages, visitor
from academy.settings import Settings
from grading.exchange import api
from grading.exchange.callers import Caller

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None, hub_transport: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The service ``/services/academy`` as an ASGI application."""
    settings = settings or settings_module.load()
    database = Database(settings.database_url)
    hub = HubAPI(settings, hub_transport)
    sessions = Sessions(settings, hub)
    pages = Pages(settings, database, hub, sessions, Renderer(settings, sessions))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await hub.close()
        database.close()

    app = FastAPI(
        title="AcademyHub",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{PREFIX}/api/openapi.json",
    )
    app.state.pages = pages
    app.add_api_route(f"{PREFIX}/health", health, methods=["GET"], include_in_schema=False)
    app.mount(f"{PREFIX}/static", StaticFiles(directory=HERE / "static"), name="static")
    for part in (signin, home, show, work, staff, unit, grading, history, gpus, vouchers, storage, overview):
        app.include_router(part.router, prefix=PREFIX, include_in_schema=False)
    app.include_router(api.router(settings, database, hub_transport), prefix=f"{PREFIX}/api/v1")
    app.dependency_overrides[api.browser_caller] = _browser_caller
    app.middleware("http")(_static_cache)
    app.add_exception_handler(LoginRequired, _to_login)
    app.add_exception_handler(AcademyError, _show_error)
    app.add_exception_handler(HTTPException, _show_http_error)
    app.add_exception_handler(Exception, _show_crash)
    return app


def health(request: Request) -> Response:
    """Whether this process answers and reaches its database; needs no sign-in and tells nothing else."""
    pages: Pages = request.app.state.pages
    with pages.database.read() as session:
        session.execute(text("SELECT 1"))
    return JSONResponse({"status": "ok"})


async def _browser_caller(request: Request) -> Caller | None:
    """Let a script of our own pages read the exchange with the browser's session."""
    if "authorization" in request.headers or request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return None
    found = await visitor(request)
    return Caller(found.session.login, found.person, True, found.language, browser=True) if found else None


async def _static_cache(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    if request.url.path.startswith(f"{PREFIX}/static/"):
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if request.url.query else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
    return response


async def _to_login(request: Request, _error: Exception) -> Response:
    """Send a reader to sign in; tell a script that it may not."""
    pages: Pages = request.app.state.pages
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        return JSONResponse({"error": "not-signed-in"}, status_code=401)
    if request.method != "GET":
        return RedirectResponse(f"{PREFIX}/", status_code=303)
    return pages.sessions.login_redirect(request.url.path + (f"?{request.url.query}" if request.url.query else ""))


async def _show_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AcademyError)
    pages: Pages = request.app.state.pages
    if _wants_json(request):
        said = error.message(pages.renderer.language(request))
        return JSONResponse({"error": said.key, "message": str(said)}, status_code=error.status)
    return await _error_page(request, error.status, error)


async def _show_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if _wants_json(request):
        return JSONResponse({"error": "http", "message": error.detail}, status_code=error.status_code)
    key = "page-missing" if error.status_code in (404, 405) else "page-failed"
    return await _error_page(request, error.status_code, AcademyError(key))


async def _show_crash(request: Request, error: Exception) -> Response:
    """Starlette logs the traceback; the reader gets a sentence."""
    log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    if _wants_json(request):
        said = message("page-failed", "en")
        return JSONResponse({"error": said.key, "message": str(said)}, status_code=500)
    return await _error_page(request, 500, AcademyError("page-failed"))


async def _error_page(request: Request, status: int, error: AcademyError) -> Response:
    pages: Pages = request.app.state.pages
    visit = await visitor(request)
    session, person = (visit.session, visit.person) if visit else (None, None)
    said = error.message(pages.renderer.language(request, person))
    return pages.renderer.page(request, "error.html", session, person, status, said=said, code=status)


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith(f"{PREFIX}/api/") or request.url.path.endswith(".json")
