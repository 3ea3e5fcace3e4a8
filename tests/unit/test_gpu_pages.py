"""The pages of GPUs, lessons, vouchers and teams, each as those who may see it and those who may not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from academy.database import Database, now
from academy.gpus import pool
from academy.gpus.inventory import Device
from academy.gpus.records import Booking, Lease
from academy.i18n import field_time
from academy.pages.hubapi import PREFIX
from academy.people import Person
from academy.settings import Settings
from academy.vouchers import ledger
from academy.vouchers.records import Entry, Member, Team, Voucher
from tests.unit.test_pages import COURSE_TOML, app, db, hub, post, visitor  # noqa: F401  (fixtures)

Visitor = Callable[..., httpx.AsyncClient]
DEVICES = [Device("GPU-a", "H100 <x>", 81920), Device("GPU-b", "H100", 81920)]


@pytest.fixture
def settings(config: Callable[..., Settings], tmp_path: Any) -> Settings:
    folder = tmp_path / "courses" / "inference"
    folder.mkdir(parents=True)
    (folder / "course.toml").write_text(COURSE_TOML, encoding="utf-8")
    for unit in ("arrays", "kv-cache"):
        (folder / unit).mkdir()
        (folder / unit / f"{unit}.py").write_text("# %%\n")
    declared = [{"uuid": one.uuid, "model": one.model, "memory_mb": one.memory_mb} for one in DEVICES]
    return config(academy={"courses": str(tmp_path / "courses")}, spawner={"backend": "local"}, gpus={"devices": declared})


def give(db: Database, settings: Settings, login: str, profile: str = "gpu", server: str = "") -> Lease:  # noqa: F811
    with db.write() as session:
        person = session.get_one(Person, login)
        pool.ask(session, settings, person, server, profile, now())
        pool.settle(session, settings, DEVICES, now())
        lease = pool.lease_of(session, pool.holder_of(login, server))
        assert lease
        return lease


async def test_a_person_sees_their_own_gpu_and_the_operator_every_one(
    visitor: Visitor,  # noqa: F811
    db: Database,  # noqa: F811
    settings: Settings,
) -> None:
    give(db, settings, "mina")
    mine = (await visitor("mina").get(f"{PREFIX}/gpus")).text
    assert "H100 &lt;x&gt;" in mine
    assert "GPU-a" not in mine
    assert "1 of 2 GPU places is free." in mine
    assert "지금 쓰고 있는 GPU가 없어요." in (await visitor("other", "ko").get(f"{PREFIX}/gpus")).text
    everything = (await visitor("op").get(f"{PREFIX}/gpus?span=week")).text
    assert "GPU-a" in everything
    assert "GPU-b" in everything
    assert "mina" in everything
    live = (await visitor("mina").get(f"{PREFIX}/gpus/live.json")).json()
    assert "H100" in live["html"]
    assert "csrf" not in live["html"]
    [told] = (await visitor("mina").get(f"{PREFIX}/gpus/mine.json")).json()
    assert (told["server"], told["warning"]) == ("", "")
    assert not {"keep", "voucher"} & told.keys()


async def test_an_idle_gpu_is_kept_by_a_click(visitor: Visitor, db: Database, settings: Settings) -> None:  # noqa: F811
    lease = give(db, settings, "mina")
    with db.write() as session:
        found = session.get_one(Lease, lease.id)
        found.ends_at, found.ends_why = now() + timedelta(minutes=10), "idle"
    assert "Keep it, I am thinking" in (await visitor("mina").get(f"{PREFIX}/gpus")).text
    [told] = (await visitor("mina", "ko").get(f"{PREFIX}/gpus/mine.json")).json()
    assert told["warning"].startswith("GPU가 한동안 쉬고 있어요. 작업을 저장해 주세요.")
    assert told["keep"] == "생각 중이에요, 계속 쓸게요"
    assert (await post(visitor("other"), "/gpus/keep", "other", server="")).status_code == 303  # nothing of theirs
    with db.read() as session:
        assert session.get_one(Lease, lease.id).ends_at
    assert "Save your work" in (await visitor("mina").get(f"{PREFIX}/")).text
    await post(visitor("mina"), "/gpus/keep", "mina", server="")
    with db.read() as session:
        assert session.get_one(Lease, lease.id).ends_at is None


async def test_staff_book_and_cancel_lessons_and_students_do_not(
    visitor: Visitor,  # noqa: F811
    db: Database,  # noqa: F811
    settings: Settings,
) -> None:
    begin = now() + timedelta(days=1)
    times = {
        "starts_at": field_time(begin, settings.academy.timezone),
        "ends_at": field_time(begin + timedelta(hours=2), settings.academy.timezone),
    }
    fields = {"course": "inference", **times, "places": "2", "kind": "whole", "weeks": "2", "profile": "gpu"}
    assert (await post(visitor("mina"), "/gpus/lessons", "mina", **fields)).status_code == 404
    assert (await post(visitor("prof"), "/gpus/lessons", "prof", **{**fields, "course": "other"})).status_code == 404
    too_many = await post(visitor("prof"), "/gpus/lessons", "prof", **{**fields, "places": "3"})
    assert too_many.status_code == 422
    assert "does not have that many GPUs" in too_many.text
    assert (await post(visitor("prof"), "/gpus/lessons", "prof", **{**fields, "starts_at": "soon"})).status_code == 422
    booked = await post(visitor("prof"), "/gpus/lessons", "prof", **fields)
    assert booked.status_code == 303
    taken = await post(visitor("prof"), "/gpus/lessons", "prof", **{**fields, "weeks": "1"})
    assert taken.status_code == 422
    assert "Another lesson has booked GPUs at that time: inference" in taken.text
    with db.read() as session:
        first, second = session.scalars(select(Booking).order_by(Booking.starts_at))
        assert (first.booked_by, first.profile, first.series) == ("prof", "gpu", second.series)
    page = (await visitor("prof").get(booked.headers["location"])).text
    assert f"/gpus/lessons/{first.id}/cancel" in page
    assert f"/gpus/lessons/{first.id}/cancel" not in (await visitor("mina").get(booked.headers["location"])).text
    assert (await visitor("mina").get(f"{PREFIX}/gpus/lessons/{first.id}/cancel")).status_code == 404
    assert "2 places" in (await visitor("prof").get(f"{PREFIX}/gpus/lessons/{first.id}/cancel")).text
    await post(visitor("prof"), f"/gpus/lessons/{first.id}/cancel", "prof", following="yes")
    with db.read() as session:
        assert all(lesson.cancelled_by == "prof" for lesson in session.scalars(select(Booking)))
    assert (await post(visitor("prof"), f"/gpus/lessons/{first.id}/cancel", "prof")).status_code == 409


async def test_prometheus_reads_the_figures_with_a_secret(
    visitor: Visitor,  # noqa: F811
    db: Database,  # noqa: F811
    settings: Settings,
) -> None:
    give(db, settings, "mina")
    give(db, settings, "other")
    with db.write() as session:
        pool.ask(session, settings, session.get_one(Person, "prof"), "", "gpu", now())
    client = visitor()
    assert (await client.get(f"{PREFIX}/gpus/metrics")).status_code == 404
    bearer = {"Authorization": f"Bearer {settings.secret('metrics-token')}"}
    text = (await client.get(f"{PREFIX}/gpus/metrics", headers=bearer)).text
    assert 'academy_gpu_shares_held{device="GPU-a"} 1.0' in text
    assert 'academy_gpu_waiting{kind="whole"} 1.0' in text
    assert 'academy_gpu_leases{profile="gpu",purpose="server"} 2.0' in text


async def test_a_voucher_from_its_grant_to_its_statement(
    visitor: Visitor,  # noqa: F811
    db: Database,  # noqa: F811
    settings: Settings,
) -> None:
    grant = {"number": "NIPA-7", "kind": "person", "holder": "ceo", "hours": "10", "reason": "지원 사업"}
    days = {"starts_on": "2026-01-01", "ends_on": "2099-12-31"}
    assert (await post(visitor("ceo"), "/vouchers", "ceo", **grant, **days)).status_code == 404
    wrong = await post(visitor("op"), "/vouchers", "op", **{**grant, "hours": "ten"}, **days)
    assert wrong.status_code == 422
    assert 'value="NIPA-7"' in wrong.text  # nothing that was typed is lost
    assert (await post(visitor("op"), "/vouchers", "op", **grant, **days)).status_code == 303
    with db.read() as session:
        voucher = session.scalars(select(Voucher)).one()
    lease = give(db, settings, "ceo", "sandbox-gpu", "trial")
    with db.write() as session:
        assert session.get_one(Lease, lease.id).voucher_id == voucher.id
        ledger.charge(session, lease.id, lease.granted_at + timedelta(hours=9))
    mine = await visitor("ceo", "ko").get(f"{PREFIX}/vouchers")
    assert "GPU 10.00시간 가운데 1.00시간이 남았어요" in mine.text
    assert "거의 다 씀" in mine.text
    assert "바우처 NIPA-7: GPU 1.00시간이 남았어요." in (await visitor("ceo", "ko").get(f"{PREFIX}/")).text
    statement = (await visitor("ceo").get(f"{PREFIX}/vouchers/{voucher.id}")).text
    assert "-9.000" in statement
    assert "지원 사업" in statement
    assert "<path" in statement
    table = (await visitor("ceo").get(f"{PREFIX}/vouchers/{voucher.id}/statement.csv")).text.splitlines()
    assert table[0].endswith("at,kind,gpu_hours,amount,lease,by,reason,who")
    assert any(",use,-9.000000,-32400000000," in line and line.endswith(",ceo") for line in table)
    for login in ("mina", "prof"):
        assert (await visitor(login).get(f"{PREFIX}/vouchers/{voucher.id}")).status_code == 404
    more = {"hours": "5", "reason": "연장", "target": ""}
    assert (await post(visitor("ceo"), f"/vouchers/{voucher.id}/correct", "ceo", **more)).status_code == 404
    await post(visitor("op"), f"/vouchers/{voucher.id}/correct", "op", **more)
    with db.read() as session:
        assert session.scalars(select(Entry.amount).where(Entry.kind == "correction")).one() == 5 * 3_600_000_000


async def test_a_team_invites_joins_and_leaves(visitor: Visitor, db: Database) -> None:  # noqa: F811
    assert (await post(visitor("mina"), "/teams", "mina", name="X")).status_code == 404
    await post(visitor("ceo"), "/teams", "ceo", name="  Seoul   Chips ")
    with db.read() as session:
        team = session.scalars(select(Team)).one()
        assert team.name == "Seoul Chips"
    path = f"/teams/{team.id}"
    assert (await post(visitor("mina"), f"{path}/invite", "mina", login="mina")).status_code == 404
    assert (await post(visitor("mina"), f"{path}/join", "mina")).status_code == 404  # nobody asked her
    await post(visitor("ceo"), f"{path}/invite", "ceo", login="nobody")
    await post(visitor("ceo"), f"{path}/invite", "ceo", login="mina")
    assert "ceo invites you into this team." in (await visitor("mina").get(f"{PREFIX}/vouchers")).text
    with db.write() as session:
        ledger.grant(session, "T-1", "team", team.id, 3, now() - timedelta(days=1), now() + timedelta(days=9), "op", "x", now())
        assert ledger.vouchers_of(session, session.get_one(Person, "mina")) == []
    await post(visitor("mina"), f"{path}/join", "mina")
    assert "T-1" in (await visitor("mina").get(f"{PREFIX}/vouchers")).text
    assert (await post(visitor("ceo"), f"{path}/remove/ceo", "ceo")).headers["location"] == f"{PREFIX}/vouchers"
    with db.read() as session:
        assert {member.login for member in session.scalars(select(Member))} == {"ceo", "mina"}  # its last lead stays
    assert (await post(visitor("mina"), f"{path}/remove/ceo", "mina")).status_code == 404
    assert "Take" in (await visitor("ceo").get(f"{PREFIX}{path}/remove/mina")).text
    await post(visitor("ceo"), f"{path}/remove/mina", "ceo")
    assert "T-1" not in (await visitor("mina").get(f"{PREFIX}/vouchers")).text
