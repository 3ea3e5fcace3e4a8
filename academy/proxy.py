"""The proxy in front of everything: configurable-http-proxy from npm, run with Node.js from PyPI or the system's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from academy.settings import CHECKOUT, SettingsError

PROXY = CHECKOUT / ".venv" / "proxy" / "node_modules" / ".bin" / "configurable-http-proxy"


def command() -> list[str]:
    """The command that starts the proxy.

    Raises:
        SettingsError: neither the checkout nor the system has it.
    """
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    script = PROXY if PROXY.exists() else shutil.which("configurable-http-proxy")
    if node is None or script is None:
        raise SettingsError("configurable-http-proxy is missing. Run `setup/venv.sh local`, which installs it and Node.js.")
    return [node, str(Path(script).resolve())]
