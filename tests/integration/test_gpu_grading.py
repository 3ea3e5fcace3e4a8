"""A unit that is graded with a GPU: its runs stand in the pool's line, have a device to themselves and give it back.

The GPU is declared in the settings; what a run computes on one is not shown here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from academy.database import now
from academy.gpus import inventory, pool
from academy.gpus.records import Held, Lease, Wait
from academy.gpus.watch import Watch
from academy.people import Person
from grading import operations
from grading.records import Job
from grading.worker import Worker
from tests.conftest import until
from tests.integration.test_grading import LIMITS, Class, make_class
from tests.integration.units import COURSE, RIGHT, UNIT, answer

UUID = "GPU-aaaa"
TITLE = {"ko": "GPU", "en": "GPU"}
COURSE_FILE = f"""
title = {{ ko = "시범", en = "Demo" }}
[[units]]
id = "{UNIT}"
number = "1.1"
title = {{ ko = "제곱", en = "Squares" }}
hours = 1
gpu = true
"""


@pytest.fixture
def group(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Class]:
    unit = tmp_path / "courses" / COURSE / UNIT
    unit.mkdir(parents=True)
    (unit / f"{UNIT}.py").write_text("# the unit is made by code")
    (unit.parent / "course.toml").write_text(COURSE_FILE, encoding="utf-8")
    group = make_class(
        tmp_path,
        academy={"courses": str(tmp_path / "courses")},
        spawner={"backend": "local"},
        grading={**LIMITS, "timeout": 120, "cell_timeout": 60, "backend": "local", "workers": 1},
        gpus={"devices": [{"uuid": UUID, "model": "H100", "memory_mb": 81920, **getattr(request, "param", {})}]},
        profiles={"gpu": {"title": TITLE, "gpu": "whole"}},
    )
    yield group
    group.database.close()


def waits(group: Class, login: str) -> None:
    """Somebody wants the GPU for their server."""
    with group.database.write() as session:
        person = Person(login=login, name=login)
        session.add(person)
        pool.ask(session, group.settings, person, "", "gpu", now())


@pytest.fixture
def watch(group: Class) -> Watch:
    (group.settings.data / "secrets").mkdir(parents=True, exist_ok=True)
    return Watch(group.settings, group.database)


def sees(uuid: str) -> str:
    """An answer that is right only where the run sees this device and no other."""
    return f'import os\nassert os.environ["CUDA_VISIBLE_DEVICES"] == "{uuid}"\n{RIGHT}'


def leases(group: Class) -> list[Lease]:
    with group.database.read() as session:
        return list(session.scalars(select(Lease).order_by(Lease.granted_at, Lease.id)))


def test_a_run_waits_for_its_device_has_it_alone_and_gives_it_back(group: Class, watch: Watch) -> None:
    settings = group.settings
    devices = inventory.devices(settings)
    waits(group, "alice")
    with group.database.write() as session:
        [theirs] = pool.settle(session, settings, devices, now())
        pool.started(session, theirs, f"pid:{os.getpid()}", now())
    group.submit("minji", answer(group.release, sees(UUID)))
    with group.database.write() as session:
        [job] = operations.request_grading(session, COURSE, UNIT, "teacher", ["minji"])
    worker = Worker(settings)
    thread = threading.Thread(target=worker.run, args=([job.id],))
    thread.start()
    try:
        until(lambda: group.job("minji").phase == "gpu" and group.job("minji").state == "queued")
        watch.look()
        with group.database.read() as session:
            assert session.scalars(select(Wait.purpose)).all() == ["grading"]
        time.sleep(1)
        found = group.job("minji")
        assert (found.state, found.attempts) == ("queued", 0), "a wait is not an attempt, and nobody spins on it"
        with group.database.write() as session:
            pool.release(session, theirs, "stopped", now())
        watch.look()
        until(lambda: group.job("minji").state == "done")
    finally:
        worker.stop.set()
        thread.join()
    grade = group.score("minji")
    assert grade is not None
    assert grade.score == 4
    [_, mine] = leases(group)
    assert (mine.purpose, mine.device, mine.shares, mine.server) == ("grading", UUID, 1, job.id)
    assert (mine.holder, mine.released_why) == (None, "stopped")
    with group.database.read() as session:
        assert not session.scalars(select(Held)).all()


def test_a_run_goes_first_and_others_take_no_turn_meanwhile(group: Class) -> None:
    settings, devices = group.settings, [inventory.Device(UUID, "H100", 81920)]
    at = now()
    waits(group, "alice")
    waits(group, "bob")
    with group.database.write() as session:
        [first] = pool.settle(session, settings, devices, at)
        assert pool.for_run(session, settings, devices, "job", at) is None
        pool.release(session, first, "stopped", at)
        lease = pool.for_run(session, settings, devices, "job", at)
        assert lease is not None
        assert lease.device == UUID
        assert pool.for_run(session, settings, devices, "job", at) is lease, "whoever takes the job up again finds its device"


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_the_device_of_a_run_that_is_over_is_free_again(group: Class, watch: Watch, state: str) -> None:
    settings, devices = group.settings, inventory.devices(group.settings)
    group.submit("minji", answer(group.release))
    with group.database.write() as session:
        [job] = operations.request_grading(session, COURSE, UNIT, "teacher", ["minji"])
        assert pool.for_run(session, settings, devices, job.id, now()) is not None
        other = pool.for_run(session, settings, devices, "nobody's", now())
        assert other is None
    watch.look()
    with group.database.write() as session:
        assert session.scalars(select(Held)).all(), "its worker may be about to start"
        assert not session.scalars(select(Wait)).all(), "a run that nobody wants leaves the line"
        session.get_one(Job, job.id).state = state
    watch.look()
    with group.database.read() as session:
        assert not session.scalars(select(Held)).all()


@pytest.mark.parametrize("group", [{"slice": True}], indirect=True)
def test_without_a_whole_device_the_run_goes_on_without(group: Class) -> None:
    group.submit("minji", answer(group.release, sees("")))
    group.grade("minji")
    grade = group.score("minji")
    assert grade is not None
    assert grade.score == 4
    assert not leases(group)
