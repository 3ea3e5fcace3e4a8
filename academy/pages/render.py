"""Renders a page in its reader's language, with the headers that keep it safe beside student servers."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from babel.dates import format_timedelta
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from academy import i18n
from academy.database import now
from academy.pages.hubapi import PREFIX
from academy.pages.session import Session, Sessions
from academy.people import Person
from academy.settings import Settings

HERE = Path(__file__).parent
FLASH_COOKIE = "academy_flash"
FLASH_SECONDS = 120


@cache
def environment(language: str) -> Environment:
    """The templates with their texts in one language."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.policies["ext.i18n.trimmed"] = True
    catalogue = i18n.translations(language)
    env.install_gettext_callables(catalogue.gettext, catalogue.ngettext, newstyle=True)  # type: ignore[attr-defined]
    env.globals.update(languages=i18n.LANGUAGES, static=static_url)
    return env


@cache
def static_url(name: str) -> str:
    """Address of a file in ``static/``; it changes when the file does, so that browsers may keep it."""
    digest = hashlib.sha256((HERE / "static" / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"


@cache
def logo() -> str:
    return (HERE / "static" / "logo.svg").read_text(encoding="utf-8")


class Renderer:
    """Makes responses; one for the whole service."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self.settings, self.sessions = settings, sessions

    def language(self, request: Request, person: Person | None = None) -> str:
        """The cookie's language, else the person's, else the academy's."""
        chosen = request.cookies.get(i18n.LANGUAGE_COOKIE)
        fallback = i18n.known(person.language if person else None, self.settings.academy.language)
        return i18n.known(chosen, fallback)

    def page(
        self,
        request: Request,
        template: str,
        session: Session | None = None,
        person: Person | None = None,
        status: int = 200,
        **values: Any,
    ) -> HTMLResponse:
        language, nonce = self.language(request, person), secrets.token_urlsafe(16)
        flashes = self.sessions.unseal(request.cookies.get(FLASH_COOKIE), FLASH_SECONDS) or []
        html = self.fragment(
            language,
            template,
            nonce=nonce,
            session=session,
            person=person,
            csrf=session.csrf if session else "",
            here=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
            academy_title=self.settings.academy.title[language],
            isolated=self.settings.docker,
            flashes=[(kind, i18n.translate(language, text, **filled)) for kind, text, filled in flashes],
            logo=logo(),
            **values,
        )
        response = HTMLResponse(html, status_code=status)
        protect(response, nonce, "'self'" if self.settings.signin.provider == "demo" else "'self' https:")
        if flashes:
            self.sessions.clear_cookie(response, FLASH_COOKIE)
        return response

    def fragment(self, language: str, template: str, **values: Any) -> str:
        """Part of a page, for a script of ours to put in; it holds no token, since a script of a student's could ask too."""
        moment, zone = now(), self.settings.academy.timezone
        found = environment(language).get_template(template)
        return found.render(
            language=language,
            prefix=PREFIX,
            now=moment,
            zone=zone,
            time=lambda value: i18n.show_time(value, language, zone),
            clock=lambda value: i18n.field_time(value, zone)[11:],
            distance=lambda value: i18n.show_distance(value, moment, language),
            field_time=lambda value: i18n.field_time(value, zone),
            duration=lambda seconds: show_seconds(seconds, language),
            **values,
        )

    def back(self, path: str, *flashes: tuple[str, str, dict[str, Any]]) -> Response:
        """Answer a POST: go to a page, which shows the messages (kind, English text, values) once."""
        response = RedirectResponse(path, status_code=303)
        if flashes:
            self.sessions.set_cookie(response, FLASH_COOKIE, self.sessions.seal(flashes), FLASH_SECONDS)
        return response


def show_seconds(seconds: float, language: str) -> str:
    """How long something took or takes, e.g. ``12 sec``, ``3분``."""
    return format_timedelta(timedelta(seconds=max(0.0, seconds)), format="short", threshold=1.5, locale=language)


def done(text: str, **values: Any) -> tuple[str, str, dict[str, Any]]:
    """A message that something worked."""
    return "done", text, values


def protect(response: Response, nonce: str, form_action: str = "'self'") -> None:
    """Only our own files, no inline script, never in somebody's frame, never in a cache."""
    own = f"'nonce-{nonce}'"
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {own}; style-src {own}; img-src 'self' data:; connect-src 'self'; "
        f"frame-src 'self'; form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
    )
    response.headers.update(COMMON_HEADERS)


COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def feedback_headers() -> dict[str, str]:
    """For HTML that a student wrote parts of: no script, no origin, no network; only our page may frame it."""
    return {
        **COMMON_HEADERS,
        "X-Frame-Options": "SAMEORIGIN",
        "Content-Security-Policy": (
            "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
            "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
        ),
    }


def local_day(moment: datetime, settings: Settings) -> str:
    return i18n.field_time(moment, settings.academy.timezone)[:10]
