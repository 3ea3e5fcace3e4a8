"""A real hub in a process of its own, and people who use it as a browser does."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from academy import network
from academy.database import Database
from academy.people import Person, enrol
from academy.settings import CHECKOUT, Settings
from academy.signin import demo_password, operator_password

PEOPLE = {
    "teacher": None,
    "alice": None,
    "bob": None,
    "홍길동": None,
    "founder": "founder",
    "mate": "founder",
    "stranger": "founder",
}


class Hub:
    """``jupyterhub`` with this checkout's configuration; ``ACADEMY_CONFIG`` names the settings."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self.settings, self.arguments = settings, arguments
        self.url = f"http://127.0.0.1:{settings.hub.port}"
        self.log = settings.data / "hub.log"
        settings.data.mkdir(parents=True, exist_ok=True)
        self._people()
        self.process = self._start()

    def _people(self) -> None:
        database = Database(self.settings.database_url)
        database.upgrade()
        with database.write() as session:
            for login, role in PEOPLE.items():
                session.merge(Person(login=login, name=login, role=role, language="en" if login == "bob" else None))
            session.flush()
            for login, role in {"teacher": "instructor", "alice": "student", "bob": "student"}.items():
                person = session.get(Person, login)
                assert person is not None
                enrol(person, "demo", role)
        database.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "jupyterhub", "--config", str(CHECKOUT / "jupyterhub_config.py"), *self.arguments]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.settings.data, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, self.tail()
            try:
                if httpx.get(f"{self.url}/hub/health", timeout=2).status_code == 200:
                    return process
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.tail())

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """As a crash does: SIGKILL to the hub alone."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = self._start()

    def stop(self) -> None:
        """End the hub, its proxy, and every server it started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        pid = self.settings.data / "proxy.pid"
        if pid.exists():
            _kill(int(pid.read_text().split()[0]))
        mark = f"JUPYTERHUB_API_URL={network.hub_api_url(self.settings)}".encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        _kill(int(folder.name))
                except OSError:
                    continue
        if self.settings.docker:
            remove_everything(self.settings.academy.name)

    def login(self, name: str) -> Visitor:
        return Visitor(self, name)


class Visitor:
    """Somebody signed in with a browser's cookies."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub, self.name = hub, name
        short = httpx.Limits(keepalive_expiry=2)  # the proxy hangs up after 5 s, perhaps in the middle of the next request
        self.http = httpx.Client(base_url=hub.url, timeout=60, follow_redirects=False, limits=short)
        self.http.get("/hub/login")
        operator = name == "operator"
        password = operator_password(hub.settings) if operator else demo_password(hub.settings)
        reply = self.http.post(
            "/hub/login", data={"username": name, "password": password, "_xsrf": self.xsrf}, headers={"Referer": hub.url}
        )
        assert reply.status_code == 302, reply.text
        self.http.get("/hub/home")

    @property
    def xsrf(self) -> str:
        found = [cookie.value for cookie in self.http.cookies.jar if cookie.name == "_xsrf" and cookie.path == "/hub/"]
        return found[0] or ""

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"/hub/api{path}", headers={"X-XSRFToken": self.xsrf}, **options)

    def path(self, server: str = "") -> str:
        user = f"/users/{quote(self.name)}"
        return f"{user}/servers/{server}" if server else f"{user}/server"

    def start(self, server: str = "", **options: Any) -> httpx.Response:
        return self.api("POST", self.path(server), json=options)

    def events(
        self, server: str = "", timeout: float = 120, events: list[dict[str, Any]] | None = None
    ) -> list[dict[str, Any]]:
        """Every progress event until the server is ready or failed; put into ``events`` as they come."""
        events = [] if events is None else events
        url, headers = f"/hub/api{self.path(server)}/progress", {"X-XSRFToken": self.xsrf}
        deadline = time.monotonic() + 20
        while True:
            with self.http.stream("GET", url, timeout=timeout, headers=headers) as reply:
                if reply.status_code == 400 and time.monotonic() < deadline:
                    time.sleep(0.1)  # while the hub clears a failed start away it is "not starting"; then it says why
                    continue
                assert reply.status_code == 200, (reply.read(), self.hub.tail())
                for line in reply.iter_lines():
                    if line.startswith("data:"):
                        events.append(json.loads(line[5:]))
                        if events[-1].get("ready") or events[-1].get("failed"):
                            break
            return events

    def run(self, server: str = "", **options: Any) -> list[dict[str, Any]]:
        """Start a server and wait for what comes of it."""
        reply = self.start(server, **options)
        assert reply.status_code in (201, 202), (reply.text, self.hub.tail())
        events = self.events(server)
        assert events[-1].get("ready"), (events, self.hub.tail())
        return events

    def refused(self, server: str = "", **options: Any) -> str:
        """Start a server that cannot start; returns what the person reads."""
        reply = self.start(server, **options)
        if reply.status_code not in (201, 202):
            return str(reply.json()["message"])
        last = self.events(server)[-1]
        assert last.get("failed"), last
        return re.sub(r"<[^>]+>", "", last["html_message"])

    def stop(self, server: str = "") -> None:
        assert self.api("DELETE", self.path(server)).status_code in (202, 204)
        deadline = time.monotonic() + 120
        while self.servers().get(server, {}).get("pending"):
            assert time.monotonic() < deadline, self.hub.tail()
            time.sleep(0.1)

    def servers(self) -> dict[str, Any]:
        return dict(self.api("GET", "/user").json()["servers"])

    def token(self, **body: Any) -> httpx.Response:
        return self.api("POST", f"/users/{quote(self.name)}/tokens", json=body)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove_everything(deployment: str) -> None:
    """A deployment's containers, volumes and networks."""
    import docker

    client = docker.from_env()
    mark = {"label": f"academyhub.deployment={deployment}"}
    deadline = time.monotonic() + 60
    while left := client.containers.list(all=True, filters=mark, ignore_removed=True):
        assert time.monotonic() < deadline, left
        for container in left:
            with contextlib.suppress(docker.errors.APIError):  # gone, or going: somebody else removes it too
                container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=mark):
        volume.remove(force=True)
    for found in client.networks.list(filters=mark):
        found.remove()
    client.close()
