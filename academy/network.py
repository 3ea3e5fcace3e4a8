"""Where the parts of one machine listen, and the bridge networks of the containers."""

from __future__ import annotations

import fcntl
import itertools
import secrets
import socket
from pathlib import Path
from typing import Any, Literal

from academy.settings import Settings

Network = Literal["students", "sandboxes"]
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_next = itertools.count(secrets.randbelow(1 << 16))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, below those that the kernel gives to outgoing connections.

    Between this choice and the moment a server listens there are seconds, in which any connection of this machine may take a
    port of the kernel's range. No port is chosen twice in a row.
    """
    first = int(_OUTGOING.read_text().split()[0]) if _OUTGOING.exists() else 0
    lowest = 10_000
    for _ in range(first - lowest):
        port = lowest + next(_next) % (first - lowest)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket() as sock:  # the kernel's range leaves nothing below it
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def network_name(settings: Settings, which: Network) -> str:
    return f"{settings.academy.name}-{which}"


def ensure_network(settings: Settings, which: Network) -> str:
    """Make a bridge on which containers cannot reach each other, unless it is there; returns its gateway."""
    import docker

    client: Any = docker.from_env()
    name = network_name(settings, which)
    try:
        if found := _find(client, name):
            return found
        with open(__file__) as lock:  # for two at once an engine may make two, and then refuses every container: "ambiguous"
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _find(client, name) or _create(client, name, settings)
    finally:
        client.close()


def gateway(settings: Settings, which: Network) -> str | None:
    """The gateway of a bridge, None when it is not there or Docker does not answer."""
    import docker

    try:
        client: Any = docker.from_env(timeout=5)
        try:
            return _find(client, network_name(settings, which))
        finally:
            client.close()
    except docker.errors.DockerException:
        return None


def _find(client: Any, name: str) -> str | None:
    found = client.networks.list(names=[f"^{name}$"])
    return _gateway(found[0]) if found else None


def _gateway(network: Any) -> str:
    network.reload()
    return str(network.attrs["IPAM"]["Config"][0]["Gateway"])


def _create(client: Any, name: str, settings: Settings) -> str:
    network = client.networks.create(
        name,
        driver="bridge",
        check_duplicate=True,
        options={"com.docker.network.bridge.enable_icc": "false"},
        labels={"academyhub.deployment": settings.academy.name},
    )
    return _gateway(network)


def internal_address(settings: Settings) -> str:
    """Where the hub's API and the pages listen: where containers reach them, else on this machine alone."""
    if settings.hub.internal_address:
        return settings.hub.internal_address
    return ensure_network(settings, "students") if settings.docker else "127.0.0.1"


def hub_api_url(settings: Settings) -> str:
    """The hub's REST API as seen from this machine and from containers."""
    return f"http://{internal_address(settings)}:{settings.hub.hub_port}/hub/api"


def pages_url(settings: Settings) -> str:
    """The service ``/services/academy`` behind the proxy."""
    return f"http://{internal_address(settings)}:{settings.hub.pages_port}/services/academy"
