"""What tests share: requirements that skip or fail, settings with free ports, a PostgreSQL cluster, images, a browser."""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from academy import settings as settings_module
from academy.database import Database
from academy.images import NAMES, image_tag
from academy.network import free_port
from academy.settings import CHECKOUT, Settings
from grading import sandbox

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

hypothesis.settings.register_profile("academy", deadline=None)  # timings say nothing on a busy machine
hypothesis.settings.load_profile("academy")


def _missing(mark: str) -> str | None:
    if mark == "docker" and not settings_module.docker_answers():
        return "no Docker Engine answers"
    if mark == "root" and os.geteuid() != 0:
        return "not root"
    if mark == "browser" and not Path(CHROMIUM).exists():
        return "Chromium is not installed"
    if mark == "postgresql" and not glob.glob("/usr/lib/postgresql/*/bin/initdb"):
        return "PostgreSQL is not installed"
    if mark == "gpu" and not glob.glob("/dev/nvidia[0-9]*"):
        return "no GPU"
    return None


def until(check: Callable[[], Any], seconds: float = 120) -> Any:
    """What ``check`` gives, once it gives something."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return found


def pytest_sessionfinish() -> None:
    sandbox.close_all()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run. As root nothing but ``gpu`` may be skipped: there a missing part is a failure."""
    for item in items:
        for mark in ("docker", "root", "browser", "postgresql", "gpu"):
            if item.get_closest_marker(mark) and (reason := _missing(mark)):
                if mark != "gpu" and os.geteuid() == 0:
                    item.add_marker(pytest.mark.usefixtures("_fail_missing"))
                else:
                    item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def _fail_missing() -> None:
    pytest.fail("This machine lacks what the test wants, though root could install it: run `make test`.")


NO_MODEL = {"ACADEMY_LM": os.devnull}  # no start trains the inference course's model where a test never asks for it


def write_config(folder: Path, **sections: dict[str, Any]) -> Path:
    """An ``academy.toml`` in ``folder``: a deployment of its own with free ports and its own name; sections override."""
    name = f"t{secrets.token_hex(3)}"
    config: dict[str, dict[str, Any]] = {
        "academy": {"name": name, "data": str(folder / "data")},
        "hub": {key: free_port() for key in ("port", "hub_port", "pages_port", "proxy_api_port")},
        "backup": {"folder": str(folder / "backups")},
    }
    for section, keys in sections.items():
        config.setdefault(section, {}).update(keys)
    path = folder / "academy.toml"
    lines = []
    for section, keys in config.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    return str(value) if isinstance(value, int | float) else f'"{value}"'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Settings]]:
    """``config(section={...})`` writes an academy.toml, points ACADEMY_CONFIG at it (children too) and loads it."""
    names = set()

    def make(**sections: dict[str, Any]) -> Settings:
        monkeypatch.setenv("ACADEMY_CONFIG", str(write_config(tmp_path, **sections)))
        settings = settings_module.load()
        names.add(settings.academy.name)
        return settings

    yield make
    for name in names:
        remove_deployment(name)


def remove_deployment(name: str) -> None:
    """Remove the containers, networks and volumes of a test's deployment; an engine has room for about 30 networks."""
    if not settings_module.docker_answers():
        return

    def found(*command: str) -> list[str]:
        return subprocess.run(["docker", *command], capture_output=True, text=True).stdout.split()

    label = f"label=academyhub.deployment={name}"
    for remove, listed in (
        (["rm", "--force", "--volumes"], found("ps", "--all", "--quiet", "--filter", label)),
        (["network", "rm"], found("network", "ls", "--quiet", "--filter", label)),
        (["volume", "rm", "--force"], found("volume", "ls", "--quiet", "--filter", f"name=^{name}-")),
    ):
        if listed:
            subprocess.run(["docker", *remove, *listed], capture_output=True)


@pytest.fixture
def database(config: Callable[..., Settings]) -> Iterator[Database]:
    """An empty academy database (SQLite) with all tables."""
    db = Database(config().database_url)
    db.upgrade()
    yield db
    db.close()


@contextmanager
def machine_lock(name: str) -> Iterator[None]:
    """One test process of this machine at a time."""
    folder = CHECKOUT / "build" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def images() -> None:
    """The notebook and sandbox images, built once a machine."""
    with machine_lock("images"):
        subprocess.run([str(CHECKOUT / ".venv/bin/academy"), "images", "build"], check=True, timeout=1500)


def images_archive() -> Path:
    """The images of this machine as `docker save` writes them, for other engines to load."""
    tags = [image_tag(name) for name in NAMES]
    folder = CHECKOUT / "build" / "server-images"
    path = folder / f"{hashlib.sha256(''.join(tags).encode()).hexdigest()[:12]}.tar"
    with machine_lock("server-images"):
        if not path.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            subprocess.run(["docker", "save", "--output", f"{path}.partial", *tags], check=True, timeout=600)
            Path(f"{path}.partial").rename(path)
    return path


@pytest.fixture(scope="session")
def sandbox_image() -> None:
    """The sandbox image alone, where there is a Docker Engine to hold it."""
    if settings_module.docker_answers():
        with machine_lock("images"):
            subprocess.run([str(CHECKOUT / ".venv/bin/academy"), "images", "build", "sandbox"], check=True, timeout=1500)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL cluster of this test process's own; the value is a URL without a database name."""
    folder = Path("/tmp") / f"academy-pg-{secrets.token_hex(4)}"  # short: its socket's path may have 107 bytes
    folder.mkdir(mode=0o700)
    binaries = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]
    port = free_port()

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    run(str(binaries / "initdb"), "-D", f"{folder}/db", "-U", "academy", "--auth=trust", "-E", "UTF8", "--no-sync")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=200"
    run(str(binaries / "pg_ctl"), "-D", f"{folder}/db", "-l", f"{folder}/log", "-w", "-o", options, "start")
    yield f"postgresql://academy@127.0.0.1:{port}"
    run(str(binaries / "pg_ctl"), "-D", f"{folder}/db", "-m", "immediate", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of an empty database."""
    import psycopg

    name = f"db{secrets.token_hex(4)}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    return f"{postgres}/{name}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium (Playwright's Browser); of one module, as its event loop would stay in the way of async tests."""
    from playwright.sync_api import sync_playwright

    program = tmp_path_factory.mktemp("chromium") / "chromium"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CHECKOUT}/tests/browser/deaf.py" "{CHROMIUM}" "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM_ARGS)
        yield chromium
        chromium.close()
