"""Which GPUs and MIG slices there are, by NVML or by the settings; what they do now, and whose processes run on them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from academy.settings import Settings

log = logging.getLogger(__name__)
_CONTAINER = re.compile(r"\b([0-9a-f]{64})\b")
_told: set[str] = set()  # devices whose failure has been logged
_seen: dict[str, int] = {}  # device -> the driver's timestamp up to which its processes' use has been read


@dataclass(frozen=True)
class Device:
    """A GPU or a MIG slice that containers can ask for by its UUID."""

    uuid: str
    model: str
    memory_mb: int
    shares: int = 1
    slice: bool = False
    parent: str = ""  # of a slice: the UUID of the GPU it is cut from


@dataclass(frozen=True)
class Sample:
    """What a device does now."""

    utilisation: int | None  # percent; None where NVML says none, as for MIG slices
    memory_mb: int
    processes: dict[int, int] = field(default_factory=dict)  # host PID -> MiB


def devices(settings: Settings) -> list[Device]:
    """Those that the settings declare, else those that NVML tells; a GPU in MIG mode as its slices. None without a driver."""
    declared = settings.gpus.devices
    if declared:
        return [Device(one.uuid, one.model, one.memory_mb, one.shares, one.slice) for one in declared]
    found = []
    for uuid, handle, parent in _handles():
        with _told_once(uuid):
            nvml = _nvml()
            memory, model = nvml.nvmlDeviceGetMemoryInfo(handle).total >> 20, _text(nvml.nvmlDeviceGetName(handle))
            found.append(Device(uuid, model, memory, 1 if parent else settings.gpus.shares, bool(parent), parent))
    return found


def asked(engine: dict[str, Any], uuid: str) -> dict[str, Any]:
    """What a container's host configuration says to get one device and no other: by CDI where the engine knows it so, else by
    NVIDIA's runtime, which reads NVIDIA_VISIBLE_DEVICES, else by a device request.

    Args:
        engine: what ``docker info`` says.
    """
    from docker.types import DeviceRequest

    cdi = f"nvidia.com/gpu={uuid}"
    if cdi in {device.get("ID") for device in engine.get("DiscoveredDevices") or ()}:
        return {"device_requests": [DeviceRequest(driver="cdi", device_ids=[cdi])]}
    if "nvidia" in (engine.get("Runtimes") or ()):
        return {"runtime": "nvidia"}
    return {"device_requests": [DeviceRequest(driver="", device_ids=[uuid], capabilities=[["gpu"]])]}


def sample(wanted: Sequence[Device]) -> dict[str, Sample]:
    """UUID -> what the device does; devices that NVML does not know are left out."""
    uuids, found = {device.uuid for device in wanted}, {}
    for uuid, handle, parent in _handles():
        if uuid in uuids:
            with _told_once(uuid):
                nvml = _nvml()
                used = None if parent else nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                processes: dict[int, int] = {}
                for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
                    with suppress(nvml.NVMLError):
                        processes |= {one.pid: (one.usedGpuMemory or 0) >> 20 for one in ask(handle)}
                found[uuid] = Sample(used, nvml.nvmlDeviceGetMemoryInfo(handle).used >> 20, processes)
    return found


def busy(wanted: Sequence[Device]) -> dict[str, dict[int, int]]:
    """UUID -> host PID -> percent of the device's processors since the last call; slices and some drivers tell none."""
    uuids = {device.uuid for device in wanted}
    found: dict[str, dict[int, int]] = {}
    for uuid, handle, _ in _handles():
        if uuid in uuids:
            nvml = _nvml()
            try:
                used = nvml.nvmlDeviceGetProcessUtilization(handle, _seen.get(uuid, 0))
            except nvml.NVMLError as error:
                if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_SUCCESS):  # nobody has used it since
                    found[uuid] = {}
                continue
            _seen[uuid] = max([_seen.get(uuid, 0), *(one.timeStamp for one in used)])
            found[uuid] = {one.pid: one.smUtil for one in used if one.smUtil <= 100}  # more: the driver does not know
    return found


def container_of(pid: int) -> str:
    """The id of the container in which a process of the host runs; "" outside of any."""
    with suppress(OSError):
        found = _CONTAINER.findall(Path(f"/proc/{pid}/cgroup").read_text())
        return str(found[-1]) if found else ""
    return ""


def _nvml() -> Any:
    import pynvml

    return pynvml


def _handles() -> Iterator[tuple[str, Any, str]]:
    """(UUID, NVML handle, parent's UUID or "") of every device that can be given; nothing where there is no driver."""
    try:
        nvml = _nvml()
        nvml.nvmlInit()  # counted by the library: cheap once it is loaded
    except Exception:  # no package, no library, no driver: whatever it says then, there is no GPU to give
        return
    try:
        for index in range(nvml.nvmlDeviceGetCount()):
            with _told_once(f"GPU {index}"):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(nvml.nvmlDeviceGetUUID(handle))
                split = False
                with suppress(nvml.NVMLError):
                    split = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
                if not split:
                    yield uuid, handle, ""
                    continue
                for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                    with suppress(nvml.NVMLError):  # places for slices that are not cut
                        part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                        yield _text(nvml.nvmlDeviceGetUUID(part)), part, uuid
    except nvml.NVMLError as error:
        log.warning("NVML does not tell the GPUs: %s", error)
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


class _told_once(suppress):
    """A device that fails is left out; the log says so once, until it works again."""

    def __init__(self, name: str) -> None:
        super().__init__(_nvml().NVMLError)
        self.name = name

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        if error is None:
            _told.discard(self.name)
        elif isinstance(error, _nvml().NVMLError) and self.name not in _told:
            _told.add(self.name)
            log.warning("%s is left out: %s", self.name, error)
        return bool(super().__exit__(kind, error, traceback))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
