"""People, a real hub and the pool's keeper share two declared GPUs: the line, a hub that is killed, a lesson, a deserted GPU.

The GPUs are declared in the settings: which person holds which is real, that something computes on them is not shown here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from academy.database import Database, now
from academy.gpus import booking, inventory
from academy.gpus.records import Booking, Held, Lease, Wait
from academy.network import hub_api_url
from academy.people import Person, enrol
from academy.settings import Settings
from tests.conftest import until
from tests.integration.hub import Hub, Visitor

UUIDS = ["GPU-aaaa", "GPU-bbbb"]
TITLE = {"ko": "GPU", "en": "GPU"}


@pytest.fixture
def hub(config: Callable[..., Settings], request: pytest.FixtureRequest) -> Iterator[Hub]:
    shares = getattr(request, "param", 1)
    settings = config(
        spawner={"backend": "local"},
        gpus={"devices": [{"uuid": uuid, "model": "H100", "memory_mb": 81920, "shares": shares} for uuid in UUIDS]},
        profiles={"cpu": {"title": TITLE}, "gpu": {"title": TITLE, "gpu": "share" if shares > 1 else "whole", "hours": 1}},
    )
    running = Hub(settings)
    keeper = subprocess.Popen([sys.executable, "-m", "academy", "pool"], env={**os.environ, "PYTHONUNBUFFERED": "1"})
    yield running
    print(running.tail(80))  # shown where a test failed
    keeper.terminate()
    keeper.wait(60)
    running.stop()


@contextlib.contextmanager
def transaction(hub: Hub) -> Iterator[Any]:
    database = Database(hub.settings.database_url)
    with database.write() as session:
        yield session
    database.close()


def holders(hub: Hub) -> dict[str, str]:
    """Who has which device."""
    with transaction(hub) as session:
        pairs = select(Lease.login, Held.device).join(Held, Held.lease_id == Lease.id)
        return {login: device for login, device in session.execute(pairs)}


class Waiting:
    """Somebody who looks at the page of a start that is not over."""

    def __init__(self, visitor: Visitor, **options: Any) -> None:
        self.visitor, self.events = visitor, []  # type: tuple[Visitor, list[dict[str, Any]]]
        reply = visitor.start(**options)
        assert reply.status_code in (201, 202), reply.text
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()

    def _look(self) -> None:
        with contextlib.suppress(Exception):  # the hub may be killed
            self.visitor.events(events=self.events)

    def done(self) -> dict[str, Any]:
        self.thread.join(150)
        assert self.events, self.visitor.hub.tail()
        return self.events[-1]


def server_of(hub: Hub, login: str) -> psutil.Process:
    """The process of somebody's server."""
    mine = {"JUPYTERHUB_USER": login, "JUPYTERHUB_API_URL": hub_api_url(hub.settings)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mine.items() <= process.environ().items() and any("server.py" in part for part in process.cmdline()):
                return process
    raise AssertionError(f"{login} has no server")


def device_of(visitor: Visitor) -> str:
    """What a server's process sees of the GPUs."""
    return server_of(visitor.hub, visitor.name).environ()["CUDA_VISIBLE_DEVICES"]


def test_three_people_and_two_gpus(hub: Hub) -> None:
    alice, bob, third = (hub.login(name) for name in ("alice", "bob", "홍길동"))
    alice.run(profile="gpu")
    bob.run(profile="gpu")
    assert sorted(holders(hub).values()) == UUIDS
    assert {name: device_of(who) for name, who in (("alice", alice), ("bob", bob))} == holders(hub)

    waiting = Waiting(third, profile="gpu")
    until(lambda: hub_waits(hub) == ["홍길동"])
    time.sleep(1.5)
    assert third.servers()[""]["pending"] == "spawn"
    alice.stop()
    assert waiting.done().get("ready"), waiting.events
    said = next(event for event in waiting.events if event.get("waiting"))
    assert "1명 가운데 1번째" in said["message"]
    assert said["without"] == "cpu"
    assert set(holders(hub)) == {"bob", "홍길동"}
    assert device_of(third) == holders(hub)["홍길동"] != holders(hub)["bob"]

    again = Waiting(alice, profile="gpu")
    until(lambda: hub_waits(hub) == ["alice"] and again.events)
    alice.stop()  # out of the line
    again.done()
    until(lambda: hub_waits(hub) == [] and alice.servers() == {})
    alice.run(profile="cpu")  # one click: without a GPU now
    assert set(holders(hub)) == {"bob", "홍길동"}


def waits(hub: Hub) -> list[Wait]:
    with transaction(hub) as session:
        return list(session.scalars(select(Wait).order_by(Wait.asked_at)))


def hub_waits(hub: Hub) -> list[str]:
    return [wait.login for wait in waits(hub)]


def test_a_killed_hub_gives_no_gpu_twice_and_keeps_places(hub: Hub) -> None:
    alice, bob, third, fourth = (hub.login(name) for name in ("alice", "bob", "홍길동", "founder"))
    alice.run(profile="gpu")
    bob.run(profile="gpu")
    Waiting(third, profile="gpu")
    until(lambda: hub_waits(hub) == ["홍길동"])
    Waiting(fourth, profile="gpu")
    until(lambda: hub_waits(hub) == ["홍길동", "founder"])
    before = holders(hub)
    hub.kill()
    assert hub_waits(hub) == ["홍길동", "founder"]
    hub.restart()
    restarted = now()
    assert holders(hub) == before
    third = hub.login("홍길동")
    until(lambda: third.servers().get("", {}).get("pending") == "spawn")  # asked for again by the keeper
    until(lambda: all(wait.seen_at > restarted for wait in waits(hub)))  # whoever is not back yet is passed over
    assert hub_waits(hub) == ["홍길동", "founder"]
    hub.login("bob").stop()
    until(lambda: third.servers().get("", {}).get("ready"))
    assert holders(hub) == {"alice": before["alice"], "홍길동": before["bob"]}

    server_of(hub, "alice").kill()  # a server that vanishes gives its GPU back, and the next in the line has it
    until(lambda: set(holders(hub)) == {"홍길동", "founder"})


@pytest.mark.parametrize("hub", [5], indirect=True)
def test_a_class_of_ten_has_its_gpus_at_the_hour(hub: Hub) -> None:
    """Ten places, two of them taken by outsiders: their servers are moved off, the class's are started beforehand."""
    outsiders = [hub.login("founder"), hub.login("홍길동")]
    for outsider in outsiders:
        outsider.run(profile="gpu")
    students = [f"s{number}" for number in range(10)]
    with transaction(hub) as session:
        for login in students:
            session.add(Person(login=login, name=login))
            enrol(session.get_one(Person, login), "demo", "student")
        begin, devices = now() + timedelta(minutes=10), inventory.devices(hub.settings)
        place = (hub.settings, devices, "demo", "share", 10, begin, begin + timedelta(hours=1), "teacher", now())
        [lesson] = booking.book(session, *place, profile="gpu")
        lesson_id = lesson.id
    visitors = [hub.login(login) for login in students]
    until(lambda: ends(hub).keys() == {"founder", "홍길동"})
    with transaction(hub) as session:  # the clock goes on
        session.get_one(Booking, lesson_id).starts_at = begin = now() + timedelta(minutes=4.9)
        for lease in session.scalars(select(Lease).where(Lease.ends_why == "booked")):
            lease.ends_at = now()
    until(lambda: set(holders(hub)) == set(students), 150)
    assert hub_waits(hub) == []
    until(lambda: all(visitor.servers().get("", {}).get("ready") for visitor in visitors))
    with transaction(hub) as session:
        leases = session.scalars(select(Lease).where(Lease.login.in_(students))).all()
        assert all(lease.granted_at < begin for lease in leases)
    assert now() < begin
    for visitor in visitors:
        visitor.stop()


def test_a_lesson_moves_an_outsider_off_and_a_deserted_lease_is_taken_back(hub: Hub) -> None:
    outsider, student = hub.login("founder"), hub.login("alice")
    outsider.run(profile="gpu")
    hub.login("홍길동").run(profile="gpu")
    with transaction(hub) as session:
        begin = now() + timedelta(minutes=10)
        devices = inventory.devices(hub.settings)
        [lesson] = booking.book(
            session, hub.settings, devices, "demo", "whole", 2, begin, begin + timedelta(hours=1), "teacher", now()
        )
        lesson_id = lesson.id
    until(lambda: ends(hub).keys() == {"founder", "홍길동"})
    assert set(ends(hub).values()) == {("booked", begin)}
    waiting = Waiting(student, profile="gpu")
    with transaction(hub) as session:  # the clock goes on
        session.get_one(Booking, lesson_id).starts_at = now()
        for lease in session.scalars(select(Lease).where(Lease.ends_why == "booked")):
            lease.ends_at = now()
    assert waiting.done().get("ready"), waiting.events
    until(lambda: outsider.servers() == {} and set(holders(hub)) == {"alice"})  # one of the two is off before the other

    with transaction(hub) as session:  # a grant whose hub died before it started anything
        lost = now() - timedelta(seconds=hub.settings.spawner.start_timeout + 120)
        session.add(
            Lease(
                id="lost", device=UUIDS[0], shares=1, of_shares=1, holder="x/", login="x", server="", purpose="server",
                profile="gpu", tier=2, granted_at=lost,
            )
        )  # fmt: skip
        session.flush()
        taken = {device for device in holders_in(session)}
        session.add(Held(device=next(uuid for uuid in UUIDS if uuid not in taken), share=0, lease_id="lost"))
    until(lambda: set(holders(hub)) == {"alice"})


def holders_in(session: Any) -> list[str]:
    return list(session.scalars(select(Held.device)))


def ends(hub: Hub) -> dict[str, tuple[str, Any]]:
    with transaction(hub) as session:
        live = select(Lease).where(Lease.holder.is_not(None), Lease.ends_at.is_not(None))
        return {lease.login: (lease.ends_why, lease.ends_at) for lease in session.scalars(live)}
