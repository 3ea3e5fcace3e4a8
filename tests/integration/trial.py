"""`academy run` in a process group of its own, as a terminal starts it, and a person who signs in to it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import NO_MODEL, write_config

READY = "Ctrl-C"  # the end of what a start prints
START_SECONDS, STOP_SECONDS = 120, 60
LOCAL = {"backend": "local"}


class Trial:
    """An academy on processes of this machine, with all that it writes in ``folder``; ``sections`` as in ``academy.toml``."""

    def __init__(self, folder: Path, **sections: dict[str, Any]) -> None:
        self.folder, self.data, self.courses = folder, folder / "data", folder / "courses"
        self.courses.mkdir()
        sections["academy"] = {"courses": str(self.courses), **sections.get("academy", {})}
        self.config = write_config(folder, spawner=LOCAL, grading=LOCAL, **sections)
        self.output = folder / "output.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self, *arguments: str, **environment: str) -> None:
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "academy", "run", *arguments],
                cwd=self.folder,
                env=self._environment(environment),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self, *arguments: str, **environment: str) -> float:
        """Start it and wait until it is ready; returns the seconds that took."""
        began = time.monotonic()
        self.begin(*arguments, **environment)
        self.wait_for(READY)
        return time.monotonic() - began

    def wait_for(self, text: str) -> None:
        assert self.process
        deadline = time.monotonic() + START_SECONDS
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    @property
    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        found = re.search(r"http://127\.0\.0\.1:\d+", self.said)
        assert found, self.said
        return found[0]

    def password(self, login: str) -> str:
        """The password that the start printed for a demo person."""
        found = re.search(rf"^ .* {login} +(\S+)$", self.said, re.MULTILINE)
        assert found, self.said
        return found[1]

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to every process of the terminal's foreground group."""
        assert self.process
        os.killpg(self.process.pid, signal.SIGINT)

    def stop(self) -> int:
        """Ctrl-C, and wait for the end; returns the exit code."""
        self.interrupt()
        return self.ended()

    def ended(self) -> int:
        assert self.process
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        return code

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The ``academy`` command with this academy's settings."""
        return subprocess.run(
            [sys.executable, "-m", "academy", *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )

    def processes(self) -> dict[int, str]:
        """Every process that names this folder in its command, environment, working folder or open files."""
        mark = os.fsencode(self.folder) + b"/"
        found = {}
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
                command = (process / "cmdline").read_bytes()
                links = [os.readlink(link) for link in (process / "cwd", *(process / "fd").iterdir())]
                known = command + (process / "environ").read_bytes() + b"\0".join(os.fsencode(f"{link}/") for link in links)
                if mark in known:
                    found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def end(self) -> None:
        """Stop it if a test has left it running, and whatever a failed test left."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                self.stop()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        return {**os.environ, **NO_MODEL, "ACADEMY_CONFIG": str(self.config), "COLUMNS": "200", **changes}


class Visitor:
    """Somebody signed in with a password and a browser's cookies."""

    def __init__(self, url: str, login: str, password: str) -> None:
        self.login = login
        short = httpx.Limits(keepalive_expiry=2)  # the proxy hangs up after 5 s, perhaps in the middle of the next request
        headers = {"Sec-Fetch-Mode": "navigate"}
        self.http = httpx.Client(base_url=url, timeout=60, follow_redirects=True, headers=headers, limits=short)
        self.http.get("/hub/login")
        reply = self.http.post("/hub/login", data={"username": login, "password": password, "_xsrf": self._xsrf})
        assert reply.status_code == 200, reply.text
        self.home = reply.text

    @property
    def _xsrf(self) -> str:
        return next(str(cookie.value) for cookie in self.http.cookies.jar if (cookie.name, cookie.path) == ("_xsrf", "/hub/"))

    def token(self, *scopes: str) -> str:
        reply = self.http.post(
            f"/hub/api/users/{self.login}/tokens",
            json={"scopes": scopes},
            headers={"X-XSRFToken": self._xsrf, "Sec-Fetch-Mode": "cors"},
        )
        assert reply.status_code == 201, reply.text
        return str(reply.json()["token"])

    def close(self) -> None:
        self.http.close()
