"""The GPU pool in the database: nobody shares a share, the line is kept, what was given comes back."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from hypothesis import given
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from academy.database import Base, Database
from academy.gpus import booking, inventory, pool, watch
from academy.gpus.inventory import Device
from academy.gpus.line import Line
from academy.gpus.plan import Waiting, decide
from academy.gpus.records import Booking, Held, Lease, Reading, Wait
from academy.messages import AcademyError
from academy.people import Enrollment, Person
from academy.settings import Profile, Settings, Text
from academy.vouchers import ledger
from academy.vouchers.records import Entry

T0 = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # a Monday, 10:00 in Seoul
MINUTE = timedelta(minutes=1)
TITLE = Text(ko="", en="")
WHOLE = Profile(title=TITLE, gpu="whole", idle_keeps=2, hours=6)
SHARE = Profile(title=TITLE, gpu="share", hours=6)
DEVICES = [Device("GPU-0", "H100", 81920), Device("GPU-1", "H100", 81920)]
CUT = [Device("GPU-c", "A10", 24576, shares=4)]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path}/a.sqlite" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    database = Database(url)
    database.upgrade()
    yield database
    database.close()


@pytest.fixture
def settings(config: Callable[..., Settings]) -> Settings:
    return config(profiles={"gpu": WHOLE.model_dump(), "share": SHARE.model_dump()})


def person(login: str, course: str = "", role: str = "student", academy_role: str | None = None) -> Person:
    enrolled = [Enrollment(course=course, role=role)] if course else []
    return Person(login=login, name=login, role=academy_role, enrollments=enrolled)


class World:
    """A pool, a clock, and people who come and go."""

    def __init__(self, db: Database, settings: Settings, devices: list[Device]) -> None:
        self.db, self.settings, self.devices, self.now = db, settings, devices, T0

    def ask(self, who: Person, profile: str = "gpu", server: str = "") -> Lease | None:
        with self.db.write() as session:
            pool.ask(session, self.settings, who, server, profile, self.now)
            pool.settle(session, self.settings, self.devices, self.now)
        return self.lease(who.login, server)

    def lease(self, login: str, server: str = "") -> Lease | None:
        with self.db.read() as session:
            return pool.lease_of(session, pool.holder_of(login, server))

    def step(self, minutes: float = 0) -> None:
        self.now += minutes * MINUTE
        with self.db.write() as session:
            for wait in session.scalars(select(Wait)):
                wait.seen_at = self.now
            pool.settle(session, self.settings, self.devices, self.now)

    def release(self, login: str, why: str = "stopped") -> None:
        lease = self.lease(login)
        assert lease
        with self.db.write() as session:
            assert pool.release(session, lease.id, why, self.now)
            pool.settle(session, self.settings, self.devices, self.now)

    def places(self) -> dict[str, pool.Place]:
        with self.db.read() as session:
            return pool.places(session, self.settings, self.devices, self.now)

    def book(self, course: str, places: int, begin: float, end: float, kind: Any = "whole", weeks: int = 1) -> list[Booking]:
        with self.db.write() as session:
            times = (self.now + begin * MINUTE, self.now + end * MINUTE)
            return booking.book(session, self.settings, self.devices, course, kind, places, *times, "teacher", self.now, weeks)


@pytest.fixture
def world(db: Database, settings: Settings) -> World:
    return World(db, settings, DEVICES)


def test_two_gpus_and_three_people(world: World) -> None:
    first, second = world.ask(person("a")), world.ask(person("b"))
    assert first
    assert second
    assert {first.device, second.device} == {"GPU-0", "GPU-1"}
    assert world.ask(person("c")) is None
    [(holder, place)] = world.places().items()
    assert (holder, place.number, place.of, place.booked_until) == ("c/", 1, 1, None)
    assert place.expected_at == T0 + timedelta(hours=6)
    world.release("a")
    third = world.lease("c")
    assert third
    assert third.device == first.device
    assert world.places() == {}


def test_a_place_is_kept_by_asking_again_and_lost_by_going(world: World) -> None:
    for name in "abcd":
        world.ask(person(name))
    world.now += MINUTE
    assert world.ask(person("c")) is None  # a reload, or a hub that was started again
    assert [place.number for place in world.places().values()] == [1, 2]
    assert list(world.places()) == ["c/", "d/"]
    with world.db.write() as session:
        pool.leave(session, "c/")
    assert list(world.places()) == ["d/"]


def test_whoever_is_away_keeps_the_place_and_gets_nothing_until_back(world: World) -> None:
    for name in "abcd":
        world.ask(person(name))
    world.now += MINUTE
    with world.db.write() as session:
        session.get_one(Wait, "d/").seen_at = world.now
    world.release("a")
    assert world.lease("c") is None
    assert world.lease("d")
    assert world.ask(person("c")) is None
    world.release("b")
    assert world.lease("c")
    world.ask(person("e"))
    world.now += pool.LOST + MINUTE
    world.release("d")
    assert world.lease("e") is None
    assert world.places() == {}


def test_tiers_then_least_used_then_arrival(world: World) -> None:
    world.ask(person("a")), world.ask(person("used"))
    world.now += timedelta(hours=5)
    world.release("used")
    world.ask(person("b"))
    for who in (person("used"), person("new"), person("teacher", "x", "instructor")):
        world.ask(who)
        world.now += MINUTE / 60
    assert list(world.places()) == ["teacher/", "new/", "used/"]


def test_shares_of_one_device_and_the_whole_of_it(db: Database, settings: Settings) -> None:
    world = World(db, settings, CUT)
    leases = [world.ask(person(name), "share") for name in "abcd"]
    assert all(lease and (lease.device, lease.shares, lease.of_shares) == ("GPU-c", 1, 4) for lease in leases)
    assert world.ask(person("e"), "share") is None
    with world.db.read() as session:
        assert sorted(session.scalars(select(Held.share))) == [0, 1, 2, 3]
    world.step(1)
    for name in "abcd":
        world.release(name)
    world.release("e")
    assert (whole := world.ask(person("w")))
    assert whole.shares == 4
    assert world.ask(person("a"), "share") is None


def test_the_database_refuses_a_share_twice(world: World) -> None:
    lease = world.ask(person("a"))
    assert lease
    with pytest.raises(IntegrityError), world.db.write() as session:
        session.add(Held(device=lease.device, share=0, lease_id=lease.id))


def test_many_at_once_never_share(world: World) -> None:
    """Hubs and workers decide at the same time, each in its own transaction."""
    errors: list[BaseException] = []

    def one(number: int) -> None:
        try:
            world.ask(person(f"p{number}"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with world.db.read() as session:
        live = session.scalars(select(Lease).where(Lease.holder.is_not(None))).all()
        assert sorted(lease.device for lease in live) == ["GPU-0", "GPU-1"]
        assert len(session.scalars(select(Wait)).all()) == 10


def test_release_is_done_once(world: World) -> None:
    lease = world.ask(person("a"))
    assert lease
    world.release("a")
    with world.db.write() as session:
        assert not pool.release(session, lease.id, "vanished", world.now)
        assert not pool.release(session, "unknown", "vanished", world.now)
        assert session.get_one(Lease, lease.id).released_why == "stopped"


def test_a_lesson_keeps_its_places_and_moves_an_outsider_off(world: World) -> None:
    world.book("ml", 2, 60, 120)
    world.ask(person("out1")), world.step(1), world.ask(person("out2", "other"))
    world.step(43)
    assert not any(lease.ends_at for name in ("out1", "out2") if (lease := world.lease(name)))
    world.step(1)  # 15 minutes before
    ends = {name: lease.ends_at for name in ("out1", "out2") if (lease := world.lease(name))}
    assert ends == dict.fromkeys(("out1", "out2"), T0 + 60 * MINUTE)
    assert world.ask(person("s1", "ml")) is None
    assert world.ask(person("late")) is None
    assert list(world.places()) == ["s1/", "late/"]
    world.release("out1", "booked")
    assert world.lease("s1")
    moved = world.lease("out2")
    assert moved
    assert moved.ends_why == "booked"
    world.step(15)
    world.release("out2", "booked")
    assert world.lease("late") is None  # kept for the lesson
    assert world.places()["late/"].booked_until == T0 + 120 * MINUTE
    world.step(9)
    assert world.lease("late") is None
    world.step(2)  # nobody came for it
    assert world.lease("late")


def test_nobody_is_moved_for_what_is_free_or_cancelled(world: World) -> None:
    [lesson] = world.book("ml", 1, 20, 60)
    world.ask(person("out"))
    world.step(10)
    assert (lease := world.lease("out"))
    assert lease.ends_at is None
    world.ask(person("more"))
    assert world.lease("more") is None  # the other is kept
    [second] = world.book("dl", 1, 10, 60)
    world.step()
    assert (lease := world.lease("out"))
    assert lease.ends_why == "booked"
    with world.db.write() as session:
        assert booking.cancel(session, session.get_one(Booking, second.id), "teacher", world.now) == 1
    world.step()
    assert (lease := world.lease("out"))
    assert (lease.ends_at, lease.ends_why) == (None, "")
    with world.db.write() as session:
        booking.cancel(session, session.get_one(Booking, lesson.id), "teacher", world.now)
    world.step()
    assert world.lease("more")


def test_bookings_that_do_not_fit_are_refused_with_the_reason(world: World) -> None:
    world.book("ml", 2, 60, 120)
    with pytest.raises(AcademyError, match="ml, 2026-03-02 11:00, 2 places"):
        world.book("dl", 1, 90, 150)
    world.book("dl", 1, 120, 180)
    world.book("cv", 1, 150, 200)
    for key, arguments in {
        "booking-too-many": (3, 300, 360),
        "booking-times": (1, 360, 300),
        "booking-weeks": (1, 300, 360, "whole", 31),
    }.items():
        with pytest.raises(AcademyError) as caught:
            world.book("x", *arguments)  # type: ignore[arg-type]
        assert caught.value.key == key
    with pytest.raises(AcademyError):
        world.book("x", 1, 10, 20, "slice")


def test_a_series_is_booked_by_the_clock_on_the_wall_and_wholly_or_not(world: World) -> None:
    lessons = world.book("ml", 2, 60, 120, weeks=3)
    assert [(lesson.starts_at - T0).days for lesson in lessons] == [0, 7, 14]
    with pytest.raises(AcademyError):
        world.book("dl", 1, 60 - 7 * 24 * 60 * 0 + 7 * 24 * 60 - 60, 7 * 24 * 60 + 90, weeks=2)
    with world.db.write() as session:
        assert len(session.scalars(select(Booking)).all()) == 3
        found = session.get_one(Booking, lessons[1].id)
        assert booking.cancel(session, found, "teacher", T0, following=True) == 2
        assert len(booking.between(session, T0, T0 + timedelta(days=30))) == 1


def test_a_lesson_in_a_doubled_hour_stays_in_its_half(db: Database, config: Callable[..., Settings]) -> None:
    world = World(db, config(academy={"timezone": "Europe/Berlin"}), DEVICES)
    begin = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 for the second time
    minutes = (begin - T0) / MINUTE
    lessons = world.book("ml", 1, minutes, minutes + 60, weeks=2)
    assert [lesson.starts_at for lesson in lessons] == [begin, begin + timedelta(weeks=1)]
    assert all(lesson.ends_at - lesson.starts_at == 60 * MINUTE for lesson in lessons)


def test_keep_it_i_am_thinking(world: World) -> None:
    lease = world.ask(person("a"))
    assert lease
    holder = "a/"

    def warn() -> None:
        with world.db.write() as session:
            found = session.get_one(Lease, lease.id)
            found.ends_at, found.ends_why = world.now + 10 * MINUTE, "idle"

    with world.db.write() as session, pytest.raises(AcademyError, match="no idle GPU"):
        pool.keep(session, world.settings, holder, world.now)
    for left in (1, 0):
        warn()
        with world.db.write() as session:
            assert pool.keep(session, world.settings, holder, world.now) == left
            assert session.get_one(Lease, lease.id).ends_at is None
    warn()
    with world.db.write() as session, pytest.raises(AcademyError, match="kept 2 times"):
        pool.keep(session, world.settings, holder, world.now)


def test_the_minutes_figures_are_kept_for_two_weeks(world: World) -> None:
    world.ask(person("a"))
    with world.db.write() as session:
        pool.note(session, {"GPU-0": (40, 1000), "GPU-1": (None, 0)}, T0 + 5 * MINUTE / 60)
        pool.note(session, {"GPU-0": (60, 1000)}, T0 + 50 * MINUTE / 60)
        readings = {r.device: (r.at, r.utilisation, r.held) for r in session.scalars(select(Reading))}
        assert readings["GPU-1"] == (T0, None, int(readings["GPU-0"][2] == 0))
        assert readings["GPU-0"][:2] == (T0, 60)
        pool.note(session, {}, T0 + timedelta(days=15))
        assert session.scalars(select(Reading)).all() == []


async def test_whoever_stops_a_start_has_no_place_though_the_database_was_busy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, asked, free = pool.ask, threading.Event(), threading.Event()

    def late(*arguments: Any) -> None:
        asked.set()
        assert free.wait(60)
        ask(*arguments)

    monkeypatch.setattr(pool, "ask", late)
    line = Line(world.settings, world.db)
    joining = asyncio.create_task(line.join(person("a"), "", "gpu"))
    await asyncio.to_thread(asked.wait, 60)
    joining.cancel()
    leaving = asyncio.create_task(line.give_back("a/", "", "stopped"))
    await asyncio.wait([joining, leaving], timeout=0.5)
    free.set()
    await leaving
    await asyncio.get_running_loop().shutdown_default_executor()
    with world.db.read() as session:
        assert session.scalars(select(Wait)).all() == []


WHO = st.sampled_from(["a", "b", "c", "d"])
STEP = st.one_of(
    st.tuples(st.just("ask"), WHO, st.sampled_from(["gpu", "share", "paid"])),
    st.just(("hub",)),
    st.tuples(st.just("start"), WHO, st.booleans()),
    st.tuples(st.just("stop"), WHO),
    st.tuples(st.just("vanish"), WHO),
    st.tuples(st.just("left"), WHO),
    st.tuples(st.just("book"), st.integers(-5, 40), st.integers(1, 3), st.sampled_from(["whole", "share"])),
    st.just(("cancel",)),
    st.tuples(st.just("clock"), st.integers(-90, 4 * 3600)),  # seconds; back a little, too
    st.tuples(st.just("keeper"), st.sampled_from([True, True, True, False])),
)


def keeper(of: World | Host, patch: pytest.MonkeyPatch) -> watch.Watch:
    """The real keeper, with the clock and the devices of a pool."""
    patch.setattr(watch, "hub_api_url", lambda _: "http://hub")
    patch.setattr(watch, "now", lambda: of.now)
    patch.setattr(inventory, "devices", lambda _: of.devices)
    return watch.Watch(of.settings, of.db)


class Host:
    """A pool, its real keeper, and in place of Docker and the hub what they would have running."""

    def __init__(self, settings: Settings, patch: pytest.MonkeyPatch) -> None:
        self.settings, self.now, self.up = settings, T0, True
        self.devices = [DEVICES[0], Device("GPU-c", "A10", 24576, shares=3)]
        self.db = Database("sqlite://")
        Base.metadata.create_all(self.db.engine)
        self.running: dict[str, dict[str, Any]] = {}  # lease -> its container
        self.people = {login: person(login, "ml" if login == "a" else "") for login in "abcd"}
        self.keeper = keeper(self, patch)
        patch.setattr(watch, "_containers", self.containers)
        patch.setattr(watch, "_remove", lambda id: self.running.pop(id.removeprefix("container-")))
        patch.setattr(self.keeper, "_order", self.order)
        patch.setattr(watch, "ThreadPoolExecutor", lambda _: nullcontext(SimpleNamespace(map=map)))  # one after the other
        with self.db.write() as session:
            session.add_all(self.people.values())
            session.flush()
            times = (T0, T0 + timedelta(days=3))
            for login in "ab":
                ledger.grant(session, f"V-{login}", "person", login, 0.5, *times, "op", "x", T0)

    def containers(self, _: Settings) -> dict[str, dict[str, Any]]:
        if not self.up:
            raise OSError("no answer")
        return dict(self.running)

    def order(self, method: str, login: str, server: str, options: Any) -> bool:
        """What a hub does that is asked by the keeper."""
        if method == "DELETE":
            self.take(("stop", login), False)
        elif method == "POST":
            self.take(("ask", login, options["profile"]), False)
        return True

    def take(self, step: Any, crash: bool) -> None:
        """One step; whoever dies in the middle leaves what runs, and nothing in the database."""
        if step[0] == "keeper":
            self.up = step[1]
            self.keeper.look()
            if self.up:
                self.reconciled()
            return
        with suppress(AcademyError), self.db.write() as session:
            self._take(session, step)
            if crash:
                raise AcademyError("page-missing")

    def _take(self, session: Session, step: Any) -> None:
        lease = pool.lease_of(session, f"{step[1]}/") if step[0] in ("ask", "start", "stop", "vanish", "left") else None
        match step:
            case ("ask", who, profile) if lease is None:
                pool.ask(session, self.settings, self.people[who], "", profile, self.now)
                pool.settle(session, self.settings, self.devices, self.now)
            case ("hub",):
                for wait in session.scalars(select(Wait)):
                    wait.seen_at = self.now
                pool.settle(session, self.settings, self.devices, self.now)
            case ("start", _, told) if lease and lease.id not in self.running:
                self.running[lease.id] = {"Id": f"container-{lease.id}", "Names": [f"/{lease.login}"]}
                if told:
                    pool.started(session, lease.id, f"container-{lease.id}", self.now)
            case ("stop", who):
                pool.leave(session, f"{who}/")
                if lease:
                    self.running.pop(lease.id, None)
                    pool.release(session, lease.id, "stopped", self.now)
                    pool.settle(session, self.settings, self.devices, self.now)
            case ("vanish", _) if lease:
                self.running.pop(lease.id, None)
            case ("left", _) if lease:  # released, and its container lives
                pool.release(session, lease.id, "failed", self.now)
            case ("book", begin, places, kind):
                times = (self.now + begin * MINUTE, self.now + (begin + 60) * MINUTE)
                booking.book(session, self.settings, self.devices, "ml", kind, places, *times, "teacher", self.now)
            case ("cancel",):
                session.execute(update(Booking).values(cancelled_at=self.now))

    def reconciled(self) -> None:
        """Once the keeper has looked: no lease without an owner, and no container without a lease."""
        limit = timedelta(seconds=self.settings.spawner.start_timeout) + watch.STARTING
        with self.db.read() as session:
            live = {lease.id: lease for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None)))}
        for lease in live.values():
            assert lease.id in self.running or (not lease.container and self.now - lease.granted_at <= limit)
        assert self.running.keys() <= live.keys()
        for device in self.devices:
            assert sum(live[id].shares for id in self.running if live[id].device == device.uuid) <= device.shares

    def check(self) -> None:
        with self.db.read() as session:
            held = list(session.execute(select(Held.device, Held.share, Held.lease_id)))
            live = {lease.id: lease for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None)))}
            kept = dict(
                session.execute(
                    select(Entry.lease_id, -func.sum(Entry.amount))
                    .where(Entry.kind.in_(("hold", "release")))
                    .group_by(Entry.lease_id)
                ).all()
            )
            free = session.execute(select(func.sum(Entry.amount)).group_by(Entry.voucher_id)).scalars().all()
            used = session.execute(
                select(Lease, -func.sum(Entry.amount))
                .join(Entry, Entry.lease_id == Lease.id)
                .where(Entry.kind == "use")
                .group_by(Lease.id)
            ).all()
            line = [Waiting(name, name, kind, 0, 1, frozenset(), self.now) for name, kind in (("x", "whole"), ("y", "share"))]
            each, sums = pool._live(session, self.settings, self.devices, self.now), pool._held(session, self.devices)
        decisions = [decide(self.devices, one, line, [], {}, self.now) for one in (each, sums)]
        assert decisions[0].grants == decisions[1].grants  # where no lesson is near, what is held of each device says it all
        shares = {device.uuid: device.shares for device in self.devices}
        assert len({(device, share) for device, share, _ in held}) == len(held)
        assert all(0 <= share < shares[device] for device, share, _ in held)
        assert Counter(lease_id for _, _, lease_id in held) == {lease.id: lease.shares for lease in live.values()}
        assert len({lease.holder for lease in live.values()}) == len(live)
        assert all(amount >= 0 for amount in free)
        assert all(amount >= 0 and (not amount or lease_id in live) for lease_id, amount in kept.items())
        for lease, amount in used:
            if lease.released_at:
                assert amount <= (lease.released_at - lease.granted_at) // ledger.MS * lease.weight


@pytest.fixture
def on_docker(config: Callable[..., Settings]) -> Settings:
    paid = Profile(title=TITLE, gpu="share", hours=6, paid=True)
    profiles = {"gpu": WHOLE.model_dump(), "share": SHARE.model_dump(), "paid": paid.model_dump()}
    return config(spawner={"backend": "docker", "start_timeout": 60}, profiles=profiles)


@hypothesis.settings(max_examples=80, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.example(steps=[(("ask", "a", "gpu"), False), (("start", "a", False), False), (("left", "a"), False)])
@given(steps=st.lists(st.tuples(STEP, st.booleans() | st.just(False)), max_size=40))
def test_whatever_happens_no_share_is_held_twice_and_none_is_lost(on_docker: Settings, steps: list[tuple[Any, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        host = Host(on_docker, patch)
        for step, crash in steps:
            host.take(step, crash)
            host.check()
        host.take(("keeper", True), False)  # what runs without a lease gets one or ends
        for login in "abcd":
            host.take(("stop", login), False)
        host.take(("keeper", True), False)
        host.check()
        with host.db.read() as session:
            assert not session.scalars(select(Held)).all()
        host.db.close()


CONTAINER = {"Id": "c-a", "Names": ["/a"]}


def test_a_server_that_starts_while_docker_is_asked_keeps_its_gpu(
    db: Database, on_docker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(db, on_docker, DEVICES)
    look, lease = keeper(world, monkeypatch).look, world.ask(person("a"))
    assert lease

    def containers(_: Settings) -> dict[str, Any]:
        with db.write() as session:
            pool.started(session, lease.id, "c-a", world.now)
        return {}  # Docker's answer was older

    monkeypatch.setattr(watch, "_containers", containers)
    look()
    assert world.lease("a")
    look()
    assert world.lease("a") is None


def test_a_server_that_ends_while_docker_is_asked_does_not_get_its_gpu_back(
    db: Database, on_docker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(db, on_docker, DEVICES)
    look, lease = keeper(world, monkeypatch).look, world.ask(person("a"))
    assert lease

    def containers(_: Settings) -> dict[str, Any]:
        with db.write() as session:
            pool.release(session, lease.id, "stopped", world.now)
        return {lease.id: CONTAINER}

    monkeypatch.setattr(watch, "_containers", containers)
    look()
    assert world.lease("a") is None
    look()
    assert world.lease("a")  # it does run


def test_no_transaction_waits_while_docker_removes_a_container(
    db: Database, on_docker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = []
    monkeypatch.setattr(watch, "_containers", lambda _: {"unknown": CONTAINER})
    monkeypatch.setattr(watch, "_remove", lambda id: busy.append((id, db.engine.pool.checkedout())))  # type: ignore[attr-defined]
    keeper(World(db, on_docker, DEVICES), monkeypatch).look()
    assert busy == [("c-a", 0)]


def test_servers_are_moved_off_together(db: Database, on_docker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    world, both, stopped = World(db, on_docker, DEVICES), threading.Barrier(2), list[str]()
    watching = keeper(world, monkeypatch)

    def order(method: str, login: str, *_: Any) -> None:
        both.wait(20)  # the hub's answer
        stopped.append(login)

    monkeypatch.setattr(watch, "_containers", lambda _: {})
    monkeypatch.setattr(watching, "_order", order)
    for login in "ab":
        world.ask(person(login))
    with db.write() as session:
        session.execute(update(Lease).values(ends_at=world.now, ends_why="operator"))
    watching.look()
    assert sorted(stopped) == ["a", "b"]
