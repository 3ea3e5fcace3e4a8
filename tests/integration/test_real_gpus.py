"""What stand-ins cannot show, on a real GPU: the inventory, a lease seen by CUDA, idle and busy, two shares of one device.

Needs a GPU of this machine and a torch that can use it (``pip install torch`` with CUDA).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from academy.database import Database, now
from academy.gpus import inventory, pool
from academy.gpus.inventory import Device
from academy.gpus.records import Held, Lease
from academy.gpus.watch import Watch
from academy.settings import Settings

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]

SEEN = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)"
WORK = """
import sys, time, torch
x = torch.randn(4096, 4096, device="cuda")
torch.cuda.synchronize()
print("ready", flush=True)
while True:
    if sys.argv[1] == "works":
        (x @ x).sum().item()
    else:
        time.sleep(0.5)
"""


@pytest.fixture
def settings(config: Callable[..., Settings]) -> Settings:
    profile = {"title": {"ko": "", "en": ""}, "idle_minutes": 30, "hours": 6}
    return config(profiles={kind: {**profile, "gpu": kind} for kind in ("whole", "share")}, gpus={"shares": 2})


@pytest.fixture
def device(settings: Settings) -> Device:
    return next(device for device in inventory.devices(settings) if not device.slice)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    found = Database(settings.database_url)
    found.upgrade()
    yield found
    found.close()


@pytest.fixture
def started(device: Device) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """``started("works")`` or ``started("sleeps")``: a process that has memory on the device."""
    processes: list[subprocess.Popen[str]] = []

    def start(what: str) -> subprocess.Popen[str]:
        command, environment = [sys.executable, "-c", WORK, what], {"CUDA_VISIBLE_DEVICES": device.uuid}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def lease(database: Database, device: Device, name: str, pid: int, kind: str, share: int) -> None:
    at, of = now(), 2 if kind == "share" else 1
    with database.write() as session:
        session.add(
            Lease(
                id=name, device=device.uuid, shares=1, of_shares=of, holder=f"{name}/", login=name, server="", purpose="server",
                profile=kind, tier=2, granted_at=at, started_at=at, busy_at=at, container=f"pid:{pid}",
            )
        )  # fmt: skip
        session.flush()
        session.add(Held(device=device.uuid, share=share, lease_id=name))


def test_the_inventory_is_what_the_driver_lists(settings: Settings) -> None:
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout
    found = inventory.devices(settings)
    assert found
    for device in found:
        assert device.uuid in listed
        assert device.memory_mb > 1000
    samples = inventory.sample(found)
    assert samples.keys() == {device.uuid for device in found}
    assert all(samples[device.uuid].memory_mb <= device.memory_mb for device in found)


def test_a_lease_is_all_that_cuda_sees(settings: Settings, database: Database) -> None:
    devices = inventory.devices(settings)
    with database.write() as session:
        granted = pool.for_run(session, settings, devices, "run", now())
    whole = [device for device in devices if device.shares == 1 and not device.slice]
    uuid = granted.device if granted else (whole or devices)[0].uuid
    said = subprocess.run([sys.executable, "-c", SEEN], env={"CUDA_VISIBLE_DEVICES": uuid}, capture_output=True, text=True)
    count, seen = said.stdout.split()
    assert count == "1"
    assert seen in uuid
    void = subprocess.run([sys.executable, "-c", SEEN], env={"CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True)
    assert void.returncode != 0


def test_a_kernel_that_works_is_busy_and_one_that_sleeps_is_not(
    settings: Settings, database: Database, device: Device, started: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = started("works")
    lease(database, device, "minji", process.pid, "whole", 0)
    watch = Watch(settings, database)
    inventory.busy([device])
    time.sleep(5)
    before = now()
    with database.write() as session:
        watch.idle(session, [device], before)
    with database.read() as session:
        assert session.get_one(Lease, "minji").busy_at == before
    process.kill()
    process.wait()
    sleeper = started("sleeps")
    with database.write() as session:
        session.get_one(Lease, "minji").container = f"pid:{sleeper.pid}"
    time.sleep(5)
    inventory.busy([device])
    time.sleep(5)
    with database.write() as session:
        watch.idle(session, [device], now())
    with database.read() as session:
        assert session.get_one(Lease, "minji").busy_at == before


def test_two_shares_of_one_device_are_judged_apart(
    settings: Settings, database: Database, device: Device, started: Callable[[str], subprocess.Popen[str]]
) -> None:
    works, sleeps = started("works"), started("sleeps")
    assert {works.pid, sleeps.pid} <= inventory.sample([device])[device.uuid].processes.keys()
    lease(database, device, "minji", works.pid, "share", 0)
    lease(database, device, "junho", sleeps.pid, "share", 1)
    watch, began = Watch(settings, database), now()
    inventory.busy([device])
    time.sleep(5)
    with database.write() as session:
        watch.idle(session, [device], now())
    with database.read() as session:
        assert session.get_one(Lease, "minji").busy_at > began
        assert session.get_one(Lease, "junho").busy_at <= began
