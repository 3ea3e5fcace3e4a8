"""Browser sessions of the pages: sign-in through the hub's OAuth, an encrypted cookie, and checks on every request.

Student servers share this origin, so a page of theirs could try to use a reader's session. Against that stand: the cookie is
not readable by scripts, pages are given to navigations only (``Sec-Fetch-Mode``, which scripts cannot set), every POST is a
navigation from this origin with the session's own token, and no JSON ever holds a token.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from cryptography.fernet import Fernet, InvalidToken
from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from academy.messages import AcademyError
from academy.pages.hubapi import CALLBACK, CLIENT_ID, PREFIX, SCOPES, HubAPI, Identity
from academy.settings import Settings

SESSION_COOKIE = "academy_session"
STATE_COOKIE = "academy_state_"
HUB_SESSION_COOKIE = "jupyterhub-session-id"
SESSION_SECONDS = 24 * 3600
STATE_SECONDS = 600
RECHECK_SECONDS = 30.0
MAX_FORM_BYTES = 2 * 1024 * 1024


class LoginRequired(Exception):
    """Nobody is signed in; the reader is sent to the hub."""


@dataclass(frozen=True)
class Session:
    """Who is signed in in this browser."""

    login: str
    token: str  # the hub's, for this person's own servers
    csrf: str
    session_id: str  # the hub's, which its logout ends


class Sessions:
    """Makes, reads, checks and ends browser sessions."""

    def __init__(self, settings: Settings, hub: HubAPI) -> None:
        key = hashlib.sha256(settings.secret("pages-session").encode()).digest()
        self._box = Fernet(base64.urlsafe_b64encode(key))
        self._secure = settings.public_url.startswith("https://")
        self._public_origin = _origin(settings.public_url)
        self._hub = hub
        self._checked: dict[tuple[str, str], tuple[float, Identity]] = {}

    def seal(self, value: Any) -> str:
        return self._box.encrypt(json.dumps(value).encode()).decode()

    def unseal(self, text: str | None, seconds: int) -> Any:
        """What was sealed, or None when it is forged, damaged or too old."""
        try:
            return json.loads(self._box.decrypt((text or "").encode(), ttl=seconds))
        except (InvalidToken, ValueError):
            return None

    def set_cookie(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(name, value, max_age=seconds, path=f"{PREFIX}/", httponly=True, samesite="lax", secure=self._secure)

    def clear_cookie(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path=f"{PREFIX}/", httponly=True, samesite="lax", secure=self._secure)

    def login_redirect(self, target: str) -> Response:
        """Send the browser to the hub; it comes back to ``callback`` and then to the target."""
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "state": state,
            "scope": " ".join(SCOPES),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        response = RedirectResponse(f"/hub/api/oauth2/authorize?{urlencode(query)}", status_code=302)
        sealed = self.seal({"state": state, "verifier": verifier, "next": local_path(target)})
        self.set_cookie(response, STATE_COOKIE + state[:8], sealed, STATE_SECONDS)
        return response

    async def callback(self, request: Request) -> tuple[Session, str] | None:
        """The new session and where to go; None when this is not the answer to a question of ours."""
        state, code = request.query_params.get("state", ""), request.query_params.get("code", "")
        asked = self.unseal(request.cookies.get(STATE_COOKIE + state[:8]), STATE_SECONDS)
        if not asked or not code or not secrets.compare_digest(asked["state"].encode(), state.encode()):
            return None
        token = await self._hub.token_for_code(code, asked["verifier"])
        identity = await self._hub.identify(token) if token else None
        if token is None or identity is None:
            return None
        return Session(identity.login, token, secrets.token_urlsafe(24), identity.session_id), asked["next"]

    def begin(self, response: Response, session: Session) -> None:
        self.set_cookie(response, SESSION_COOKIE, self.seal(asdict(session)), SESSION_SECONDS)

    def end(self, response: Response, session: Session | None) -> None:
        self.clear_cookie(response, SESSION_COOKIE)
        if session:
            self._checked = {key: value for key, value in self._checked.items() if key[0] != session.token}

    async def current(self, request: Request, fresh: bool = False) -> tuple[Session, Identity] | None:
        """Who is signed in, asked of the hub again after half a minute or when its session cookie changed."""
        stored = self.unseal(request.cookies.get(SESSION_COOKIE), SESSION_SECONDS)
        if not stored:
            return None
        session = Session(**stored)
        hub_session = request.cookies.get(HUB_SESSION_COOKIE, "")
        if hub_session and session.session_id and hub_session != session.session_id:
            return None  # somebody else signed in at the hub in this browser
        key = (session.token, hub_session)
        known = self._checked.get(key)
        if known and not fresh and known[0] > time.monotonic() - RECHECK_SECONDS:
            return session, known[1]
        identity = await self._hub.identify(session.token)
        if identity is None or identity.login != session.login:
            self._checked.pop(key, None)
            return None
        self._remember(key, identity)
        return session, identity

    def _remember(self, key: tuple[str, str], identity: Identity) -> None:
        limit = time.monotonic() - RECHECK_SECONDS
        self._checked = {k: v for k, v in self._checked.items() if v[0] > limit}
        self._checked[key] = (time.monotonic(), identity)

    def same_origin(self, request: Request) -> bool:
        """Whether a page of this origin sent the request, as far as the browser tells."""
        site = request.headers.get("sec-fetch-site")
        if site is not None and site != "same-origin":
            return False
        origin = request.headers.get("origin")
        if origin is None:
            return site is not None
        return origin == self._public_origin or urlsplit(origin).netloc == request.headers.get("host")

    async def read_form(self, request: Request, session: Session) -> FormData:
        """A form that one of our pages sent in this session.

        Raises:
            AcademyError: it came from elsewhere, without the session's token, or is too large.
        """
        mode = request.headers.get("sec-fetch-mode", "navigate")
        if mode != "navigate" or not self.same_origin(request):
            raise AcademyError("form-foreign", status=403)
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_FORM_BYTES:
            raise AcademyError("form-too-large", status=413, limit=MAX_FORM_BYTES // 1024 // 1024)
        form = await request.form(max_files=1, max_fields=50, max_part_size=MAX_FORM_BYTES)
        token = form.get("_csrf")
        if not isinstance(token, str) or not secrets.compare_digest(token.encode(), session.csrf.encode()):
            raise AcademyError("form-foreign", status=403)
        return form


def check_navigation(request: Request) -> None:
    """Give a page to a person who goes to it, not to a script or a frame of another page.

    Raises:
        AcademyError: a script or a frame asked.
    """
    mode, dest = request.headers.get("sec-fetch-mode", "navigate"), request.headers.get("sec-fetch-dest", "document")
    if mode != "navigate" or dest != "document":
        raise AcademyError("page-not-for-scripts", status=403)


def local_path(target: str | None) -> str:
    """The target if it is a path of this site, else the home page."""
    home = f"{PREFIX}/"
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return home
    return target if target.isprintable() and not urlsplit(target).netloc else home


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
