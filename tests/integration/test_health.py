"""``academy health`` against a real academy: all well, and what it says when a part is broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from academy.database import Database
from academy.health import PROBE
from academy.people import Person
from academy.settings import Settings
from grading.exchange.store import Store
from grading.records import Job, Release, Submission
from tests.conftest import NO_MODEL
from tests.integration.hub import remove_everything


@pytest.fixture(params=["local", pytest.param("docker", marks=pytest.mark.docker)])
def academy(request: pytest.FixtureRequest, config: Callable[..., Settings], tmp_path: Path) -> Iterator[Settings]:
    """A running academy without courses."""
    if request.param == "docker":
        request.getfixturevalue("images")
    (tmp_path / "courses").mkdir()
    settings = config(
        academy={"courses": str(tmp_path / "courses")},
        spawner={"backend": request.param},
        grading={"backend": request.param},
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "academy", "run"],
        env={**os.environ, **NO_MODEL},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{settings.hub.port}/services/academy/health"
        deadline = time.monotonic() + 120
        while not _answers(url):
            assert process.poll() is None, "academy run ended"
            assert time.monotonic() < deadline, "academy run did not become ready"
            time.sleep(0.2)
        yield settings
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        if settings.docker:
            remove_everything(settings.academy.name)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def health() -> tuple[int, dict[str, dict[str, Any]]]:
    """The command's exit code and its checks by name."""
    done = subprocess.run([sys.executable, "-m", "academy", "health", "--json"], capture_output=True, text=True, timeout=240)
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)}


def test_the_whole_way_and_nothing_left(academy: Settings) -> None:
    code, checks = health()
    assert code == 0, [check for check in checks.values() if not check["ok"]]
    assert {"start a server", "run a notebook", "fetch and submit", "grade", "stop the server"} <= checks.keys()
    database = Database(academy.database_url)
    with database.read() as session:
        for table in (Release, Submission, Job):
            assert not session.scalars(select(table).where(table.course == PROBE)).all()
        assert session.get(Person, PROBE) is None
        actions = set(session.scalars(text(f"SELECT action FROM history WHERE course = '{PROBE}'")))
    assert {"release", "fetch", "submit"} <= actions  # so the probe did go the students' way
    before = sorted(Store(academy).folder.rglob("*"))
    if not academy.docker:  # once more is enough on one of the two
        with database.write() as session:  # work that is broken is told, with the part and the reason
            session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        code, checks = health()
        assert code == 1
        assert "0000" in checks["database"]["reason"]
        assert "academy prepare" in checks["database"]["fix"]
        assert "start a server" not in checks
        assert sorted(Store(academy).folder.rglob("*")) == before
    database.close()


def test_says_what_does_not_run(config: Callable[..., Settings]) -> None:
    settings = config(spawner={"backend": "local"}, grading={"backend": "local"})
    database = Database(settings.database_url)
    database.upgrade()
    database.close()
    code, checks = health()
    assert code == 1
    broken = {name for name, check in checks.items() if not check["ok"]}
    assert broken == {"hub", "proxy", "pages", "worker"}
    for name in broken:
        assert checks[name]["reason"]
        assert checks[name]["fix"]


def test_says_what_is_wrong_with_the_settings(config: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    config()
    monkeypatch.setenv("ACADEMY_HUB__PORT", "no number")
    code, checks = health()
    assert code == 1
    assert list(checks) == ["settings"]
    assert "hub.port" in checks["settings"]["reason"]
