"""Which GPUs this machine has, and which of them no server holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from academy.settings import Settings

LABEL = "academyhub.gpu"  # of a container: the UUID of the GPU it holds


def devices(settings: Settings) -> list[str]:
    """UUIDs of the GPUs: those that the settings name, else those that the driver tells; none where there is no driver."""
    return list(settings.spawner.gpu_devices) or _driver_devices()


def _driver_devices() -> list[str]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no library, no driver: whatever NVML says then, there is no GPU to give
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def free_device(uuids: Iterable[str], containers: Iterable[dict[str, Any]]) -> str | None:
    """The first GPU that no container holds; ``containers`` as the engine lists them, of every deployment.

    The labels of containers are the truth: they survive a crash of the hub, a table in its memory does not.
    """
    held = {container["Labels"].get(LABEL) for container in containers if container["State"] not in ("exited", "dead")}
    return next((uuid for uuid in uuids if uuid not in held), None)
