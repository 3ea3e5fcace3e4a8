"""300 students hand in 1 MB each within a minute, and the service is killed five times under the same load.

``python -m benchmarks.exchange``. The service is the real process (``academy pages``), tokens are told apart by a real hub,
students use the client of the notebook image. Every student hands in at a random moment of 45 seconds, more load than
the measure asks for. Nothing may be lost: the content of every receipt is read back from the store and compared.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from academy.database import Database
from academy.network import free_port
from academy.people import Person, enrol
from academy.settings import Settings
from benchmarks import report
from benchmarks.small_hub import STAFF, STUDENT, SmallHub, small_hub, wait_until
from grading.exchange.client import Client, ClientError, Receipt
from grading.exchange.store import Store
from grading.records import Submission

STUDENTS = 300
BYTES = 1_000_000
SPREAD_SECONDS = 45.0
KILLS = 5
COURSE, UNIT = "bench", "arrays"


@dataclass
class Attempt:
    """One student's call, as the student saw it."""

    login: str
    seconds: float
    receipt: str = ""
    sha256: str = ""
    error: str = ""


class Service:
    """``academy pages`` as a process."""

    def __init__(self, settings: Settings, config: Path, folder: Path) -> None:
        self.settings, self.config = settings, config
        self.log = folder / "pages.log"
        self.url = f"http://127.0.0.1:{settings.hub.pages_port}/services/academy"

    def start(self) -> None:
        command = [str(Path(sys.executable).parent / "academy"), "pages"]
        with self.log.open("ab") as log:
            environment = {**os.environ, "ACADEMY_CONFIG": str(self.config)}
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        wait_until(f"{self.url}/health", self.process, self.log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Deployment:
    """One academy with its students."""

    settings: Settings
    service: Service
    hub: SmallHub
    tokens: dict[str, str]
    staff: str

    def client(self, login: str, patient: bool = True) -> Client:
        pauses = {} if patient else {"pauses": ()}
        return Client(f"{self.service.url}/api/v1", self.tokens[login], "en", **pauses)


@contextlib.contextmanager
def deployment(folder: Path, database_url: str = "") -> Iterator[Deployment]:
    folder.mkdir()
    config = folder / "academy.toml"
    ports = "\n".join(f"{key} = {free_port()}" for key in ("port", "hub_port", "pages_port", "proxy_api_port"))
    url = f'[database]\nurl = "{database_url}"\n' if database_url else ""
    config.write_text(
        f'[academy]\nname = "b{secrets.token_hex(3)}"\ndata = "{folder}/data"\n[hub]\n{ports}\n{url}'
        '[spawner]\nbackend = "local"\n[grading]\nbackend = "local"\n'
    )
    os.environ["ACADEMY_CONFIG"] = str(config)
    from academy import settings as settings_module

    settings = settings_module.load()
    logins = [f"student{number:03}" for number in range(STUDENTS)]
    database = Database(settings.database_url)
    database.upgrade()
    with database.write() as session:
        for login in [*logins, "teacher"]:
            person = Person(login=login, name=login)
            enrol(person, COURSE, "instructor" if login == "teacher" else "student")
            session.add(person)
    database.close()
    service = Service(settings, config, folder)
    with small_hub(settings, folder) as hub:
        tokens = hub.tokens(logins, STUDENT)
        staff = hub.tokens(["teacher"], STAFF)["teacher"]
        service.start()
        try:
            made = Deployment(settings, service, hub, tokens, staff)
            released = folder / "released"
            write_work(released, "teacher")
            Client(f"{service.url}/api/v1", staff, "en").release(COURSE, UNIT, released, "")
            yield made
        finally:
            service.kill()


def write_work(folder: Path, login: str) -> None:
    """A notebook, and a megabyte of data that does not compress."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = {"cells": [], "metadata": {"by": login}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "arrays.ipynb").write_text(json.dumps(notebook))
    (folder / "data.bin").write_bytes(secrets.token_bytes(BYTES))


def hand_in(academy: Deployment, folder: Path, login: str, patient: bool = True, key: str = "") -> Attempt:
    started = time.monotonic()
    try:
        receipt: Receipt = academy.client(login, patient).submit(COURSE, UNIT, folder / login, key=key)
    except ClientError as error:
        return Attempt(login, time.monotonic() - started, error=f"{error.key}: {error.text}")
    return Attempt(login, time.monotonic() - started, receipt.id, receipt.sha256)


def load(academy: Deployment, work: Path, patient: bool, keys: dict[str, str] | None = None) -> list[Attempt]:
    """Every student hands in once, at a random moment."""
    rng = random.Random(7)  # noqa: S311
    moments = {login: rng.uniform(0, SPREAD_SECONDS) for login in academy.tokens}
    begin = time.monotonic()

    def one(login: str) -> Attempt:
        time.sleep(max(0.0, begin + moments[login] - time.monotonic()))
        return hand_in(academy, work, login, patient, (keys or {}).get(login, ""))

    with ThreadPoolExecutor(STUDENTS) as pool:
        return list(pool.map(one, academy.tokens))


def lost(academy: Deployment, attempts: list[Attempt], work: Path) -> list[str]:
    """Receipts whose content is not in the store as it was sent, or that the database does not know."""
    store, database = Store(academy.settings), Database(academy.settings.database_url)
    missing = []
    with database.read() as session, tempfile.TemporaryDirectory() as scratch:
        for attempt in attempts:
            if not attempt.receipt:
                continue
            row = session.get(Submission, attempt.receipt)
            folder = Path(scratch, attempt.receipt)
            folder.mkdir()
            try:
                store.unpack(attempt.sha256, folder)
                sent = work / attempt.login
                same = all((folder / path.name).read_bytes() == path.read_bytes() for path in sent.iterdir())
            except Exception as error:
                missing.append(f"{attempt.receipt}: {error}")
                continue
            if not same or row is None or (row.login, row.sha256) != (attempt.login, attempt.sha256):
                missing.append(f"{attempt.receipt}: not what was sent")
            shutil.rmtree(folder)
    database.close()
    return missing


def measure(name: str, folder: Path, work: Path, database_url: str) -> dict[str, Any]:
    with deployment(folder, database_url) as academy:
        started, before = time.monotonic(), cpu_seconds(academy)
        attempts = load(academy, work, patient=True)
        wall = time.monotonic() - started
        cpu = {name: round(used - before[name], 2) for name, used in cpu_seconds(academy).items()}
        gone = lost(academy, attempts, work)
    failed = [attempt for attempt in attempts if attempt.error]
    seconds = [attempt.seconds for attempt in attempts]
    run = {
        "run": name,
        "students": len(attempts),
        "wall_s": round(wall, 2),
        "per_s": round(len(attempts) / wall, 2),
        "median_s": round(statistics.median(seconds), 3),
        "p99_s": round(report.percentile(seconds, 0.99), 3),
        "cpu_s": cpu,
        "lost": gone,
        "failed": [asdict(attempt) for attempt in failed],
    }
    print(f"{name}: {run['students']} in {run['wall_s']} s, median {run['median_s']} s, p99 {run['p99_s']} s, lost {len(gone)}")
    return run


def measure_kills(folder: Path, work: Path) -> dict[str, Any]:
    """The same load while the service is killed and started again; no student's client repeats anything by itself."""
    with deployment(folder) as academy:
        keys = {login: secrets.token_hex(16) for login in academy.tokens}
        kills: list[float] = []
        begin = time.monotonic()

        def murderer() -> None:
            rng = random.Random(11)  # noqa: S311
            for number in range(KILLS):
                moment = SPREAD_SECONDS * (number + rng.uniform(0.3, 0.9)) / KILLS
                time.sleep(max(0.0, begin + moment - time.monotonic()))
                academy.service.kill()
                kills.append(round(time.monotonic() - begin, 2))
                academy.service.start()

        thread = threading.Thread(target=murderer)
        thread.start()
        first = load(academy, work, patient=False, keys=keys)
        thread.join()
        failed = [attempt for attempt in first if not attempt.receipt]
        again = [hand_in(academy, work, attempt.login, key=keys[attempt.login]) for attempt in failed]
        attempts = [*first, *again]
        gone = lost(academy, attempts, work)
        silent = [attempt for attempt in attempts if not (attempt.receipt or attempt.error)]
        gone += [f"{attempt.login}: neither a receipt nor an error" for attempt in silent]
        gone += [f"{attempt.login}: still no receipt: {attempt.error}" for attempt in again if attempt.error]
        database = Database(academy.settings.database_url)
        with database.read() as session:
            counted = session.query(Submission).count()
        database.close()
        if counted != STUDENTS:
            gone.append(f"{counted} submissions of {STUDENTS} students")
    print(f"kills at {kills} s: {len(first) - len(failed)} receipts, {len(failed)} told of a failure, lost {len(gone)}")
    return {"run": "kills", "kills_at_s": kills, "receipts": len(first) - len(failed), "told": len(failed), "lost": gone}


def cpu_seconds(academy: Deployment) -> dict[str, float]:
    """What the processes have used since their start; the students' computers are this one, too."""
    used = {"students": time.process_time()}
    for name, pid in (("service", academy.service.process.pid), ("hub", academy.hub.process.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return used


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster for as long as the block runs; its URL."""
    binaries = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    folder = Path(tempfile.mkdtemp(prefix="academy-pg-", dir="/tmp"))
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *arguments: str) -> None:
        command = [*prefix, str(binaries / program), "-D", f"{folder}/db", *arguments]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    port = free_port()
    run("initdb", "-U", "academy", "--auth=trust", "-E", "UTF8")
    run("pg_ctl", "-l", f"{folder}/log", "-w", "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start")
    try:
        yield f"postgresql://academy@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="academy-bench-") as scratch:
        folder = Path(scratch)
        work = folder / "work"
        for number in range(STUDENTS):
            write_work(work / f"student{number:03}", f"student{number:03}")
        sqlite = measure("sqlite", folder / "sqlite", work, "")
        with postgresql() as url:
            postgres = measure("postgresql", folder / "postgresql", work, url)
        kills = measure_kills(folder / "kills", work)
    lines: list[report.Line] = [
        {"name": "lost_sqlite", "value": len(sqlite["lost"]) + len(sqlite["failed"]), "at_most": 0},
        {"name": "lost_postgresql", "value": len(postgres["lost"]) + len(postgres["failed"]), "at_most": 0},
        {"name": "lost_after_kills", "value": len(kills["lost"]), "at_most": 0},
        {"name": "p99_s", "value": max(sqlite["p99_s"], postgres["p99_s"]), "at_most": 5},
        {"name": "wall_s", "value": max(sqlite["wall_s"], postgres["wall_s"]), "at_most": 60},
    ]
    return report.write("exchange", [sqlite, postgres, kills], lines)


if __name__ == "__main__":
    raise SystemExit(main())
