"""Two GPUs, the people who want them, and a startup's voucher: in the browser, with containers, on stand-ins for the GPUs.

The stand-ins show who was given which device and that no container reaches another; ``tests.standin`` says what they do not.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import pytest
from sqlalchemy import select

from academy import settings as settings_module
from academy.database import Database, now
from academy.gpus.records import Booking, Held, Lease, Wait
from academy.vouchers.records import GPU_HOUR, Entry
from tests.browser.test_journeys import Running, Visitor, start
from tests.conftest import images_archive, until
from tests.standin import Driver, engine, gpus, library

pytestmark = [pytest.mark.browser, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(900)]

UUIDS = ("GPU-aaaa", "GPU-bbbb")
TITLE = {"ko": "GPU 노트북", "en": "GPU notebook"}
SMALL = {"cpus": 1, "memory_mb": 1024}


@pytest.fixture(scope="module")
def academy(browser: Any, images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gpus")
    driver = Driver(folder / "driver")
    driver.says(*gpus(UUIDS, percent=40))
    library(folder)
    profiles = {
        "cpu": {"title": {"ko": "CPU 노트북", "en": "CPU notebook"}, **SMALL},
        "gpu": {"title": TITLE, "gpu": "whole", "hours": 6, **SMALL},
        "sandbox-gpu": {  # an hour of it costs ten GPU-hours: a voucher's whole life fits into minutes
            "title": {"ko": "GPU 샌드박스", "en": "GPU sandbox"},
            **{"kind": "sandbox", "roles": ["founder"], "gpu": "whole", "hours": 6, "paid": True, "weight": 10},
            **SMALL,
        },
    }
    with engine(UUIDS, images_archive()) as host, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", host)
        patch.setenv("LD_LIBRARY_PATH", str(folder))
        patch.setenv("STANDIN_NVML", str(driver.path))
        settings_module.docker_answers.cache_clear()
        yield from start(folder, "docker", ["foundations"], profiles=profiles, gpus={"voucher_grace_minutes": 0})
    settings_module.docker_answers.cache_clear()


@contextmanager
def transaction(academy: Running) -> Iterator[Any]:
    database = Database(f"sqlite:///{academy.config.parent}/data/academy.sqlite")
    with database.write() as session:
        yield session
    database.close()


def holders(academy: Running) -> dict[str, str]:
    with transaction(academy) as session:
        pairs = select(Lease.login, Held.device).join(Held, Held.lease_id == Lease.id)
        return {login: device for login, device in session.execute(pairs)}


def kill(academy: Running, part: str) -> None:
    """``kill -9``; ``academy run`` starts it again."""
    for process in psutil.process_iter(["cmdline", "environ"]):
        mine = (process.info["environ"] or {}).get("ACADEMY_CONFIG") == str(academy.config)
        if mine and part in " ".join(process.info["cmdline"] or ()):
            process.send_signal(signal.SIGKILL)
            return
    raise AssertionError(f"no {part} runs")


def ask(visitor: Visitor, profile: str = TITLE["ko"], server: str = "") -> None:
    """Choose a server with a GPU and press the button."""
    page = visitor.page
    page.goto(f"{visitor.academy.url}/hub/spawn/{visitor.login}/{server}".rstrip("/"))
    if page.locator("main form label", has_text=profile).count():
        page.click(f"main form label:has-text('{profile}')")
    page.click("main form button:not([formaction])")


def ready(visitor: Visitor, server: str = "") -> None:
    visitor.page.wait_for_url(re.compile(f"/user/{visitor.login}/{server}.*lab"))
    visitor.page.wait_for_selector("#jp-main-dock-panel >> text=런처")


def come_back(visitor: Visitor) -> None:
    """To the tab: JupyterLab asks at once how their GPU is, which it else does now and then."""
    visitor.page.evaluate("window.dispatchEvent(new Event('focus'))")


def stop(visitor: Visitor, server: str = "") -> None:
    address = f"{visitor.academy.url}/hub/api/users/{visitor.login}/" + (f"servers/{server}" if server else "server")
    [xsrf] = [cookie["value"] for cookie in visitor.context.cookies() if (cookie["name"], cookie["path"]) == ("_xsrf", "/hub/")]
    reply = visitor.context.request.delete(address, headers={"X-XSRFToken": xsrf, "Referer": visitor.academy.url})
    assert reply.ok, reply.text()


def inside(login: str, script: str, *options: str) -> str:
    """What a shell in somebody's container says."""
    listed = ["docker", "ps", "--quiet", "--filter", f"label=academyhub.user={login}"]
    [container] = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    done = subprocess.run(["docker", "exec", *options, container, "sh", "-c", script], capture_output=True, text=True)
    return done.stdout + done.stderr


def has_its_own_device_alone(academy: Running, login: str) -> None:
    mine = UUIDS.index(holders(academy)[login])
    other = 1 - mine
    assert inside(login, "ls /dev/nvidia*").split() == [f"/dev/nvidia{mine}"]
    assert "No such device or address" in inside(login, f"cat /dev/nvidia{mine}")  # it may be opened; nothing is behind it
    assert "Operation not permitted" in inside(login, f"mknod /tmp/other c 195 {other}")


def test_three_people_and_two_gpus(browser: Any, academy: Running) -> None:
    minji, junho, teacher = (Visitor(browser, academy, login, "ko", "gpus") for login in ("minji", "junho", "teacher"))
    for visitor in (minji, junho):
        ask(visitor)
        ready(visitor)
    assert sorted(holders(academy).values()) == sorted(UUIDS)
    for login in ("minji", "junho"):
        has_its_own_device_alone(academy, login)
    bar = minji.page.wait_for_selector(".academy-gpu:visible", timeout=60_000)
    assert "H100 · 40%" in bar.inner_text()  # the keeper noted what the GPU does
    minji.shot("lab")

    academy_driver(academy).says(*gpus(UUIDS))  # nobody computes any more, for longer than the profile lets them
    with transaction(academy) as session:
        for lease in session.scalars(select(Lease).where(Lease.login == "minji")):
            lease.busy_at -= timedelta(hours=1)
    until(lambda: _ends(academy, "minji") == "idle")
    toast = minji.page.locator(".Toastify__toast", has_text="GPU가 한동안 쉬고 있어요")
    come_back(minji)
    toast.wait_for()
    minji.shot("idle")
    with minji.context.expect_page() as opened:
        toast.get_by_text("생각 중이에요, 계속 쓸게요").click()
    opened.value.get_by_role("button", name="생각 중이에요, 계속 쓸게요").click()
    until(lambda: _ends(academy, "minji") == "")

    ask(teacher)
    place = teacher.page.locator("#progress-message", has_text="1명 가운데 1번째")
    place.wait_for()
    assert teacher.page.is_visible("#without-gpu")
    teacher.shot("waits")
    before = holders(academy)
    kill(academy, "bin/jupyterhub")  # not its culler
    with teacher.page.expect_navigation():  # the start goes on by itself and nobody has lost their place
        pass
    place.wait_for()
    assert holders(academy) == before
    until(lambda: _answers(minji))
    stop(minji)
    until(lambda: holders(academy).get("teacher") == before["minji"])
    assert holders(academy) == {"junho": before["junho"], "teacher": before["minji"]}
    ready(teacher)
    has_its_own_device_alone(academy, "teacher")

    ask(minji, "CPU 노트북")  # whatever the image says, no GPU
    ready(minji)
    assert "No such file" in inside("minji", "ls /dev/nvidia*")
    for visitor in (minji, junho, teacher):
        stop(visitor)
    until(lambda: holders(academy) == {})
    for visitor in (minji, junho, teacher):
        visitor.close()
    academy_driver(academy).says(*gpus(UUIDS, percent=40))


def academy_driver(academy: Running) -> Driver:
    return Driver(academy.config.parent / "driver")


def _ends(academy: Running, login: str) -> str:
    with transaction(academy) as session:
        return str(session.scalar(select(Lease.ends_why).where(Lease.login == login, Lease.holder.is_not(None))))


def _waits(academy: Running) -> list[str]:
    with transaction(academy) as session:
        return list(session.scalars(select(Wait.login)))


def _answers(visitor: Visitor) -> bool:
    try:
        return bool(visitor.context.request.get(f"{visitor.academy.url}/hub/health").ok)
    except Exception:  # the hub is on its way
        return False


def test_a_voucher_from_its_grant_to_zero(browser: Any, academy: Running) -> None:
    operator, founder = (Visitor(browser, academy, login, "ko", "gpus") for login in ("operator", "founder"))
    ask(founder, TITLE["ko"], "proto")
    founder.page.wait_for_selector("text=바우처")  # a start without budget says what is missing and whom to ask
    founder.shot("no-voucher")

    today = now()
    page = operator.page
    page.goto(f"{academy.url}/services/academy/vouchers")
    for name, value in (("number", "KV-2026-1"), ("holder", "founder"), ("hours", "10"), ("reason", "창업 지원")):
        page.fill(f"form[action$='/vouchers'] [name={name}]", value)
    page.fill("[name=starts_on]", f"{today - timedelta(days=1):%Y-%m-%d}")
    page.fill("[name=ends_on]", f"{today + timedelta(days=30):%Y-%m-%d}")
    operator.press("form[action$='/vouchers'] button")
    operator.shot("vouchers")

    ask(founder, "GPU 샌드박스", "proto")
    ready(founder, "proto")
    _later(academy, minutes=50)  # of sixty that it lasts
    come_back(founder)
    founder.page.locator(".Toastify__toast", has_text="바우처 KV-2026-1").wait_for()
    assert "시간 남음" in founder.page.inner_text(".academy-gpu")
    founder.shot("voucher-in-lab")
    founder.home()
    founder.page.wait_for_selector("text=KV-2026-1")
    founder.shot("voucher-low")
    _later(academy, minutes=59.6)
    until(lambda: holders(academy) == {})
    with transaction(academy) as session:
        [lease] = session.scalars(select(Lease).where(Lease.login == "founder"))
        assert lease.released_why == "voucher"
        used = [entry.amount for entry in session.scalars(select(Entry).where(Entry.kind == "use"))]
        assert sum(used) == -10 * GPU_HOUR
        ended = lease.released_at - lease.granted_at
        assert timedelta(minutes=60) <= ended < timedelta(minutes=61)  # on time, not at the charge after
    founder.page.goto(f"{academy.url}/services/academy/vouchers/me")
    assert "-10.0000" in founder.page.inner_text("main").replace("\u2212", "-")
    founder.shot("statement")
    founder.close()
    operator.close()


def _later(academy: Running, minutes: float) -> None:
    """Every lease has run for so long now; a keeper that was killed charges as soon as it is back."""
    with transaction(academy) as session:
        for lease in session.scalars(select(Lease).where(Lease.holder.is_not(None))):
            lease.granted_at = now() - timedelta(minutes=minutes)
        charged = len(session.scalars(select(Entry.id)).all())
    kill(academy, "academy pool")
    until(lambda: _lines(academy) > charged)


def _lines(academy: Running) -> int:
    with transaction(academy) as session:
        return len(session.scalars(select(Entry.id)).all())


def test_a_lesson_moves_an_outsider_off_after_two_warnings(browser: Any, academy: Running) -> None:
    outsider, teacher = (Visitor(browser, academy, login, "ko", "gpus") for login in ("operator", "teacher"))
    ask(outsider)
    ready(outsider)
    teacher.page.goto(f"{academy.url}/services/academy/gpus")
    begin = now().astimezone(ZoneInfo("Asia/Seoul")) + timedelta(minutes=12)
    for name, value in (("starts_at", begin), ("ends_at", begin + timedelta(hours=2))):
        teacher.page.fill(f"[name={name}]", f"{value:%Y-%m-%dT%H:%M}")
    teacher.page.fill("[name=places]", "2")
    teacher.page.select_option("[name=kind]", "whole")
    teacher.press("form[action$='/lessons'] button")
    teacher.shot("calendar")

    until(lambda: _leaves(academy))  # the keeper has told
    warnings = outsider.page.locator(".Toastify__toast", has_text="수업에 예약된 GPU예요")
    come_back(outsider)
    warnings.first.wait_for()
    outsider.shot("first-warning")
    with transaction(academy) as session:  # time passes
        booking = session.scalars(select(Booking)).one()
        for lease in session.scalars(select(Lease).where(Lease.ends_at.is_not(None))):
            lease.ends_at = now() + timedelta(minutes=4.5)
        booking.starts_at = now() + timedelta(minutes=4.5)
    come_back(outsider)
    warnings.nth(1).wait_for()
    outsider.shot("second-warning")
    outsider.home()
    assert "저장" in outsider.page.inner_text(".note.warn")
    with transaction(academy) as session:
        for lease in session.scalars(select(Lease).where(Lease.ends_at.is_not(None))):
            lease.ends_at = now()
        session.scalars(select(Booking)).one().starts_at = now()
    until(lambda: holders(academy) == {})
    students = [Visitor(browser, academy, login, "ko", "gpus") for login in ("minji", "junho")]
    for student in students:
        ask(student)
        ready(student)
    assert set(holders(academy)) == {"minji", "junho"}
    for visitor in (outsider, teacher, *students):
        visitor.close()


def _leaves(academy: Running) -> bool:
    with transaction(academy) as session:
        return session.scalar(select(Lease.ends_why).where(Lease.holder.is_not(None))) == "booked"
