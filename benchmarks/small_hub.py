"""A real hub that only says whose a token is: JupyterHub in a process of its own, without a proxy and without servers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from academy.settings import Settings

STUDENT = ["access:services!service=academy"]
STAFF = [*STUDENT, "custom:academy:staff"]
ADMIN_TOKEN = "small-hub-" + "0" * 32  # of a hub that lives for a test, on loopback

CONFIG = """
from jupyterhub.proxy import Proxy


class NoProxy(Proxy):
    should_start = False

    async def add_route(self, routespec, target, data):
        pass

    async def delete_route(self, routespec):
        pass

    async def get_all_routes(self):
        return {{}}


c = get_config()
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = {hub_port}
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie-secret"
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.log_level = "WARN"
c.JupyterHub.custom_scopes = {{"custom:academy:staff": {{"description": "Act as staff."}}}}
c.JupyterHub.services = [{{"name": "academy", "api_token": "{token}x"}}, {{"name": "admin", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "user", "scopes": ["self", "access:services!service=academy", "custom:academy:staff"]}},
    {{
        "name": "admin-service",
        "scopes": ["admin:users", "tokens", "access:services", "custom:academy:staff"],
        "services": ["admin"],
    }},
]
"""


class SmallHub:
    """The process, and tokens of its people."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{settings.hub.hub_port}/hub/api"
        config = folder / "hub_config.py"
        config.write_text(
            CONFIG.format(port=settings.hub.port, hub_port=settings.hub.hub_port, folder=folder, token=ADMIN_TOKEN)
        )
        self.log = folder / "hub.log"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "jupyterhub", "--config", str(self.folder / "hub_config.py")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTERHUB_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )
        wait_until(f"{self.url}/", self.process, self.log)

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tokens(self, logins: Iterable[str], scopes: list[str]) -> dict[str, str]:
        """Make people and a token for each."""
        names = list(logins)
        with httpx.Client(base_url=self.url, headers={"Authorization": f"token {ADMIN_TOKEN}"}, timeout=60) as client:
            reply = client.post("/users", json={"usernames": names})
            assert reply.status_code in (201, 409), reply.text

            def token(name: str) -> str:
                made = client.post(f"/users/{name}/tokens", json={"scopes": scopes})
                assert made.status_code == 201, made.text
                return str(made.json()["token"])

            with ThreadPoolExecutor(4) as pool:
                return dict(zip(names, pool.map(token, names), strict=True))


@contextlib.contextmanager
def small_hub(settings: Settings, folder: Path) -> Iterator[SmallHub]:
    hub = SmallHub(settings, folder)
    try:
        yield hub
    finally:
        hub.stop()


def wait_until(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    """Until a process that was started answers.

    Raises:
        RuntimeError: it ended, or does not answer in time; the message holds the end of its log.
    """
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=5, trust_env=False).status_code < 500:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer:\n{log.read_text(errors='replace')[-3000:]}")
