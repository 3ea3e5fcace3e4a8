"""``academy health``: looks at every part, then does as a student does: a server, a notebook, a submission, a grade.

The probe is a person of its own (``academy-health``) in a course of its own that nobody else is in. What it leaves behind is
its home volume, the course's folder and its lines in the history.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import html
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from academy import images, network
from academy.database import Database
from academy.messages import AcademyError
from academy.people import Person, enrol
from academy.settings import Settings, SettingsError, docker_answers, load
from grading.exchange.store import Store
from grading.records import Feedback, Grade, Job, Release, Submission

PROBE = "academy-health"  # person and course
UNIT = "probe"
FREE_BYTES = 2 << 30
TIMEOUT = 180.0  # seconds for the whole probe; a healthy academy needs about 20
SYSTEMD = "journalctl -u academy-{part}; systemctl restart academy-{part}. With `make run`: data/logs/{part}.log"

COURSE_FILE = """title = { ko = "점검", en = "Health probe" }
units = [{ id = "probe", number = "0.1", title = { ko = "점검", en = "Health probe" }, hours = 0.1 }]
"""
UNIT_SOURCE = """# %% id="double" kind="solution"
def double(number):
    ### BEGIN SOLUTION
    return 2 * number
    ### END SOLUTION

# %% id="test-double" kind="test" points=1
assert double(21) == 42
"""
# What the probe runs in its server; nbgrader's commands are those of the Assignment List.
RUN = "print(sum(range(10)))"
SUBMIT = f"""
import pathlib, shutil, subprocess, sys
import nbformat

def nbgrader(*command):
    done = subprocess.run([sys.executable, "-m", "nbgrader", *command, "--course={PROBE}"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-800:])

shutil.rmtree("{PROBE}", ignore_errors=True)
nbgrader("fetch_assignment", "{UNIT}")
path = pathlib.Path("{PROBE}/{UNIT}/{UNIT}.ipynb")
notebook = nbformat.read(path, as_version=4)
for cell in notebook.cells:
    if cell.metadata.get("nbgrader", {{}}).get("grade_id") == "double":
        cell.source = "def double(number):\\n    return number + number"
nbformat.write(notebook, path)
nbgrader("submit", "{UNIT}")
print("submitted")
"""


@dataclass
class Check:
    """What was looked at, how long that took, and when it is not well why and what to do."""

    name: str
    ok: bool
    seconds: float
    reason: str = ""
    fix: str = ""


class Unhealthy(Exception):
    """A part is not well."""

    def __init__(self, reason: str, fix: str = "") -> None:
        self.reason, self.fix = reason, fix
        super().__init__(reason)


Report = Callable[[Check], None]
Look = Callable[[], None]


def examine(report: Report) -> list[Check]:
    """Make every check; the probe only where the others are well."""
    checks: list[Check] = []

    def look(name: str, looking: Look) -> bool:
        checks.append(_look(name, looking))
        report(checks[-1])
        return checks[-1].ok

    loaded: list[Settings] = []
    if not look("settings", lambda: loaded.append(load())):
        return checks
    settings = loaded[0]
    for name, looking in _parts(settings).items():
        look(name, looking)
    if all(check.ok for check in checks):
        with _alone(settings) as probe:
            for name, looking in probe.steps().items():
                if not look(name, looking):
                    break
            look("clean up", probe.clean_up)
    return checks


def _look(name: str, looking: Look) -> Check:
    began = time.monotonic()
    reason = fix = ""
    try:
        looking()
    except Unhealthy as problem:
        reason, fix = problem.reason, problem.fix
    except (SettingsError, AcademyError, OSError, httpx.HTTPError) as error:
        reason = str(error) or type(error).__name__
    except Exception as error:  # whatever it is, it is told and the other checks go on
        reason = f"{type(error).__name__}: {error}"
    return Check(name, not reason, round(time.monotonic() - began, 2), reason, fix)


# The parts


def _parts(settings: Settings) -> dict[str, Look]:
    looks: dict[str, Look] = {
        "owner": lambda: _owner(settings),
        "database": lambda: _database(settings),
        "disk": lambda: _disk(settings),
    }
    if settings.docker or settings.grading_docker:
        looks |= {"docker": _docker, "images": lambda: _images(settings)}
    return looks | {
        "hub": lambda: _hub(settings),
        "proxy": lambda: _proxy(settings),
        "pages": lambda: _pages(settings),
        "worker": lambda: _worker(settings),
    }


def _owner(settings: Settings) -> None:
    """Files that root makes here cannot be written by the services."""
    owner = settings.data.stat().st_uid
    if os.geteuid() not in (owner,):
        raise Unhealthy(
            f"{settings.data} belongs to the user with the id {owner}, and this command runs as {os.geteuid()}.",
            "Run it as the academy's user; on a server that Ansible made, /usr/local/bin/academy does.",
        )


def _database(settings: Settings) -> None:
    from alembic.script import ScriptDirectory

    database = Database(settings.database_url)
    try:
        with database.read() as session:
            at = session.scalar(text("SELECT version_num FROM alembic_version"))
    except Exception as error:
        raise Unhealthy(f"The database does not answer: {error}", "Check that it runs, and database.url.") from error
    finally:
        database.close()
    head = ScriptDirectory(str(Path(__file__).parent / "migrations")).get_current_head()
    if at != head:
        raise Unhealthy(f"The database is at version {at}, and the code at {head}.", "Run: academy prepare")


def _disk(settings: Settings) -> None:
    free = shutil.disk_usage(settings.data).free
    if free < FREE_BYTES:
        raise Unhealthy(
            f"{settings.data} has {free >> 20} MiB left.", "Remove old backups, unused images (docker image prune) or files."
        )


def _docker() -> None:
    if not docker_answers():
        raise Unhealthy("The Docker Engine does not answer.", "systemctl status docker; may this user use its socket?")


def _images(settings: Settings) -> None:
    tags = {images.image_tag(name, settings) for name in images.NAMES}
    tags |= {profile.image for profile in settings.profiles.values() if profile.image}
    if missing := sorted(tag for tag in tags if not images.exists(tag)):
        raise Unhealthy(f"Images are missing: {', '.join(missing)}.", "Run: academy images build")


def _hub(settings: Settings) -> None:
    fix = SYSTEMD.format(part="hub")
    try:
        reply = _client(settings).get(f"{network.hub_api_url(settings)}/users/{PROBE}")
    except httpx.HTTPError as error:
        raise Unhealthy(f"The hub does not answer at {network.hub_api_url(settings)}: {error}", fix) from error
    if reply.status_code not in (200, 404):
        raise Unhealthy(f"The hub answers {reply.status_code} to the health service's token.", fix)


def _proxy(settings: Settings) -> None:
    url = f"{_public(settings)}/hub/health"
    try:
        status = httpx.get(url, timeout=5).status_code
    except httpx.HTTPError as error:
        raise Unhealthy(f"The proxy does not answer at {url}: {error}", SYSTEMD.format(part="hub")) from error
    if status != 200:
        raise Unhealthy(f"The proxy answers {status} at {url}.", SYSTEMD.format(part="hub"))


def _pages(settings: Settings) -> None:
    for url in (f"{network.pages_url(settings)}/health", f"{_public(settings)}/services/academy/health"):
        try:
            status = httpx.get(url, timeout=10).status_code
        except httpx.HTTPError as error:
            raise Unhealthy(f"The pages do not answer at {url}: {error}", SYSTEMD.format(part="pages")) from error
        if status != 200:
            raise Unhealthy(f"The pages answer {status} at {url}.", SYSTEMD.format(part="pages"))


def _worker(settings: Settings) -> None:
    from grading.worker import alive

    if not alive(settings):
        raise Unhealthy("No grading worker runs on this machine.", SYSTEMD.format(part="worker"))


def _public(settings: Settings) -> str:
    """The proxy as this machine reaches it."""
    address = settings.hub.address
    return f"http://{'127.0.0.1' if address in ('', '0.0.0.0', '::') else address}:{settings.hub.port}"  # noqa: S104


def _client(settings: Settings) -> httpx.Client:
    return httpx.Client(headers={"Authorization": f"token {settings.secret('health-token')}"}, timeout=20)


# The probe


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[Probe]:
    """The probe, one at a time: the next waits until this one has cleaned up."""
    with open(settings.data / "health.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        probe = Probe(settings)
        try:
            yield probe
        finally:
            probe.close()


class Probe:
    """One visit of the probe person."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.database = Database(settings.database_url)
        self.http = _client(settings)
        self.deadline = time.monotonic() + TIMEOUT
        self.user = f"{network.hub_api_url(settings)}/users/{PROBE}"
        self.server = f"{_public(settings)}/user/{PROBE}"
        self.submission = ""

    def steps(self) -> dict[str, Look]:
        return {
            "release a unit": self.release,
            "start a server": self.start,
            "run a notebook": self.run,
            "fetch and submit": self.submit,
            "grade": self.grade,
            "stop the server": self.stop,
        }

    def close(self) -> None:
        self.http.close()
        self.database.close()

    def release(self) -> None:
        from grading import operations
        from grading.courses import build

        with tempfile.TemporaryDirectory() as folder:
            unit = Path(folder) / PROBE / UNIT
            unit.mkdir(parents=True)
            (unit.parent / "course.toml").write_text(COURSE_FILE, encoding="utf-8")
            (unit / f"{UNIT}.py").write_text(UNIT_SOURCE, encoding="utf-8")
            section = self.settings.academy.model_copy(update={"courses": Path(folder)})
            build.build(self.settings.model_copy(update={"academy": section}), PROBE)
        with self.database.write() as session:
            person = session.get(Person, PROBE) or Person(login=PROBE, name="Health probe")
            session.add(person)
            enrol(person, PROBE, "student")
            operations.release_unit(session, self.settings, PROBE, UNIT, None, PROBE)

    def start(self) -> None:
        made = self.http.post(self.user)
        if made.status_code not in (201, 409):
            raise Unhealthy(f"The hub does not make the user {PROBE}: {made.status_code} {made.text[:200]}")
        reply = self.http.post(f"{self.user}/server", json={})
        if reply.status_code not in (201, 202) and "already running" not in reply.text:
            raise Unhealthy(f"The server does not start: {_said(reply)}", "Look it up in docs/errors.md.")
        event = self._progress()
        if not event.get("ready"):
            reason = re.sub(r"<[^>]+>", "", html.unescape(str(event.get("html_message") or event.get("message") or event)))
            raise Unhealthy(f"The server does not start: {reason}", "Look it up in docs/errors.md.")

    def _progress(self) -> dict[str, Any]:
        """The last event of a start: ready or failed."""
        event: dict[str, Any] = {}
        with self.http.stream("GET", f"{self.user}/server/progress", timeout=self._left()) as reply:
            for line in reply.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    if event.get("ready") or event.get("failed"):
                        break
        return event

    def run(self) -> None:
        printed = self._execute(RUN)
        if printed.strip() != "45":
            raise Unhealthy(f"The notebook printed {printed!r} instead of 45.")

    def submit(self) -> None:
        began = time.time()
        self._execute(SUBMIT)
        with self.database.read() as session:
            newest = select(Submission).where(Submission.login == PROBE).order_by(Submission.received_at.desc()).limit(1)
            found = session.scalar(newest)
        if found is None or found.received_at.timestamp() < began - 1:
            raise Unhealthy("nbgrader submitted, but the database has no submission.", SYSTEMD.format(part="pages"))
        self.submission = found.id

    def grade(self) -> None:
        from grading import operations

        for ask in (operations.request_grading, operations.request_feedback):
            with self.database.write() as session:
                jobs = [job.id for job in ask(session, PROBE, UNIT, PROBE)]
            for job in jobs:
                self._wait(job)
        with self.database.read() as session:
            score = session.get(Grade, self.submission)
            released = session.get(Feedback, self.submission)
        if score is None or (score.score, score.max_score) != (1, 1):
            shown = f"{score.score:g} of {score.max_score:g}" if score else "none"
            raise Unhealthy(f"The score is {shown} instead of 1 of 1.", SYSTEMD.format(part="worker"))
        if released is None:
            raise Unhealthy("The submission was graded, but there is no feedback.", SYSTEMD.format(part="worker"))

    def _wait(self, job_id: str) -> None:
        while self._left() > 0:
            with self.database.read() as session:
                job = session.get_one(Job, job_id)
            if job.state == "done":
                return
            if job.state in ("failed", "cancelled"):
                raise Unhealthy(f"The worker's job {job.kind} {job.state}: {job.error}", SYSTEMD.format(part="worker"))
            time.sleep(0.1)
        raise Unhealthy(f"The worker did not do its job in {TIMEOUT:g} s.", SYSTEMD.format(part="worker"))

    def stop(self) -> None:
        self.http.delete(f"{self.user}/server")
        while self._left() > 0:
            reply = self.http.get(self.user)
            if reply.status_code == 404 or not reply.json()["servers"]:
                return
            time.sleep(0.1)
        raise Unhealthy(f"The server did not stop in {TIMEOUT:g} s.", SYSTEMD.format(part="hub"))

    def clean_up(self) -> None:
        """Take everything away that people could see or that would pile up."""
        self.deadline = time.monotonic() + 30
        if self.http.get(self.user).status_code == 200:
            self.stop()
            self.http.delete(self.user)
        with self.database.write() as session:
            files = self._files(session)
            mine = select(Submission.id).where(Submission.course == PROBE)
            session.execute(delete(Job).where(Job.course == PROBE))
            for table in (Grade, Feedback):
                session.execute(delete(table).where(table.submission_id.in_(mine)))
            session.execute(delete(Submission).where(Submission.course == PROBE))
            session.execute(delete(Release).where(Release.course == PROBE))
            if person := session.get(Person, PROBE):
                session.delete(person)
            session.flush()
            others = {*session.scalars(select(Submission.sha256)), *session.scalars(select(Feedback.sha256))}
        store = Store(self.settings)
        for sha256 in files - others:
            with contextlib.suppress(AcademyError):
                store.path(sha256).unlink()

    def _files(self, session: Session) -> set[str]:
        """What the probe's rows name in the store; its release stays, which is the same at every visit."""
        feedback = select(Feedback.sha256).join(Submission, Feedback.submission_id == Submission.id)
        return {
            *session.scalars(select(Submission.sha256).where(Submission.course == PROBE)),
            *session.scalars(feedback.where(Submission.course == PROBE)),
        }

    def _left(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def _execute(self, code: str) -> str:
        """Run code in a new kernel of the server; returns what it printed."""
        try:
            kernel = self.http.post(f"{self.server}/api/kernels", json={"name": "python3"}).raise_for_status().json()["id"]
            return asyncio.run(asyncio.wait_for(self._talk(kernel, code), max(1.0, self._left())))
        except TimeoutError as error:
            raise Unhealthy(f"The notebook's kernel did not answer in {TIMEOUT:g} s.") from error

    async def _talk(self, kernel: str, code: str) -> str:
        session, message = secrets.token_hex(8), secrets.token_hex(8)
        url = f"{self.server.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?session_id={session}"
        token = {"Authorization": self.http.headers["Authorization"]}
        socket = await websocket_connect(HTTPRequest(url, headers=token, request_timeout=30))
        header = {"msg_id": message, "username": PROBE, "session": session, "msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        parts = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []}
        await socket.write_message(json.dumps(parts))
        printed, failure = "", ""
        try:
            while (raw := await socket.read_message()) is not None:
                reply = json.loads(raw)
                if reply["parent_header"].get("msg_id") != message:
                    continue
                kind, said = reply["msg_type"], reply["content"]
                if kind == "stream":
                    printed += said["text"]
                elif kind == "error":
                    failure = f"{said['ename']}: {said['evalue']}"
                elif kind == "status" and said["execution_state"] == "idle":
                    break
        finally:
            socket.close()
        if failure:
            raise Unhealthy(f"In the probe's notebook: {failure}", "Look it up in docs/errors.md.")
        return printed


def _said(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["message"])
    except (ValueError, KeyError):
        return f"{reply.status_code} {reply.text[:200]}"
