"""What homes, sandboxes and teams' folders take: measured by folder here, by container in ``integration/test_spawn.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, select

from academy import storage
from academy.database import Database, now
from academy.pages.hubapi import PREFIX
from academy.settings import Settings
from academy.storage import Volume
from academy.vouchers import teams
from tests.unit.test_pages import COURSE_TOML, app, db, hub, post, visitor  # noqa: F401  (fixtures)

Visitor = Callable[..., httpx.AsyncClient]
MB = 1 << 20


@pytest.fixture
def settings(config: Callable[..., Settings], tmp_path: Path) -> Settings:
    folder = tmp_path / "courses" / "inference"
    folder.mkdir(parents=True)
    (folder / "course.toml").write_text(COURSE_TOML, encoding="utf-8")
    for unit in ("arrays", "kv-cache"):
        (folder / unit).mkdir()
        (folder / unit / f"{unit}.py").write_text("# %%\n")
    room = {"home_gb": 10 / 1024, "sandbox_gb": 0, "team_gb": 1}
    return config(academy={"courses": str(tmp_path / "courses")}, spawner={"backend": "local"}, storage=room)


def stored(settings: Settings, database: Database, name: str, login: str | None, size: int = 0, **more: Any) -> Path:
    folder = settings.data / name
    (folder / ".cache" / "models").mkdir(parents=True)
    (folder / ".cache" / "models" / "weights <b>").write_bytes(b"x" * size)
    (folder / "notes.txt").write_bytes(b"x" * 4096)
    with database.write() as session:
        storage.know(session, name, login, **more)
    return folder


async def test_a_home_that_gets_full_is_told_and_says_what_takes_most(
    visitor: Visitor,  # noqa: F811
    db: Database,  # noqa: F811
    settings: Settings,
) -> None:
    home = stored(settings, db, "homes/mina", "mina", 8 * MB + 1)
    mina = visitor("mina")
    assert "It is being measured" in (await mina.get(f"{PREFIX}/storage")).text
    storage.measure(settings, db, now())
    page = (await mina.get(f"{PREFIX}/storage")).text
    assert "8 MB of 10 MB" in page
    assert "Nearly full" in page
    assert "weights &lt;b&gt;" in page, "names are text"
    assert ".cache/models<" not in page, "a folder that is as big as one file in it says nothing more"
    assert "How to free room" in (await mina.get(f"{PREFIX}/")).text
    assert "weights" not in (await visitor("jun").get(f"{PREFIX}/storage")).text

    (home / ".cache" / "models" / "weights <b>").unlink()
    assert (await post(mina, "/storage/measure", "mina")).status_code == 303
    assert (await mina.get(f"{PREFIX}/storage/live.json")).json()["wait"] < 5000
    storage.measure(settings, db, now())
    page = (await mina.get(f"{PREFIX}/storage")).text
    assert "weights" not in page
    assert "Nearly full" not in page
    assert "How to free room" not in (await mina.get(f"{PREFIX}/")).text


def test_what_is_measured_and_when(db: Database, settings: Settings) -> None:  # noqa: F811
    stored(settings, db, "homes/mina", "mina", 20 * MB)
    stored(settings, db, "homes/mina--box", "mina", 20 * MB, server="box")
    with db.write() as session:
        team = teams.make(session, "별빛", "mina", "mina", now())
        teams.invite(session, team.id, "jun", "mina", now())
    stored(settings, db, f"teams/{team.id}", None, MB, team_id=team.id)
    storage.measure(settings, db, now())

    def look(login: str) -> dict[str, Volume]:
        with db.read() as session:
            return {volume.name: volume for volume in storage.volumes_of(session, login)}

    mina = look("mina")
    assert list(mina) == ["homes/mina", "homes/mina--box", f"teams/{team.id}"]
    assert [round(storage.part(settings, one), 3) for one in mina.values()] == [pytest.approx(2, abs=0.01), 0, 0.001]
    assert json.loads(mina["homes/mina"].biggest)[0] == [".cache/models/weights <b>", 20 * MB]
    assert json.loads(mina["homes/mina--box"].biggest) == []
    assert not look("jun"), "an invitation gives nothing yet"
    with db.write() as session:
        teams.join(session, team.id, "jun", now())
    assert list(look("jun")) == [f"teams/{team.id}"]

    stored(settings, db, "homes/jun", "jun", 5 * MB)
    before = mina["homes/mina"].measured_at
    storage.measure(settings, db, now())
    assert look("mina")["homes/mina"].measured_at == before, "what was measured lately is left alone"
    assert look("jun")["homes/jun"].used >= 5 * MB
    storage.measure(settings, db, now() + storage.EVERY + timedelta(minutes=1))
    assert look("mina")["homes/mina"].measured_at > before

    for path in (settings.data / "homes" / "jun").rglob("*"):
        if path.is_file():
            path.unlink()
    (settings.data / "homes" / "jun").rename(settings.data / "homes" / "gone")
    with db.write() as session:
        storage.measure_again(session, "jun")
    storage.measure(settings, db, now())
    assert list(look("jun")) == [f"teams/{team.id}"], "a volume that was removed is forgotten"


def test_full_at_every_size(settings: Settings) -> None:
    home = Volume(name="x", login="mina", server="", used=8 * MB - 1)
    assert not storage.low(settings, home)
    home.used = 8 * MB
    assert storage.low(settings, home)
    assert storage.part(settings, home) == 0.8


def test_whoever_asks_while_it_is_measured_is_not_forgotten(
    db: Database,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stored(settings, db, "homes/mina", "mina", MB)
    stored(settings, db, "homes/jun", "jun", MB)
    storage.measure(settings, db, now())
    look = storage._in_folder

    def looked(settings: Settings, name: str) -> tuple[int, list[tuple[str, int]]]:
        with db.write() as session:
            storage.measure_again(session, "mina")
            session.execute(delete(Volume).where(Volume.name == "homes/jun"))
        return look(settings, name)

    monkeypatch.setattr(storage, "_in_folder", looked)
    storage.measure(settings, db, now() + storage.EVERY + timedelta(minutes=1))
    with db.read() as session:
        [left] = session.scalars(select(Volume))
        assert (left.name, left.measured_at) == ("homes/mina", None)
