"""Signing in and out, and choosing a language."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from academy import i18n
from academy.messages import AcademyError
from academy.pages.hubapi import PREFIX
from academy.pages.session import Session, local_path
from academy.pages.visit import Pages, Visit, visit, visitor
from academy.people import Person

router = APIRouter()

CHOSEN_COOKIE = "academy_language_chosen"  # somebody chose a language before signing in
YEAR = 365 * 24 * 3600


@router.get("/oauth_callback")
async def oauth_callback(request: Request) -> Response:
    pages: Pages = request.app.state.pages
    answer = await pages.sessions.callback(request)
    if answer is None:
        raise AcademyError("signin-failed", status=400)
    session, target = answer
    response = RedirectResponse(target, status_code=303)
    pages.sessions.begin(response, session)
    pages.sessions.clear_cookie(response, f"academy_state_{request.query_params.get('state', '')[:8]}")
    _settle_language(request, response, pages, session)
    return response


def _settle_language(request: Request, response: Response, pages: Pages, session: Session) -> None:
    """A choice made on the sign-in page counts; otherwise the language that the person chose last."""
    chosen = request.cookies.get(i18n.LANGUAGE_COOKIE)
    with pages.database.read() as db:
        person = db.get(Person, session.login)
        saved = person.language if person else None
    if chosen in i18n.LANGUAGES and (saved is None or CHOSEN_COOKIE in request.cookies):
        _save_language(pages, session.login, chosen)
        response.delete_cookie(CHOSEN_COOKIE, path="/")
    elif saved:
        _set_language(response, pages, saved)


@router.get("/language/{language}")
async def language(request: Request, language: str, next: str = "") -> Response:
    """Change the language: in this browser, and for the person who is signed in."""
    pages: Pages = request.app.state.pages
    response = RedirectResponse(local_path(next), status_code=303)
    if language not in i18n.LANGUAGES or request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        return response
    _set_language(response, pages, language)
    found = await visitor(request)
    if found:
        _save_language(pages, found.session.login, language)
    else:
        response.set_cookie(CHOSEN_COOKIE, "1", max_age=600, path="/", samesite="lax")
    return response


@router.post("/logout")
async def logout(visit: Visit = Depends(visit)) -> Response:
    """End this session, then the hub's."""
    await visit.form()
    response = RedirectResponse("/hub/logout", status_code=303)
    visit.pages.sessions.end(response, visit.session)
    return response


def language_path(language: str, here: str) -> str:
    return f"{PREFIX}/language/{language}?{urlencode({'next': here})}"


def _set_language(response: Response, pages: Pages, language: str) -> None:
    secure = pages.settings.public_url.startswith("https://")
    response.set_cookie(i18n.LANGUAGE_COOKIE, language, max_age=YEAR, path="/", samesite="lax", secure=secure)


def _save_language(pages: Pages, login: str, language: str) -> None:
    with pages.database.write() as db:
        person = db.get(Person, login)
        if person is not None:
            person.language = language
