"""What the driver's library tells, by the real nvidia-ml-py on a stand-in of it, and who is taken for idle by that."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pynvml
import pytest

from academy.database import Database, now
from academy.gpus import inventory
from academy.gpus.inventory import Device
from academy.gpus.records import Held, Lease
from academy.gpus.watch import Watch
from academy.settings import Settings
from tests.standin import Driver, gpus, library

MINUTE = timedelta(minutes=1)
TITLE = {"ko": "", "en": ""}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(library(tmp_path_factory.mktemp("nvml"))))


@pytest.fixture
def driver(compiled: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setenv("STANDIN_NVML", str(tmp_path / "driver"))
    monkeypatch.setattr(pynvml, "nvmlLib", compiled)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return Driver(tmp_path / "driver")


@pytest.fixture
def settings(config: Callable[..., Settings]) -> Settings:
    profile = {"title": TITLE, "idle_minutes": 30, "hours": 6}
    kinds = {kind: {**profile, "gpu": kind} for kind in ("whole", "slice", "share")}
    return config(profiles=kinds, gpus={"shares": 2, "idle_grace_minutes": 10})


def test_without_a_driver_there_are_no_gpus(driver: Driver, settings: Settings) -> None:
    assert inventory.devices(settings) == []
    assert inventory.sample([Device("GPU-0", "H100", 1)]) == {}
    assert inventory.busy([Device("GPU-0", "H100", 1)]) == {}


def test_gpus_and_what_they_do(driver: Driver, settings: Settings) -> None:
    driver.says("gpu GPU-0 H100 81920 512 37", "gpu GPU-1 A10 24576 0 0", "process GPU-0 4711 500 30")
    found = inventory.devices(settings)
    assert found == [Device("GPU-0", "H100", 81920, 2), Device("GPU-1", "A10", 24576, 2)]
    samples = inventory.sample(found)
    assert samples["GPU-0"] == inventory.Sample(37, 512, {4711: 500})
    assert samples["GPU-1"] == inventory.Sample(0, 0, {})
    assert inventory.busy(found) == {"GPU-0": {4711: 30}, "GPU-1": {}}


def test_a_gpu_in_mig_mode_is_its_slices(driver: Driver, settings: Settings) -> None:
    driver.says(
        "gpu GPU-0 H100 81920 0 - mig", "slice MIG-a 3g.40gb 40960 7 -", "slice MIG-b 1g.10gb 9984 0 -", *gpus(["GPU-1"])
    )
    found = inventory.devices(settings)
    assert found == [
        Device("MIG-a", "3g.40gb", 40960, 1, True, "GPU-0"),
        Device("MIG-b", "1g.10gb", 9984, 1, True, "GPU-0"),
        Device("GPU-1", "H100", 81920, 2),
    ]
    assert inventory.sample(found)["MIG-a"] == inventory.Sample(None, 7, {})
    assert inventory.busy(found) == {"GPU-1": {}}


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo"])
def test_a_gpu_that_fails_is_left_out_and_told_once(
    driver: Driver, settings: Settings, function: str, caplog: pytest.LogCaptureFixture
) -> None:
    driver.says(*gpus(["GPU-0", "GPU-1"]), f"fail {function} GPU-0 15")
    for _ in range(3):
        assert [device.uuid for device in inventory.devices(settings)] == ["GPU-1"]
    assert len(caplog.records) == 1
    driver.says(*gpus(["GPU-0", "GPU-1"]))
    assert len(inventory.devices(settings)) == 2


def test_the_real_loader_finds_it(compiled: ctypes.CDLL, driver: Driver) -> None:
    driver.says(*gpus(["GPU-7"]))
    code = "import pynvml as n; n.nvmlInit(); print(n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByIndex(0)))"
    environment = {"LD_LIBRARY_PATH": str(Path(compiled._name).parent), "STANDIN_NVML": str(driver.path)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "GPU-7"


class Desk:
    """The pool's keeper over a database with leases of local servers, which are real processes."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database, self.now = settings, database, now()
        self.watch = Watch(settings, database)
        self.servers: list[subprocess.Popen[bytes]] = []

    def lease(self, name: str, device: str, kind: str, of: int = 1, share: int = 0, works: bool = False) -> int:
        """Somebody's server has a device; returns its PID."""
        code = "while True: pass" if works else "import time; time.sleep(600)"
        server = subprocess.Popen([sys.executable, "-c", code])
        self.servers.append(server)
        at = self.now
        with self.database.write() as session:
            session.add(
                Lease(
                    id=name, device=device, shares=1, of_shares=of, holder=f"{name}/", login=name, server="", purpose="server",
                    profile=kind, tier=2, granted_at=at, started_at=at, busy_at=at, container=f"pid:{server.pid}",
                )
            )  # fmt: skip
            session.flush()
            session.add(Held(device=device, share=share, lease_id=name))
        return server.pid

    def busy_at(self, name: str) -> datetime:
        with self.database.read() as session:
            return session.get_one(Lease, name).busy_at

    def look(self, minutes: float = 0) -> dict[str, str]:
        """Go on in time and look once; says whose lease will end and why."""
        self.now += minutes * MINUTE
        with self.database.write() as session:
            self.watch.idle(session, inventory.devices(self.settings), self.now)
        with self.database.read() as session:
            return {lease.login: lease.ends_why for lease in session.query(Lease) if lease.ends_at}


@pytest.fixture
def desk(settings: Settings) -> Iterator[Desk]:
    database = Database(settings.database_url)
    database.upgrade()
    desk = Desk(settings, database)
    yield desk
    for server in desk.servers:
        server.kill()
        server.wait()
    database.close()


def test_a_gpu_that_does_nothing_is_warned_of_and_one_that_works_is_not(driver: Driver, desk: Desk) -> None:
    desk.lease("idle", "GPU-0", "whole")
    desk.lease("busy", "GPU-1", "whole")
    driver.says(*gpus(["GPU-0"]), *gpus(["GPU-1"], percent=80))
    assert desk.look(29) == {}
    assert desk.look(2) == {"idle": "idle"}
    driver.says(*gpus(["GPU-0", "GPU-1"], percent=50))  # used again: no longer warned
    assert desk.look(1) == {}


def test_a_quiet_long_job_is_left_alone(driver: Driver, desk: Desk) -> None:
    """Between two looks the GPU worked, at neither it does."""
    pid = desk.lease("quiet", "GPU-0", "whole")
    for _ in range(5):
        driver.says(*gpus(["GPU-0"]), f"process GPU-0 {pid} 500 20")
        assert desk.look(20) == {}
        driver.says(*gpus(["GPU-0"]))
        assert desk.look(20) == {}
    assert desk.look(31) == {"quiet": "idle"}


def test_of_two_on_one_gpu_each_is_judged_by_the_own_processes(driver: Driver, desk: Desk) -> None:
    busy = desk.lease("busy", "GPU-0", "share", of=2, share=0)
    also = desk.lease("also", "GPU-0", "share", of=2, share=1)
    idle = desk.lease("idle", "GPU-1", "share", of=2)
    lines = [*gpus(["GPU-0", "GPU-1"], percent=90), f"process GPU-0 {busy} 500 40", f"process GPU-0 {also} 500 40"]
    driver.says(*lines, f"process GPU-1 {idle} 500 0", "process GPU-1 1 500 90")
    assert desk.look(31) == {"idle": "idle"}


def test_on_a_slice_work_shows_in_the_processors_time(driver: Driver, desk: Desk) -> None:
    """The driver tells no use of slices: whoever computes there keeps the CPU busy, too."""
    slices = [f"slice MIG-{name} 1g.10gb 9984 0 -" for name in "abc"]
    works, sleeps = desk.lease("works", "MIG-a", "slice", works=True), desk.lease("sleeps", "MIG-b", "slice")
    desk.lease("away", "MIG-c", "slice")
    gpu = "gpu GPU-0 H100 81920 0 - mig"
    driver.says(gpu, *slices, f"process MIG-a {works} 500 -", f"process MIG-b {sleeps} 500 -")
    desk.look()
    for _ in range(50):  # the process has to get a hundredth of a second
        time.sleep(0.1)
        desk.look(1 / 600)
        if desk.busy_at("works") == desk.now:
            break
    assert desk.busy_at("works") == desk.now
    assert desk.look(29.9) | {"works": ""} == {"works": ""}
    assert desk.look(0.1 + 1 / 60)["sleeps"] == "idle"
    assert desk.look()["away"] == "idle"


def test_who_cannot_be_judged_is_left_alone(driver: Driver, desk: Desk) -> None:
    desk.lease("lost", "GPU-0", "whole")
    driver.says(*gpus(["GPU-0"]), "fail nvmlDeviceGetMemoryInfo GPU-0 15")
    assert desk.look(90) == {}
