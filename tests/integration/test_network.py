"""The containers' networks, in a real Docker Engine."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from academy import network
from academy.settings import Settings

pytestmark = pytest.mark.docker


def test_two_that_want_a_new_network_at_once_have_one(config: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(spawner={"backend": "docker"})
    find, both, looks = network._find, threading.Barrier(2), list[Any]()

    def look(client: Any, name: str) -> str | None:
        found = find(client, name)
        looks.append(found)
        if len(looks) <= 2:
            both.wait(60)  # so that neither is ahead
        return found

    monkeypatch.setattr(network, "_find", look)
    with ThreadPoolExecutor(2) as threads:
        gateways = set(threads.map(lambda _: network.ensure_network(settings, "sandboxes"), range(2)))
    assert looks[:2] == [None, None]
    assert len(gateways) == 1
    name = network.network_name(settings, "sandboxes")
    listed = ["docker", "network", "ls", "--quiet", "--filter", f"name=^{name}$"]
    assert len(subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()) == 1
