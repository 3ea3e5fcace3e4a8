"""``academy pool``: what nobody waits for has to happen too. Every few seconds: who vanished, who is idle, who has to go.

The containers' labels are the truth after a crash: a lease without a container is given back, a container without a lease gets
one or is stopped, and whoever waited when the hub died is put back where they stood.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import quote

import httpx
import psutil
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from academy import storage
from academy.database import Database, now
from academy.gpus import LABEL, inventory, pool
from academy.gpus.inventory import Device
from academy.gpus.records import Booking, Held, Lease, Wait
from academy.network import hub_api_url
from academy.people import members
from academy.settings import Settings
from academy.vouchers import ledger
from grading.records import Job

log = logging.getLogger(__name__)

PERIOD = 5.0  # seconds
MINUTE = timedelta(minutes=1)
STARTING = timedelta(seconds=60)  # beyond a start's own limit: then a lease that has no container is given back
AWAY = timedelta(seconds=15)  # since a hub looked after somebody who waits: it has ended, and they are asked for again
EARLY = timedelta(minutes=5)  # before a lesson that wants its servers started
STOPS = 8  # servers that the hub is asked to stop at the same time: it may take 10 s to answer


class Watch:
    """One look at a time; what it remembers may be lost."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        token = settings.secret("pool-token")
        self.hub = httpx.Client(base_url=hub_api_url(settings), headers={"Authorization": f"token {token}"}, timeout=10)
        self.minute = self.looked_at = datetime.min.replace(tzinfo=now().tzinfo)
        self.worked: dict[int, float] = {}  # PID on a device that tells no use -> seconds of CPU

    def look(self) -> None:
        devices, at = inventory.devices(self.settings), now()
        with self.database.read() as session:
            if not devices and not session.scalar(select(func.count()).select_from(Held)):
                return
            live = session.execute(select(Lease.id, Lease.container).where(Lease.holder.is_not(None)))
            before = {lease_id: container for lease_id, container in live}
        self.reconcile(before, at)
        with self.database.write() as session:
            self.runs(session, at)
            self.idle(session, devices, at)
            if at - self.minute >= MINUTE:
                self.minute = at
                self.every_minute(session, devices, at)
            pool.settle(session, self.settings, devices, at)
            due = select(Lease).where(Lease.holder.is_not(None), Lease.ends_at <= at, Lease.purpose == "server")
            ending = list(session.scalars(due))
            away = select(Wait).where(Wait.seen_at < at - AWAY, Wait.purpose == "server", Wait.refused == "")
            back = [(wait.login, wait.server, wait.profile, wait.voucher_id) for wait in session.scalars(away)]
            early = self.early(session, at)
        self.stop(ending)
        for login, server, profile, voucher in back:
            self.start(login, server, {"profile": profile, **({"voucher": voucher} if voucher else {})})
        for profile, places, students in early:  # who has never signed in, or whose server runs, takes no place
            asked = (self.start(login, "", {"profile": profile}) for login in students)
            next(islice((done for done in asked if done), places - 1, None), None)

    def reconcile(self, before: Mapping[str, str | None], at: datetime) -> None:
        """Compare leases with what runs.

        Docker tells that some time before the database lets us write. What began or ended since is left to the next look.

        Args:
            before: of each lease that was held before Docker was asked, its container.
        """
        try:
            running = _containers(self.settings) if self.settings.docker else {}
        except OSError as error:
            log.warning("Docker does not say what runs: %s", error)
            return
        limit = timedelta(seconds=self.settings.spawner.start_timeout) + STARTING
        with self.database.write() as session:
            for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None), Lease.purpose == "server")):
                if lease.id in running:
                    del running[lease.id]
                elif lease.container and lease.container.startswith("pid:"):
                    if not psutil.pid_exists(int(lease.container[4:])):
                        self.released(session, lease, at)
                elif before.get(lease.id) == lease.container and (lease.container or at - lease.granted_at > limit):
                    self.released(session, lease, at)
            over = {lease_id: container for lease_id, container in running.items() if lease_id not in before}
            strays = [container["Id"] for lease_id, container in over.items() if not self.adopt(session, lease_id, container)]
        for stray in strays:  # no transaction waits for Docker
            _remove(stray)

    def runs(self, session: Session, at: datetime) -> None:
        """Graded runs keep their places and GPUs as long as somebody wants them graded; a worker that died fetches its own."""
        states = select(Job.state).where(Job.id == Wait.server).scalar_subquery()
        for wait, state in session.execute(select(Wait, states).where(Wait.purpose == "grading")):
            if state in ("queued", "running"):
                wait.seen_at = at
            else:
                session.delete(wait)
        states = select(Job.state).where(Job.id == Lease.server).scalar_subquery()
        for lease, state in session.execute(select(Lease, states).where(Lease.holder.is_not(None), Lease.purpose == "grading")):
            waits = state == "queued" and at - (lease.started_at or lease.granted_at) < STARTING
            if state != "running" and not waits:
                pool.release(session, lease.id, "vanished", at)

    def released(self, session: Session, lease: Lease, at: datetime) -> None:
        log.warning("%s: the server of %s is gone; its GPU is free again", lease.id, lease.holder)
        pool.release(session, lease.id, "vanished", at)

    def adopt(self, session: Session, lease_id: str, container: dict[str, Any]) -> bool:
        """A container that has a device though its lease has ended gets it back if nobody else holds it; else it has to go."""
        lease = session.get(Lease, lease_id)
        holder = pool.holder_of(lease.login, lease.server) if lease else ""
        taken = set(session.scalars(select(Held.share).where(Held.device == lease.device))) if lease else set()
        free = [share for share in range(lease.of_shares) if share not in taken] if lease else []
        if lease is None or len(free) < lease.shares or pool.lease_of(session, holder) is not None or lease.voucher_id:
            log.error("%s holds a GPU without a lease; it is stopped", container["Names"][0])
            return False
        log.warning("%s: adopted the running server of %s", lease.id, holder)
        lease.holder, lease.released_at, lease.released_why, lease.container = holder, None, "", container["Id"]
        session.flush()
        session.add_all(Held(device=lease.device, share=share, lease_id=lease.id) for share in free[: lease.shares])
        return True

    def idle(self, session: Session, devices: Sequence[Device], at: datetime) -> None:
        """Who uses their GPU, by its processes; who has not for long is told, then has to go."""
        samples, used = inventory.sample(devices), inventory.busy(devices)
        percent, worked = self.settings.gpus.idle_percent, dict[int, float]()
        for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None), Lease.purpose == "server")):
            sample, profile = samples.get(lease.device), self.settings.profiles.get(lease.profile)
            if sample is None or profile is None or not lease.container:
                continue  # nobody can say whether it works: it is left alone
            theirs = [pid for pid in {*sample.processes, *used.get(lease.device, ())} if self.belongs(pid, lease)]
            busy = any(used.get(lease.device, {}).get(pid, 0) > percent for pid in theirs)
            if lease.shares == lease.of_shares and sample.utilisation is not None:
                busy |= sample.utilisation > percent
            elif lease.device not in used:  # the driver does not tell: then whether they have worked at all
                worked |= {pid: _cpu_seconds(pid) for pid in theirs}
                spent = sum(worked[pid] - self.worked.get(pid, 0.0) for pid in theirs)
                busy |= spent > (at - self.looked_at).total_seconds() * percent / 100
            if busy:
                lease.busy_at = at
                if lease.ends_why == "idle":
                    lease.ends_at, lease.ends_why = None, ""
            elif profile.idle_minutes and lease.ends_at is None:
                since = at - (lease.busy_at or lease.granted_at)
                if since > timedelta(minutes=profile.idle_minutes):
                    lease.ends_at, lease.ends_why = at + timedelta(minutes=self.settings.gpus.idle_grace_minutes), "idle"
        self.worked, self.looked_at = worked, at

    def belongs(self, pid: int, lease: Lease) -> bool:
        """Whether a process runs in the lease's server."""
        if lease.container and lease.container.startswith("pid:"):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                return int(lease.container[4:]) in (pid, *(parent.pid for parent in process.parents()))
            return False
        return inventory.container_of(pid) == lease.container

    def every_minute(self, session: Session, devices: Sequence[Device], at: datetime) -> None:
        """The devices' figures, the vouchers' account."""
        readings = {uuid: (sample.utilisation, sample.memory_mb) for uuid, sample in inventory.sample(devices).items()}
        pool.note(session, readings, at)
        grace = timedelta(minutes=self.settings.gpus.voucher_grace_minutes)
        for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None), Lease.voucher_id.is_not(None))):
            standing = ledger.charge(session, lease.id, at)
            empty_at = standing.empty_at
            if lease.weight and not standing.free:  # so that it ends on time, not at the charge after
                empty_at = empty_at or at + standing.held // lease.weight * ledger.MS
            if empty_at and empty_at <= at + 2 * MINUTE:
                until = empty_at + grace
                if lease.ends_at is None or lease.ends_why == "voucher" or until < lease.ends_at:
                    lease.ends_at, lease.ends_why = until, "voucher"
            elif lease.ends_why == "voucher":  # there is more on it again
                lease.ends_at, lease.ends_why = None, ""
        ledger.expire(session, at)

    def early(self, session: Session, at: datetime) -> list[tuple[str, int, list[str]]]:
        """Lessons that want their servers started now, once: profile, places, the students."""
        wanted = (
            Booking.profile != "",
            Booking.starts_at > at,
            Booking.starts_at <= at + EARLY,
            Booking.cancelled_at.is_(None),
        )
        lessons = []
        for booking in session.scalars(select(Booking).where(*wanted)):
            students = [person.login for person in members(session, booking.course, "student")]
            lessons.append((booking.profile, booking.places, students))
            booking.profile = ""
        return lessons

    def start(self, login: str, server: str, options: dict[str, str]) -> bool:
        return self._order("POST", login, server, options)

    def stop(self, leases: Sequence[Lease]) -> None:
        """The hub stops the servers, and its spawner gives the devices back."""
        with ThreadPoolExecutor(STOPS) as threads:
            for lease in leases:
                log.info("%s: the GPU of %s is taken (%s)", lease.id, lease.holder, lease.ends_why)
            list(threads.map(lambda lease: self._order("DELETE", lease.login, lease.server, None), leases))

    def _order(self, method: str, login: str, server: str, options: dict[str, str] | None) -> bool:
        path = f"/users/{quote(login)}/servers/{quote(server)}" if server else f"/users/{quote(login)}/server"
        try:
            reply = self.hub.request(method, path, json=options)
        except httpx.HTTPError as error:
            log.warning("The hub does not answer: %s", error)
            return False
        if reply.status_code >= 400:
            log.warning("The hub refuses %s %s: %s", method, path, reply.text[:300])
        return reply.status_code < 400


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def _containers(settings: Settings) -> dict[str, dict[str, Any]]:
    """Lease -> this deployment's running container that has a device by it."""
    import docker

    label = f"academyhub.deployment={settings.academy.name}"
    try:
        client = docker.from_env(timeout=10)
        with contextlib.closing(client):
            found = client.api.containers(all=True, filters={"label": [label, LABEL]})
    except docker.errors.DockerException as error:
        raise OSError(str(error)) from error
    return {one["Labels"][LABEL]: one for one in found if one["State"] not in ("exited", "dead", "removing")}


def _remove(container: str) -> None:
    import docker

    failures = (docker.errors.DockerException, OSError)  # if it stays, the next look meets it again
    with contextlib.suppress(*failures), contextlib.closing(docker.from_env(timeout=30)) as client:
        client.api.remove_container(container, force=True, v=True)


def main(settings: Settings) -> None:
    """Look every few seconds until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stopped = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.append(True))
    database = Database(settings.database_url)
    watch = Watch(settings, database)
    threading.Thread(target=storage.keep, args=(settings, database, lambda: bool(stopped)), daemon=True).start()
    while not stopped:
        began = time.monotonic()
        try:
            watch.look()
        except Exception:
            log.exception("A look failed; the next is in %g s", PERIOD)
        while not stopped and time.monotonic() - began < PERIOD:
            time.sleep(0.1)
    database.close()
