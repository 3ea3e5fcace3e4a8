"""What the pages ask of the hub's API: tokens, who somebody is, and their servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from academy.messages import AcademyError
from academy.network import hub_api_url
from academy.settings import Settings

CLIENT_ID = "service-academy"
PREFIX = "/services/academy"
CALLBACK = f"{PREFIX}/oauth_callback"
# Of the token that a browser session holds; those behind servers!user show prototypes, and only founders have them all.
SCOPES = ["access:services!service=academy", "servers!user", "access:servers!user", "shares!user", "read:users:name"]


class HubUnavailable(AcademyError):
    """The hub does not answer."""

    def __init__(self) -> None:
        super().__init__("hub-unavailable", status=503)


class HubRefused(AcademyError):
    """The hub answered with an error; ``reason`` is its own text."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__("hub-refused", status=400 if status < 500 else 502, reason=reason)


@dataclass(frozen=True)
class Server:
    """A person's server as the hub knows it."""

    name: str
    url: str
    ready: bool
    pending: str  # spawn, stop, or nothing
    profile: str

    @property
    def state(self) -> str:
        if self.pending:
            return "stopping" if self.pending == "stop" else "starting"
        return "running" if self.ready else "stopped"


@dataclass(frozen=True)
class Identity:
    """Who a token belongs to."""

    login: str
    session_id: str
    servers: dict[str, Server]


class HubAPI:
    """Calls to the hub, each with the token of the person it is made for."""

    def __init__(self, settings: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.secret = settings.secret("pages-token")
        self.client = httpx.AsyncClient(base_url=hub_api_url(settings), timeout=30, transport=transport, trust_env=False)

    async def close(self) -> None:
        await self.client.aclose()

    async def token_for_code(self, code: str, verifier: str) -> str | None:
        """Exchange an OAuth code for a token; None when the hub does not take the code."""
        fields = {
            "client_id": CLIENT_ID,
            "client_secret": self.secret,
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": CALLBACK,
        }
        reply = await self._call("POST", "/oauth2/token", data=fields)
        return str(reply.json()["access_token"]) if reply.status_code == 200 else None

    async def identify(self, token: str) -> Identity | None:
        """Who the token belongs to, with all their servers; None when it is no longer valid."""
        reply = await self._call("GET", "/user", token, params={"include_stopped_servers": "1"})
        if reply.status_code in (401, 403):
            return None
        model = _checked(reply).json()
        servers = {name: _server(name, server) for name, server in (model.get("servers") or {}).items()}
        return Identity(model["name"], model.get("session_id") or "", servers)

    async def start(self, token: str, login: str, server: str, options: dict[str, Any]) -> None:
        _checked(await self._call("POST", _server_path(login, server), token, json=options))

    async def stop(self, token: str, login: str, server: str, remove: bool = False) -> None:
        """Stop a server; with ``remove`` also forget it."""
        _checked(await self._call("DELETE", _server_path(login, server), token, json={"remove": remove} if remove else {}))

    async def shown_to(self, token: str, login: str, server: str) -> list[str]:
        """The logins of those whom a server's programs are shown to."""
        reply = _checked(await self._call("GET", _share_path(login, server), token, params={"limit": "200"}))
        return sorted(share["user"]["name"] for share in reply.json()["items"] if share["user"])

    async def show(self, token: str, login: str, server: str, to: str) -> None:
        _checked(await self._call("POST", _share_path(login, server), token, json={"user": to}))

    async def withdraw(self, token: str, login: str, server: str, to: str) -> None:
        _checked(await self._call("PATCH", _share_path(login, server), token, json={"user": to}))

    async def running_servers(self) -> int | None:
        """How many servers run now, asked with the service's own token; None when the hub does not tell."""
        reply = await self._call("GET", "/users", self.secret, params={"state": "active", "limit": "1000"})
        if reply.status_code >= 400:
            return None
        return sum(len(user.get("servers") or {}) for user in reply.json())

    async def _call(self, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"token {token}"} if token else {}
        try:
            return await self.client.request(method, path, headers=headers, **options)
        except httpx.HTTPError as error:
            raise HubUnavailable from error


def spawn_path(login: str, server: str = "") -> str:
    """The hub's page that starts a server."""
    return f"/hub/spawn/{quote(login, safe='@')}" + (f"/{quote(server)}" if server else "")


def pending_path(login: str, server: str = "") -> str:
    return spawn_path(login, server).replace("/hub/spawn/", "/hub/spawn-pending/", 1)


def user_path(login: str, server: str = "", path: str = "") -> str:
    """A page of a person's server."""
    return f"/user/{quote(login, safe='@')}/" + (f"{quote(server)}/" if server else "") + path


def _server_path(login: str, server: str) -> str:
    user = f"/users/{quote(login, safe='')}"
    return f"{user}/servers/{quote(server, safe='')}" if server else f"{user}/server"


def _share_path(login: str, server: str) -> str:
    return f"/shares/{quote(login, safe='')}/{quote(server, safe='')}"


def _server(name: str, model: dict[str, Any]) -> Server:
    options = model.get("user_options") or {}
    profile = options.get("profile") or ""
    return Server(
        name,
        model.get("url") or "",
        bool(model.get("ready")),
        model.get("pending") or "",
        profile[0] if isinstance(profile, list) else str(profile),
    )


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.status_code < 400:
        return reply
    try:
        reason = str(reply.json().get("message", ""))
    except ValueError:
        reason = reply.reason_phrase
    raise HubRefused(reply.status_code, reason)
