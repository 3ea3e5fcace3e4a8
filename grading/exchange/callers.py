"""Who is asking: the hub says whose a token is, the roster says who that person is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass

import httpx
from starlette.concurrency import run_in_threadpool

from academy import network
from academy.database import Database
from academy.messages import AcademyError
from academy.people import Person
from academy.settings import Settings

REACH = {"access:services!service=academy", "access:services"}
STAFF = "custom:academy:staff"
CACHE_SECONDS = 60.0
CACHE_SIZE = 10_000


@dataclass(frozen=True)
class Caller:
    """Somebody whom the hub vouched for, and what the roster says of them."""

    login: str
    person: Person
    staff_token: bool  # whether this token, not only this person, may act as staff
    language: str
    browser: bool = False  # known by a browser session instead of a token: may only read

    def role_in(self, course: str) -> str | None:
        return self.person.role_in(course)

    def acts_as_staff(self, course: str) -> bool:
        return self.staff_token and self.person.staff_of(course)


@dataclass(frozen=True)
class Identity:
    """Whose a token is, and what it may do."""

    login: str
    scopes: frozenset[str]


class Callers:
    """Asks the hub about tokens, and remembers its answer for a minute."""

    def __init__(self, settings: Settings, database: Database, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        self._database = database
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._starting = asyncio.Lock()
        self._known: dict[bytes, tuple[float, Identity]] = {}

    async def close(self) -> None:
        if self._client:
            await self._client.aclose()

    async def by_token(self, token: str, accepted_language: str) -> Caller:
        """
        Raises:
            AcademyError: the token is unknown to the hub, may not reach the exchange, belongs to nobody on the roster, or the
                hub does not answer.
        """
        identity = await self._identify(token)
        if not identity.scopes & REACH:
            raise AcademyError("exchange-token-scope", 403)
        person = await run_in_threadpool(self.person, identity.login)
        language = self.language(person, accepted_language)
        return Caller(identity.login, person, STAFF in identity.scopes, language)

    def person(self, login: str) -> Person:
        with self._database.read() as session:
            person = session.get(Person, login)
        if person is None:
            if not self._settings.signin.open:
                raise AcademyError("not-on-roster", 403, login=login)
            person = Person(login=login, name=login, enrollments=[])
        return person

    def language(self, person: Person | None, accepted_language: str) -> str:
        """The person's choice, else the browser's or server's, else the academy's."""
        if person and person.language in ("ko", "en"):
            return str(person.language)
        accepted = accepted_language.strip().lower()[:2]
        return accepted if accepted in ("ko", "en") else self._settings.academy.language

    async def _identify(self, token: str) -> Identity:
        key = hashlib.sha256(token.encode()).digest()
        known = self._known.get(key)
        if known and known[0] > time.monotonic():
            return known[1]
        identity = await self._ask(token)
        if len(self._known) >= CACHE_SIZE:
            self._known.clear()
        self._known[key] = (time.monotonic() + CACHE_SECONDS, identity)
        return identity

    async def _ask(self, token: str) -> Identity:
        client = await self._connected()
        try:
            reply = await client.get("/user", headers={"Authorization": f"token {token}"})
            reply.raise_for_status()
            model = reply.json()
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                raise AcademyError("exchange-no-token", 401) from None
            raise AcademyError("hub-unavailable", 503) from None
        except (httpx.HTTPError, ValueError) as error:
            raise AcademyError("hub-unavailable", 503) from error
        if model.get("kind") != "user":
            raise AcademyError("exchange-no-token", 401)
        return Identity(model["name"], frozenset(model.get("scopes") or ()))

    async def _connected(self) -> httpx.AsyncClient:
        async with self._starting:
            if self._client is None:
                self._client = httpx.AsyncClient(
                    base_url=await run_in_threadpool(self._hub_url),
                    timeout=httpx.Timeout(20, pool=60),
                    limits=httpx.Limits(max_connections=20),
                    transport=self._transport,
                    trust_env=False,
                )
        return self._client

    def _hub_url(self) -> str:
        try:
            return os.environ.get("JUPYTERHUB_API_URL") or network.hub_api_url(self._settings)
        except Exception as error:  # Docker, whose bridge's address it is, is away
            raise AcademyError("hub-unavailable", 503) from error
