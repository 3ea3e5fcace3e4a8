"""Who may start which server, names of containers and volumes, GPUs, and the texts of failed starts."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from types import SimpleNamespace
from typing import Any

import docker
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.utils import utcnow

from academy import network, profiles, spawner
from academy.database import Database
from academy.gpus.inventory import Device
from academy.messages import catalogue
from academy.people import Person, enrol
from academy.settings import CHECKOUT, Settings
from academy.spawner import STEPS, AcademySpawner, LocalSpawner, SpawnFailed, share_course_folder


def person(login: str = "alice", role: str | None = None, **courses: str) -> Person:
    someone = Person(login=login, name=login, role=role, enrollments=[])
    for course, course_role in courses.items():
        enrol(someone, course, course_role)
    return someone


@pytest.mark.parametrize(
    ("who", "server", "gpu", "expected"),
    [
        (person(), "", False, ["cpu"]),
        (person(), "", True, ["cpu", "gpu"]),
        (person(ai="student"), "trial", True, []),
        (person(ai="student"), "grade-ai", True, []),
        (person(ai="assistant"), "grade-ai", False, ["grading"]),
        (person(ai="instructor"), "grade-ml", False, []),
        (person(ai="instructor", ml="student"), "grade-ml", False, []),
        (person(ai="instructor"), "", False, ["cpu"]),
        (person(role="founder"), "trial", False, ["sandbox"]),
        (person(role="founder"), "trial", True, ["sandbox", "sandbox-gpu"]),
        (person(role="operator"), "grade-ai", False, []),
    ],
)
def test_who_may_start_what(who: Person, server: str, gpu: bool, expected: list[str]) -> None:
    devices = [Device("GPU-a", "H100", 81920)] if gpu else []
    assert list(profiles.profiles_for(Settings(), who, server, devices)) == expected


def test_a_profile_needs_a_gpu_of_its_kind_and_memory(config: Callable[..., Settings]) -> None:
    titles = {"title": {"ko": "", "en": ""}}
    kinds = {kind: {**titles, "gpu": kind, "gpu_memory_mb": 40_000} for kind in ("none", "whole", "slice", "share")}
    settings = config(profiles=kinds)
    for device, expected in {
        Device("a", "H100", 81920): ["none", "whole"],
        Device("a", "T4", 16384): ["none"],
        Device("a", "H100", 81920, shares=4): ["none", "whole", "share"],
        Device("a", "H100 3g.40gb", 40960, slice=True): ["none", "slice"],
    }.items():
        assert list(profiles.profiles_for(settings, person(), "", [device])) == expected
    assert list(profiles.profiles_for(settings, person(), "")) == list(kinds)


def test_named_servers_are_for_founders_and_staff() -> None:
    settings = Settings()
    assert profiles.most_named_servers(settings, person(ai="student")) == 1  # 0 would mean "no limit" to the hub
    for who in (person(role="founder"), person(ai="instructor"), person(ai="assistant")):
        assert profiles.most_named_servers(settings, who) == settings.spawner.named_servers


@pytest.mark.parametrize("options", [{"profile": "cpu"}, {"profile": ["cpu"]}, {"profile": ["cpu", "gpu"]}])
def test_the_choice_from_a_form_and_from_json(options: dict[str, Any]) -> None:
    assert profiles.chosen(options) == "cpu"
    assert profiles.chosen({}) == profiles.chosen({"profile": []}) == profiles.chosen({"profile": None}) == ""


@given(st.text(min_size=1, max_size=64))
def test_slugs_are_safe_names(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", profiles.slug(text))
    assert len(profiles.slug(text)) <= 40


@given(st.text("ab-홍.A", min_size=1, max_size=8), st.text("ab-홍.A", min_size=1, max_size=8))
def test_two_logins_never_share_a_slug(one: str, other: str) -> None:
    assert (profiles.slug(one) == profiles.slug(other)) == (one == other)
    assert profiles.slug(profiles.slug("홍길동")) != profiles.slug("홍길동")  # nor somebody named as another's slug


@pytest.mark.parametrize(
    ("reason", "gpu", "key"),
    [
        ("No such image: academyhub-notebook:1", "", "spawn-image-missing"),
        ("mkdir /var/lib/docker/overlay2/x: no space left on device", "", "spawn-disk-full"),
        ('could not select device driver "" with capabilities: [[gpu]]', "GPU-a", "spawn-gpu-missing"),
        ("nvidia-container-cli: device error: GPU-a: unknown device", "GPU-a", "spawn-gpu-missing"),
        ("network x not found", "", "spawn-refused"),
    ],
)
def test_the_engine_s_errors_become_sentences(settings_spawner: AcademySpawner, reason: str, gpu: str, key: str) -> None:
    settings_spawner.gpu = gpu
    error = docker.errors.APIError("500 Server Error", requests.Response(), explanation=reason)
    failed = settings_spawner._explain(error)
    assert failed.key == key
    assert reason not in str(failed.jupyterhub_message)
    assert reason in failed.log_message  # operators read it in the hub's log


def test_no_answer_from_the_engine_is_named(settings_spawner: AcademySpawner) -> None:
    assert settings_spawner._explain(requests.ConnectionError("refused")).key == "spawn-docker-down"
    assert settings_spawner._explain(docker.errors.DockerException("no socket")).key == "spawn-docker-down"


@pytest.fixture
def settings_spawner(config: Callable[..., Settings]) -> AcademySpawner:
    return type("Spawner", (AcademySpawner,), {"academy": config(), "database": None})()


def test_what_people_write_is_escaped() -> None:
    failed = SpawnFailed("spawn-profile-not-allowed", "en", profile="<script>")
    assert "<script>" not in failed.jupyterhub_html_message
    assert "&lt;script&gt;" in failed.message_html


def spawn_keys() -> list[str]:
    return sorted(key for key in catalogue() if key.startswith("spawn-"))


@pytest.mark.parametrize("key", spawn_keys())
def test_every_failure_has_both_languages_and_a_place_in_the_documents(key: str) -> None:
    entry = catalogue()[key]
    assert all(entry[part] for part in ("ko", "en", "ko_fix", "en_fix"))
    errors = (CHECKOUT / "docs" / "errors.md").read_text(encoding="utf-8")
    section = errors.split(f"### {key}\n", 1)[1].split("\n### ", 1)[0]
    for part in (entry["ko"], entry["en"]):
        assert part in section
    assert "Cause:" in section
    assert "Fix:" in section


def test_no_failure_without_a_test_and_no_unknown_key() -> None:
    used = set(re.findall(r'"(spawn-[a-z-]+)"', (CHECKOUT / "academy" / "spawner.py").read_text(encoding="utf-8")))
    assert used == set(spawn_keys())
    tests = "".join(path.read_text(encoding="utf-8") for path in (CHECKOUT / "tests").rglob("test_spawn*.py"))
    assert not [key for key in used if key not in tests]


def test_progress_goes_forward_in_both_languages() -> None:
    for backend in ("container", "process"):
        percents = [STEPS[name][0] for name in ("profile", "image", backend, "notebook", "ready")]
        assert percents == sorted(percents)
        assert 0 < percents[0] < percents[-1] < 100
    assert json.dumps([text.model_dump() for _, text in STEPS.values()])
    assert all(text.ko and text.en for _, text in STEPS.values())


def test_a_course_folder_is_shared_with_its_group(config: Callable[..., Settings]) -> None:
    settings = config()
    folder = settings.course_folder("demo")
    gid = share_course_folder(settings, folder)
    assert folder.stat().st_gid == gid
    assert folder.stat().st_mode & 0o7777 == 0o2770  # files made in it belong to the group; nobody else reads them
    assert share_course_folder(settings, folder) == gid


def test_a_free_port_is_none_that_an_outgoing_connection_can_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    outgoing = tmp_path / "range"
    outgoing.write_text("10020\t60999\n")
    monkeypatch.setattr(network, "_OUTGOING", outgoing)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", network.free_port()))
        found = {network.free_port() for _ in range(40)}
        assert found <= set(range(10_000, 10_020)) - {taken.getsockname()[1]}
        assert len(found) > 10  # another program may have one, too
    outgoing.write_text("1024\t65535\n")  # no room below: whatever the kernel gives
    assert network.free_port() > 1023


async def test_a_start_reads_the_hubs_records_in_the_hubs_thread_alone(
    config: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are rows of one SQLAlchemy session; of ten starts at once, one that read them in another thread could fail."""

    class User:
        @property
        def name(self) -> str:
            assert threading.current_thread() is threading.main_thread()
            return "alice"

    settings = config()
    database = Database(settings.database_url)
    database.upgrade()
    monkeypatch.setattr(LocalSpawner, "academy", settings, raising=False)
    monkeypatch.setattr(LocalSpawner, "database", database, raising=False)
    monkeypatch.setattr(LocalSpawner, "user", User())
    monkeypatch.setattr(LocalSpawner, "name", "")
    spawner = LocalSpawner.__new__(LocalSpawner)
    assert await spawner._know_volumes() == []
    assert (await asyncio.to_thread(spawner.read_person, spawner.user.name)).login == "alice"


async def test_a_cancelled_start_ends_at_once_and_whoever_polls_waits_until_nothing_is_left(
    settings_spawner: AcademySpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub gives it a second, then answers 500 and takes the server for ready."""
    began, go, left = asyncio.Event(), asyncio.Event(), ["container", "GPU"]

    async def launch() -> str:
        began.set()
        await asyncio.Event().wait()
        return ""

    async def discard() -> None:
        await go.wait()
        left.remove("container")

    async def give_back(_: str) -> None:
        left.remove("GPU")

    for name, stand_in in (("launch", launch), ("discard", discard), ("_give_back", give_back)):
        monkeypatch.setattr(settings_spawner, name, stand_in)
    starting = asyncio.create_task(settings_spawner.start())
    await began.wait()
    starting.cancel()
    await asyncio.wait([starting], timeout=1)
    assert starting.cancelled()
    polled = asyncio.create_task(settings_spawner.poll())
    await asyncio.wait([polled], timeout=0.1)
    assert not polled.done()
    assert left == ["container", "GPU"]
    go.set()
    assert await polled == 0
    assert left == []


def test_a_local_server_that_is_deaf_does_not_outlive_its_start(
    config: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawner, "STOP_GRACE", 0.1)
    local = type("Spawner", (LocalSpawner,), {"academy": config(), "database": None})()
    asyncio.run(local.discard())  # nothing was begun
    local.proc = Popen(["sh", "-c", "trap '' TERM; echo; read line"], stdin=PIPE, stdout=PIPE)
    with local.proc:
        assert local.proc.stdout.readline()
        local.pid = local.proc.pid
        asyncio.run(local.discard())
        assert local.proc.returncode == -9
    assert local.pid == 0


async def test_the_longest_run_and_idleness_count_from_after_the_line(
    settings_spawner: AcademySpawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def choose() -> None:
        settings_spawner.profile_key = "gpu"

    async def wait() -> None:
        assert settings_spawner.overdue()

    monkeypatch.setattr(settings_spawner, "choose", choose)
    monkeypatch.setattr(settings_spawner, "_wait_for_gpu", wait)
    long_ago = utcnow(with_tz=False) - timedelta(days=1)
    settings_spawner.orm_spawner = SimpleNamespace(started=long_ago, last_activity=long_ago, server=None)
    await settings_spawner.run_pre_spawn_hook()
    assert not settings_spawner.overdue()
    assert settings_spawner.orm_spawner.last_activity == settings_spawner.orm_spawner.started


@pytest.mark.parametrize("end", ["overdue", "dead"])
async def test_a_server_that_ends_before_the_hub_listens_is_told_of_at_the_next_look(
    settings_spawner: AcademySpawner, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Polling begins before the proxy knows the server, and the hub listens only after that."""

    async def poll() -> int | None:
        return 0 if end == "dead" else None

    monkeypatch.setattr(settings_spawner, "poll", poll)
    monkeypatch.setattr(settings_spawner, "overdue", lambda: end == "overdue")
    monkeypatch.setattr(settings_spawner, "user", SimpleNamespace(name="alice"))
    settings_spawner.profile_key = "cpu"
    settings_spawner.start_polling()
    told: list[str] = []
    await settings_spawner.poll_and_notify()
    assert settings_spawner._poll_callback is not None  # goes on
    settings_spawner.add_poll_callback(told.append, "alice")
    await settings_spawner.poll_and_notify()
    assert told == ["alice"]
    assert settings_spawner._poll_callback is None


@pytest.mark.parametrize(("says", "key"), [(True, "spawn-memory"), (False, "spawn-exited")])
async def test_docker_may_say_late_that_it_was_the_memory(
    settings_spawner: AcademySpawner, monkeypatch: pytest.MonkeyPatch, says: bool, key: str
) -> None:
    looks = iter([False, False, says])

    async def get_object() -> dict[str, Any]:
        return {"State": {"ExitCode": 137, "OOMKilled": next(looks, says)}}

    monkeypatch.setattr(spawner, "TOLD_WHY", 0.3)
    monkeypatch.setattr(settings_spawner, "get_object", get_object)
    settings_spawner.profile_key = "cpu"
    assert (await settings_spawner.obituary()).key == key
