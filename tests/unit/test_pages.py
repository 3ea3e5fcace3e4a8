"""The pages as an ASGI application; only the hub's answers are stood in for."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from babel.messages.frontend import CommandLineInterface
from babel.messages.pofile import read_po
from fastapi import FastAPI
from nbformat.v4 import new_code_cell, new_notebook
from starlette.responses import Response

from academy import i18n
from academy.database import Database, now
from academy.messages import AcademyError, catalogue
from academy.pages import history as history_pages
from academy.pages import hub as hub_pages
from academy.pages.app import create_app
from academy.pages.session import SESSION_COOKIE, Session, local_path
from academy.people import Person, import_roster, members, parse_roster
from academy.settings import CHECKOUT, Profile, Settings, Text
from grading.exchange.store import Store
from grading.records import Feedback, Grade, History, Job, Measurement, Regrade, Release, Submission, record

PREFIX = "/services/academy"
ROSTER = """name,login,role
김민아,mina,student
이준,jun,student
박교수,prof,instructor
Ari,ari,assistant
"""
COURSE_TOML = """
[title]
ko = "추론 최적화"
en = "Inference optimisation"

[[units]]
id = "arrays"
number = "1.1"
title = { ko = "배열 <b>", en = "Arrays <b>" }
hours = 2

[[units]]
id = "kv-cache"
number = "4.1"
title = { ko = "KV 캐시", en = "KV cache" }
hours = 3
"""
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}


class Hub:
    """Answers as the hub's API does, for tokens ``token-LOGIN``."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.servers: dict[str, Any] = {}
        self.calls: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/hub/api")
        token = request.headers.get("Authorization", "").removeprefix("token ")
        body = request.content.decode()
        self.calls.append((request.method, path, body))
        if path == "/oauth2/token":
            return httpx.Response(200 if "code=good" in body else 400, json={"access_token": "token-mina"})
        if token in self.revoked:
            return httpx.Response(403, json={"message": "revoked"})
        if path == "/user":
            return httpx.Response(200, json={"name": token.removeprefix("token-"), "session_id": "s1", "servers": self.servers})
        if path == "/users":
            return httpx.Response(200, json=[{"servers": {"": {}, "demo": {}}}])
        return httpx.Response(202)


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def settings(config: Callable[..., Settings], tmp_path: Path) -> Settings:
    folder = tmp_path / "courses" / "inference"
    folder.mkdir(parents=True)
    (folder / "course.toml").write_text(COURSE_TOML, encoding="utf-8")
    for unit in ("arrays", "kv-cache"):
        (folder / unit).mkdir()
        (folder / unit / f"{unit}.py").write_text("# %%\n")
    return config(academy={"courses": str(tmp_path / "courses")}, spawner={"backend": "local"})


@pytest.fixture
def db(settings: Settings) -> Database:
    database = Database(settings.database_url)
    database.upgrade()
    with database.write() as session:
        import_roster(session, parse_roster(ROSTER, "inference"), "inference")
        session.add(Person(login="op", name="운영자", role="operator"))
        session.add(Person(login="ceo", name="최대표", role="founder"))
        session.add(Person(login="other", name="<script>alert(1)</script>"))
    return database


@pytest.fixture
async def app(settings: Settings, db: Database, hub: Hub) -> AsyncIterator[FastAPI]:
    application = create_app(settings, httpx.MockTransport(hub))
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
def visitor(app: FastAPI) -> Callable[..., httpx.AsyncClient]:
    """``visitor("mina")``: a browser in which she is signed in; ``visitor()``: one in which nobody is."""

    def make(login: str = "", language: str = "en") -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://academy.test", headers={**NAVIGATION}, follow_redirects=False
        )
        client.cookies.set(i18n.LANGUAGE_COOKIE, language, domain="academy.test")
        if login:
            response = Response()
            app.state.pages.sessions.begin(response, Session(login, f"token-{login}", "csrf-of-" + login, "s1"))
            sealed = re.search(f"{SESSION_COOKIE}=([^;]+)", response.headers["set-cookie"])
            assert sealed
            client.cookies.set(SESSION_COOKIE, sealed.group(1), domain="academy.test")
        return client

    return make


async def post(
    client: httpx.AsyncClient, path: str, login: str, headers: dict[str, str] | None = None, /, **fields: Any
) -> Any:
    files = {key: value for key, value in fields.items() if isinstance(value, tuple)}
    data = {key: value for key, value in fields.items() if not isinstance(value, tuple)}
    data = {"_csrf": f"csrf-of-{login}", **data}
    origin = {"Origin": "http://academy.test"}
    return await client.post(PREFIX + path, data=data, files=files or None, headers=origin if headers is None else headers)


def submit(db: Database, login: str, unit: str = "arrays", late: bool = False) -> str:
    with db.write() as session:
        submission = Submission(course="inference", unit=unit, login=login, sha256="ab" * 32, size=10, late=late)
        session.add(submission)
        session.flush()
        return submission.id


def release(db: Database, unit: str = "arrays", due_in: timedelta | None = timedelta(days=3)) -> None:
    with db.write() as session:
        due_at = now() + due_in if due_in else None
        session.add(Release(course="inference", unit=unit, blobs={"ko": "0" * 64}, due_at=due_at, released_by="prof"))


def give_feedback(db: Database, settings: Settings, submission: str, page: bytes = b"<h1>well done</h1>") -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("arrays.html")
        info.size = len(page)
        archive.addfile(info, io.BytesIO(page))
    sha256 = Store(settings).put(buffer.getvalue())
    with db.write() as session:
        session.add(Feedback(submission_id=submission, sha256=sha256, score=7.5, max_score=10, released_by="prof"))


async def test_a_reader_who_is_not_signed_in_goes_to_the_hub_with_state_and_pkce(visitor: Any) -> None:
    reply = await visitor().get(f"{PREFIX}/courses/inference")
    target = httpx.URL(reply.headers["location"])
    assert (reply.status_code, target.path) == (302, "/hub/api/oauth2/authorize")
    assert target.params["code_challenge_method"] == "S256"
    assert len(target.params["code_challenge"]) == 43
    assert "HttpOnly" in reply.headers["set-cookie"]
    assert "SameSite=lax" in reply.headers["set-cookie"]


async def test_signing_in_comes_back_to_the_page_that_was_asked_for(visitor: Any) -> None:
    client = visitor()
    asked = await client.get(f"{PREFIX}/courses/inference")
    state = httpx.URL(asked.headers["location"]).params["state"]
    back = await client.get(f"{PREFIX}/oauth_callback", params={"code": "good", "state": state})
    assert (back.status_code, back.headers["location"]) == (303, f"{PREFIX}/courses/inference")
    assert "token-mina" not in str(back.headers)
    assert (await client.get(f"{PREFIX}/")).status_code == 200


@pytest.mark.parametrize("change", [{"state": "forged"}, {"code": "bad"}])
async def test_a_foreign_answer_signs_nobody_in(visitor: Any, change: dict[str, str]) -> None:
    client = visitor()
    asked = await client.get(f"{PREFIX}/")
    state = httpx.URL(asked.headers["location"]).params["state"]
    back = await client.get(f"{PREFIX}/oauth_callback", params={"code": "good", "state": state} | change)
    assert back.status_code == 400
    assert SESSION_COOKIE not in client.cookies


async def test_a_forged_or_revoked_session_is_no_session(visitor: Any, hub: Hub) -> None:
    client = visitor("mina")
    assert (await client.get(f"{PREFIX}/")).status_code == 200
    hub.revoked.add("token-mina")
    assert (await client.get(f"{PREFIX}/")).status_code == 302
    forged = visitor()
    forged.cookies.set(SESSION_COOKIE, "gAAAAABforged")
    assert (await forged.get(f"{PREFIX}/")).status_code == 302


async def test_signing_out_at_the_hub_ends_the_session_at_once(visitor: Any, hub: Hub, db: Database) -> None:
    client = visitor("prof")
    client.cookies.set("jupyterhub-session-id", "s1")
    assert (await client.get(f"{PREFIX}/courses/inference")).status_code == 200
    hub.revoked.add("token-prof")
    client.cookies.delete("jupyterhub-session-id")  # what the hub's logout does
    assert (await client.get(f"{PREFIX}/courses/inference")).status_code == 302


async def test_somebody_else_at_the_hub_is_somebody_else_here(visitor: Any) -> None:
    client = visitor("mina")
    client.cookies.set("jupyterhub-session-id", "another")
    assert (await client.get(f"{PREFIX}/")).status_code == 302


async def test_who_left_the_roster_is_told_so(visitor: Any) -> None:
    reply = await visitor("gone").get(f"{PREFIX}/")
    assert reply.status_code == 403
    assert "not on the roster" in reply.text


async def test_home_shows_units_state_receipts_and_scores(visitor: Any, db: Database, settings: Settings) -> None:
    release(db)
    release(db, "kv-cache", timedelta(days=-1))
    first = submit(db, "mina", late=True)
    submit(db, "jun")
    page = (await visitor("mina").get(f"{PREFIX}/")).text
    assert "Inference optimisation" in page
    assert "Arrays &lt;b&gt;" in page
    assert "Submitted late" in page
    assert "Due date passed" in page
    assert page.count(first) == 1
    assert "ab" * 32 in page
    assert "7.5" not in page
    give_feedback(db, settings, first)
    page = (await visitor("mina").get(f"{PREFIX}/")).text
    assert "Graded" in page
    assert "7.5" in page
    assert f"{PREFIX}/submissions/{first}/feedback" in page


async def test_what_people_write_is_escaped(visitor: Any) -> None:
    page = (await visitor("other").get(f"{PREFIX}/")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


async def test_every_page_keeps_scripts_frames_and_caches_out(visitor: Any) -> None:
    reply = await visitor("mina").get(f"{PREFIX}/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert reply.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]*nonce=)", reply.text)
    assert not re.search(r"(src|href)=\"(https?:)?//", reply.text)


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Dest": "iframe"}])
async def test_a_script_or_frame_of_a_student_server_gets_no_page(visitor: Any, headers: dict[str, str]) -> None:
    reply = await visitor("prof").get(f"{PREFIX}/courses/inference", headers=headers)
    assert reply.status_code == 403
    assert "csrf-of-prof" not in reply.text.split("<main")[1]


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"}, "csrf-of-prof"),
        ({"Origin": "https://evil.test"}, "csrf-of-prof"),
        ({"Origin": "http://academy.test", "Sec-Fetch-Mode": "cors"}, "csrf-of-prof"),
        ({"Origin": "http://academy.test"}, "guess"),
    ],
)
async def test_a_forged_post_changes_nothing(visitor: Any, db: Database, headers: dict[str, str], token: str) -> None:
    release(db)
    reply = await post(visitor("prof"), "/courses/inference/units/arrays/withdraw", "prof", headers, _csrf=token)
    assert reply.status_code == 403
    with db.read() as session:
        assert session.get(Release, ("inference", "arrays"))


async def test_a_course_belongs_to_its_staff(visitor: Any, db: Database) -> None:
    release(db)
    for login, status in (("mina", 404), ("other", 404), ("op", 404), ("ari", 200), ("prof", 200)):
        for path in ("/courses/inference", "/courses/inference/units/arrays", "/courses/inference/grades.csv"):
            assert (await visitor(login).get(PREFIX + path)).status_code == status, (login, path)
    reply = await post(visitor("mina"), "/courses/inference/units/arrays/withdraw", "mina")
    assert reply.status_code == 404
    assert (await visitor("mina").get(f"{PREFIX}/overview")).status_code == 404


async def test_a_roster_is_imported(visitor: Any, db: Database) -> None:
    client = visitor("prof")
    csv = "name,login,role\n새 사람,new,student\n김민아,mina,assistant\n".encode()
    reply = await post(client, "/courses/inference/people", "prof", roster=("r.csv", csv))
    assert reply.status_code == 303
    page = (await client.get(reply.headers["location"])).text
    assert "1 added, 1 changed" in page
    assert "1 added" not in (await client.get(reply.headers["location"])).text
    with db.read() as session:
        assert {p.login for p in members(session, "inference", "assistant")} == {"ari", "mina"}


async def test_a_bad_roster_reports_every_line_and_imports_nothing(visitor: Any, db: Database) -> None:
    csv = b"name,login,role\nGood,good,student\nBad,b<d,student\nX,x,king\nBoss,boss,operator\n"
    reply = await post(visitor("prof"), "/courses/inference/people", "prof", roster=("r.csv", csv))
    assert reply.status_code == 422
    assert "Line 3" in reply.text
    assert "Line 4" in reply.text
    assert "b&lt;d" in reply.text
    for bad in (b"name,login,role\nBoss,boss,operator\n", "name,login,role\n김,kim,student\n".encode("cp949")):
        reply = await post(visitor("prof"), "/courses/inference/people", "prof", roster=("r.csv", bad))
        assert (reply.status_code, "Line" in reply.text) == (422, True)
    with db.read() as session:
        assert not {"good", "boss", "kim"} & {p.login for p in session.query(Person)}


async def test_assistants_do_not_import_but_operators_do(visitor: Any, db: Database) -> None:
    csv = ("r.csv", b"name,login,role\nNew,new,student\n")
    assert (await post(visitor("ari"), "/courses/inference/people", "ari", roster=csv)).status_code == 403
    assert (await post(visitor("op"), "/courses/inference/people", "op", roster=csv)).status_code == 303
    founders = ("r.csv", b"name,login,role\nFounder,fred,founder\n")
    assert (await post(visitor("op"), "/overview/people", "op", roster=founders)).status_code == 303
    assert (await post(visitor("prof"), "/overview/people", "prof", roster=founders)).status_code == 404
    page = (await visitor("op").get(f"{PREFIX}/overview")).text
    assert re.search(r"Running servers</dt><dd>2<", page)


async def test_operators_see_which_courses_cannot_be_read(visitor: Any, settings: Settings) -> None:
    broken = settings.academy.courses / "broken" / "course.toml"
    broken.parent.mkdir()
    broken.write_text("title = 3")
    page = (await visitor("op").get(f"{PREFIX}/overview")).text
    assert "Courses that cannot be read" in page
    assert "course.toml" in page


async def test_an_upload_has_a_limit(visitor: Any) -> None:
    reply = await post(visitor("prof"), "/courses/inference/people", "prof", roster=("r.csv", b"x" * (2 << 20)))
    assert reply.status_code == 413


async def test_a_unit_is_released_moved_and_withdrawn(visitor: Any, db: Database, settings: Settings) -> None:
    folder = settings.course_folder("inference") / "release" / "arrays"
    folder.mkdir(parents=True)
    (folder / "arrays.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    client, path = visitor("prof"), "/courses/inference/units/arrays"
    reply = await post(client, f"{path}/release", "prof", due_at="2026-12-01T18:00")
    assert "The unit is released." in (await client.get(reply.headers["location"])).text
    with db.read() as session:
        first = session.get(Release, ("inference", "arrays"))
        assert first
        assert first.due_at == datetime(2026, 12, 1, 9, 0, tzinfo=UTC)  # 18:00 in Seoul
    assert 'value="2026-12-01T18:00"' in (await client.get(PREFIX + path)).text
    await post(client, f"{path}/release", "prof", due_at="2026-12-02T18:00")
    with db.read() as session:
        moved = session.get(Release, ("inference", "arrays"))
        assert moved
        assert (moved.due_at, moved.blobs) == (datetime(2026, 12, 2, 9, 0, tzinfo=UTC), first.blobs)
        assert "due" in {row.action for row in session.query(History)}
    assert "Withdraw this unit?" in (await client.get(f"{PREFIX}{path}/withdraw")).text
    await post(client, f"{path}/withdraw", "prof")
    with db.read() as session:
        assert session.get(Release, ("inference", "arrays")) is None


@pytest.mark.parametrize("due_at", ["tomorrow", "<b>"])
async def test_a_bad_due_date_is_said(visitor: Any, db: Database, due_at: str) -> None:
    release(db)
    client = visitor("prof")
    reply = await post(client, "/courses/inference/units/arrays/release", "prof", due_at=due_at)
    page = (await client.get(reply.headers["location"])).text
    assert 'class="note error"' in page
    assert "<b>" not in page.split("<main")[1].split("</div>")[0]


async def test_what_operations_refuse_is_said_in_the_readers_language(visitor: Any, db: Database) -> None:
    release(db)
    client = visitor("prof", "ko")
    reply = await post(client, "/courses/inference/units/arrays/grade", "prof")
    expected = catalogue()["grading-no-submissions"]["ko_fix"].split("{")[0]
    assert expected in (await client.get(reply.headers["location"])).text


SCRIPT = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
UNIT = "/courses/inference/units/arrays"


async def live(client: httpx.AsyncClient, path: str = f"{UNIT}/live.json") -> tuple[str, int]:
    reply = await client.get(PREFIX + path, headers=SCRIPT)
    assert reply.status_code == 200, reply.text
    assert "csrf" not in reply.text
    return reply.json()["html"], reply.json()["wait"]


def part(html: str, key: str) -> str:
    """What people read in one live part of a page."""
    start = re.search(rf'<(\w+)[^>]* data-part="{re.escape(key)}"[^>]*>', html)
    assert start, key
    end = "(?:td|p)" if start.group(1) == "span" else start.group(1)  # spans lie in spans
    found = re.search(rf"(.*?)</{end}>", html[start.end() :], re.DOTALL)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found.group(1)).split())


def jobs(db: Database, *changes: dict[str, Any]) -> None:
    """Do to the jobs, in their order, what the grader does."""
    with db.write() as session:
        made = session.query(Job).order_by(Job.created_at)  # ids of one millisecond have no order
        for job, values in zip(made, changes, strict=True):
            for name, value in values.items():
                setattr(job, name, value)


async def test_grading_is_queued_and_watched_without_reloading(visitor: Any, db: Database) -> None:
    release(db)
    first, _ = submit(db, "mina"), submit(db, "jun")
    client = visitor("prof")
    reply = await post(client, f"{UNIT}/grade", "prof")
    page = (await client.get(reply.headers["location"])).text
    assert "Grading requested: 2" in page
    html, wait = await live(client)
    assert 'data-wait="1000"' in page
    assert wait == 1000
    assert "0 of 2 done, 0 running, 2 waiting, 0 failed" in part(html, "text-grade")
    assert {part(html, f"state-{login}") for login in ("mina", "jun")} == {"Waiting no. 1", "Waiting no. 2"}
    began = now() - timedelta(seconds=7)
    jobs(db, {"state": "running", "phase": "tests", "phase_at": began}, {"state": "running", "phase_at": None})
    html, _ = await live(client)
    running = re.match(r"Running the tests (\d+) sec", part(html, "state-mina"))
    assert running
    assert 7 <= int(running[1]) < 60
    assert part(html, "state-jun") == "Preparing"
    phases = {"queued": 0.5, "started": 0.25, "student cells": 1.5, "tests": 2.25}
    failure = {"state": "failed", "error": "Traceback\nthe kernel <died>"}
    jobs(db, {"state": "done", "phases": phases, "notes": [{"kind": "flag", "text": "<patched>"}]}, failure)
    with db.write() as session:
        session.add(Grade(submission_id=first, score=3, max_score=4))
    html, wait = await live(client)
    assert wait == 15_000
    assert "1 of 2 done, 0 running, 0 waiting, 1 failed" in part(html, "text-grade")
    assert "the kernel &lt;died&gt;" in html
    assert "Look here" in part(html, "state-mina")
    assert "&lt;patched&gt;" in html
    assert "1.5 s" in part(html, "state-mina")
    assert part(html, "score-mina") == "3 / 4"
    assert "A check was tripped" in html
    for headers, status in ((SCRIPT | {"Sec-Fetch-Site": "cross-site"}, 403), (SCRIPT, 404)):
        reply = await visitor("mina").get(f"{PREFIX}{UNIT}/live.json", headers=headers)
        assert reply.status_code == status


async def test_a_stored_reason_is_told_in_its_readers_language(visitor: Any, db: Database) -> None:
    submit(db, "mina")
    client = visitor("prof")
    await post(client, f"{UNIT}/grade", "prof")
    stored = AcademyError("grading-attempts", attempts=3).message("ko")
    jobs(db, {"state": "failed", "error": f"{stored}\n{AcademyError('grading-failed', reason='x {y}').message('ko')}"})
    html = unescape((await live(client))[0])
    assert str(AcademyError("grading-attempts", attempts=3).message("en")) in html
    assert "x {y}" in html
    assert str(stored) not in html
    assert str(stored) in unescape((await live(visitor("prof", "ko")))[0])


async def test_grading_is_cancelled_and_asked_for_again(visitor: Any, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_pages, "AT_ONCE", timedelta(minutes=2))  # for a busy machine
    for login in ("mina", "jun"):
        submit(db, login)
    client = visitor("prof")
    await post(client, f"{UNIT}/grade", "prof")
    await post(client, f"{UNIT}/cancel", "prof", login="jun")
    html, _ = await live(client)
    assert "Cancelled" in part(html, "state-jun")
    assert "Waiting" in part(html, "state-mina")
    assert "1 submission waits" in (await client.get(f"{PREFIX}{UNIT}/cancel")).text
    reply = await post(client, f"{UNIT}/cancel", "prof")
    assert "Cancelled: 1." in (await client.get(reply.headers["location"])).text
    with db.read() as session:
        assert {job.state for job in session.query(Job)} == {"cancelled"}
    await post(client, f"{UNIT}/again", "prof", login="mina")
    with db.read() as session:
        assert [job.state for job in session.query(Job).order_by(Job.id)] == ["cancelled", "cancelled", "queued"]
    jobs(db, {}, {}, {"state": "failed", "error": "no"})
    assert "Grade the failed again (1)" in (await live(client))[0]
    await post(client, f"{UNIT}/again", "prof", failed="1")
    with db.read() as session:
        last = session.query(Job).order_by(Job.id.desc()).first()
        assert last
        submission = session.get(Submission, last.submission_id)
        assert submission
        assert (last.state, submission.login, session.query(Job).count()) == ("queued", "mina", 4)
    page = (await client.get(f"{PREFIX}/courses/inference/history")).text
    assert page.count("cancelled the grading") == 1  # what one person did at once is one line
    assert re.search(r"<td[^>]*><span><span[^>]*>(jun|mina)</span>, <span[^>]*>(jun|mina)</span></span></td>", page)


async def test_one_student_is_given_more_time(visitor: Any, db: Database) -> None:
    release(db, due_in=timedelta(days=-1))
    submission = submit(db, "mina", late=True)
    client = visitor("prof")
    until = i18n.field_time(now() + timedelta(days=2), "Asia/Seoul")
    reply = await post(client, f"{UNIT}/extend", "prof", login="mina", due_at=until, reason="<b>flu</b>")
    assert "mina has more time now." in (await client.get(reply.headers["location"])).text
    page = (await client.get(PREFIX + UNIT)).text
    assert "&lt;b&gt;flu" in page
    assert "<b>flu" not in page
    home = (await visitor("mina").get(f"{PREFIX}/")).text
    assert "Extended for you" in home
    assert "&lt;b&gt;flu" in home
    assert "Extended for you" not in (await visitor("jun").get(f"{PREFIX}/")).text
    with db.read() as session:
        row = session.get(Submission, submission)
        assert row
        assert not row.late
    assert "gave a student more time" in (await client.get(f"{PREFIX}/courses/inference/history")).text
    for fields in ({"login": "prof"}, {"reason": " "}, {"due_at": "soon"}):
        values = {"login": "mina", "due_at": until, "reason": "r"} | fields
        reply = await post(client, f"{UNIT}/extend", "prof", **values)
        assert 'class="note error"' in (await client.get(reply.headers["location"])).text, fields
    await post(client, f"{UNIT}/revoke", "prof", login="mina")
    assert "Extended for you" not in (await visitor("mina").get(f"{PREFIX}/")).text
    assert (await post(visitor("mina"), f"{UNIT}/extend", "mina", login="mina", due_at=until, reason="me")).status_code == 404


def graded(db: Database, submission: str, **grade: Any) -> None:
    """What a worker leaves behind."""
    notes = [{"kind": "repair", "text": "put back <cell 3>"}, {"kind": "flag", "text": "secret flag"}]
    with db.write() as session:
        session.add(
            Job(
                kind="grade",
                course="inference",
                unit="arrays",
                submission_id=submission,
                state="done",
                requested_by="mina",
                finished_at=now(),
                notes=notes,
            )
        )
        session.add(Grade(submission_id=submission, **{"score": 6.5, "max_score": 10, **grade}))
        session.add(
            Measurement(submission_id=submission, name="speed", ratio=32.14, low=28.2, high=36.4, at_least=10, passed=True)
        )


def on_submit(settings: Settings, extra: str = "") -> None:
    path = settings.academy.courses / "inference" / "course.toml"
    text = path.read_text(encoding="utf-8").replace("hours = 2", 'hours = 2\non_submit = true\nleaderboard = "speed"')
    path.write_text(extra + text, encoding="utf-8")


async def test_a_score_arrives_without_reloading(visitor: Any, db: Database, settings: Settings) -> None:
    on_submit(settings)
    release(db)
    submission = submit(db, "mina")
    client = visitor("mina", "ko")
    assert (await live(client, "/work.json"))[1] == 0
    with db.write() as session:
        about = {"course": "inference", "unit": "arrays", "submission_id": submission, "requested_by": "mina"}
        session.add(Job(kind="grade", **about))
    html, wait = await live(client, "/work.json")
    assert (part(html, "state-inference-arrays"), wait) == ("채점을 기다리는 중", 2000)
    jobs(db, {"state": "running", "phase": "student cells"})
    assert part((await live(client, "/work.json"))[0], "state-inference-arrays") == "채점 중 · 내 코드 실행"
    jobs(db, {"state": "done", "finished_at": now()})
    graded(db, submission)
    html, wait = await live(client, "/work.json")
    assert (part(html, "score-inference-arrays"), wait) == ("6.5 / 10", 0)
    assert "put back &lt;cell 3&gt;" in html
    assert "32.1배 (측정마다 28.2~36.4배), 기준은 10배" in html
    assert "secret flag" not in html
    assert "6.5" not in (await live(visitor("jun"), "/work.json"))[0]


async def test_a_student_is_told_when_the_grader_failed(visitor: Any, db: Database, settings: Settings) -> None:
    release(db)
    submission = submit(db, "mina")
    with db.write() as session:
        about = {"course": "inference", "unit": "arrays", "submission_id": submission, "requested_by": "mina"}
        session.add(Job(kind="grade", state="failed", error="secret reason", **about))
    html, wait = await live(visitor("mina"), "/work.json")
    assert (part(html, "state-inference-arrays"), wait) == ("Submitted", 0)  # here nobody waits for it
    on_submit(settings)
    html, wait = await live(visitor("mina"), "/work.json")
    assert wait == 0
    assert "Could not be graded" in html
    assert "secret" not in html


async def test_other_units_show_scores_when_feedback_is_released(visitor: Any, db: Database, settings: Settings) -> None:
    release(db)
    submission = submit(db, "mina")
    graded(db, submission)
    html, _ = await live(visitor("mina"), "/work.json")
    assert "6.5" not in html
    assert "put back" not in html
    assert (await visitor("mina").get(f"{PREFIX}/submissions/{submission}/regrade")).status_code == 404
    give_feedback(db, settings, submission)
    html, _ = await live(visitor("mina"), "/work.json")
    assert part(html, "score-inference-arrays").startswith("7.5 / 10")
    assert "put back" in html


async def test_a_penalty_is_explained(visitor: Any, db: Database, settings: Settings) -> None:
    on_submit(settings, "late = { grace_minutes = 15, per_day = 0.1, most_days = 5 }\n")
    release(db, due_in=timedelta(days=-1, hours=-1))
    graded(db, submit(db, "mina", late=True), penalty=2.0)
    html, _ = await live(visitor("mina"), "/work.json")
    assert "−2 for being late" in html
    assert "2 begun days late, 10% of the unit's points for each." in html
    policy = (await visitor("prof").get(PREFIX + UNIT)).text
    assert "up to 15 minutes late is on time" in policy
    assert "takes off 10% of" in policy
    assert "After 5 days a submission earns nothing." in policy


async def test_a_regrade_is_asked_for_and_answered(visitor: Any, db: Database, settings: Settings) -> None:
    on_submit(settings)
    release(db)
    submission = submit(db, "mina")
    graded(db, submission)
    path = f"/submissions/{submission}/regrade"
    for login in ("jun", "prof", "other"):
        assert (await visitor(login).get(PREFIX + path)).status_code == 404
        assert (await post(visitor(login), path, login, text="Please look at task 3 again")).status_code == 404
    client, staff = visitor("mina"), visitor("prof")
    for text in ("short", "x" * 2001):
        reply = await post(client, path, "mina", text=text)
        assert (reply.status_code, 'id="text-problem"' in reply.text) == (422, True)
    assert (await post(client, path, "mina", text="<i>Look</i> at task 3 again")).status_code == 303
    page = (await client.get(PREFIX + path)).text
    assert "&lt;i&gt;Look" in page
    assert "<textarea" not in page  # one at a time
    assert "1 regrade request" in (await staff.get(f"{PREFIX}/courses/inference")).text
    page = (await staff.get(PREFIX + UNIT)).text
    assert "1 open regrade request" in page
    assert "&lt;i&gt;Look" in page
    with db.read() as session:
        asked = session.query(Regrade).one().id
    elsewhere = f"/courses/inference/units/kv-cache/regrades/{asked}"
    assert (await post(visitor("mina"), f"{UNIT}/regrades/{asked}", "mina", accept="1", answer="yes")).status_code == 404
    reply = await post(staff, elsewhere, "prof", accept="1", answer="yes")
    assert "note error" in (await staff.get(reply.headers["location"])).text
    await post(staff, f"{UNIT}/regrades/{asked}", "prof", accept="1", answer="You are <right>", again="1")
    page = (await client.get(PREFIX + path)).text
    assert "Accepted" in page
    assert "You are &lt;right&gt;" in page
    assert "Accepted" in (await live(client, "/work.json"))[0]
    with db.read() as session:
        assert session.query(Job).filter_by(state="queued", submission_id=submission).count() == 1
    page = (await staff.get(f"{PREFIX}/courses/inference/history")).text
    assert "accepted a regrade request" in page
    assert "You are &lt;right&gt;" in page


async def test_a_leaderboard_is_joined_under_a_nickname_and_left(visitor: Any, db: Database, settings: Settings) -> None:
    path = f"{UNIT}/leaderboard"
    assert (await visitor("mina").get(PREFIX + path)).status_code == 404
    on_submit(settings)
    release(db)
    graded(db, submit(db, "mina"))
    graded(db, submit(db, "jun"))
    mina, jun = visitor("mina"), visitor("jun")
    assert path in (await mina.get(f"{PREFIX}/")).text
    assert "Nobody stands here yet." in (await mina.get(PREFIX + path)).text
    assert (await post(mina, path, "mina", join="1", nickname="<b>fast")).status_code == 303
    page = (await jun.get(PREFIX + path)).text
    assert "&lt;b&gt;fast" in page
    assert "32.1×" in page
    assert "mina" not in page.split("<main")[1]
    assert "김민아" not in page
    assert "You" in (await mina.get(PREFIX + path)).text.split("<main")[1]
    for nickname in ("<b>FAST", "x" * 60, " "):
        reply = await post(jun, path, "jun", join="1", nickname=nickname)
        assert (reply.status_code, 'id="nickname-problem"' in reply.text) == (422, True), nickname
    for login in ("other", "prof", "op"):
        assert (await post(visitor(login), path, login, join="1", nickname="guest")).status_code == 404
    assert (await visitor("other").get(PREFIX + path)).status_code == 404
    await post(mina, path, "mina", join="0")
    assert "fast" not in (await jun.get(PREFIX + path)).text.split("<main")[1]


def submit_code(db: Database, settings: Settings, login: str, code: str) -> None:
    notebook = new_notebook(cells=[new_code_cell(code)])
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        data = nbformat.writes(notebook).encode()
        info = tarfile.TarInfo("arrays.ipynb")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    sha256 = Store(settings).put(buffer.getvalue())
    with db.write() as session:
        session.add(Submission(course="inference", unit="arrays", login=login, sha256=sha256, size=10))


async def test_similar_submissions_are_shown_to_staff_only(visitor: Any, db: Database, settings: Settings) -> None:
    lines = "\n".join(f"    total_{i} = values[{i}] * weights[{i}] + offsets[{i}] ** {i}" for i in range(12))
    code = f"def mix(values, weights, offsets):\n{lines}\n    return '<script>' + str(total_0 < total_1)\n"
    for login in ("mina", "jun"):
        submit_code(db, settings, login, code)
    submit_code(db, settings, "ari", "print(1)\n")
    page = await visitor("prof").get(f"{PREFIX}{UNIT}/similarity")
    assert page.status_code == 200
    assert "100 %" in page.text
    assert page.text.count("total_0 = values[0]") == 2
    assert "<script>&#39;" not in page.text
    assert "김민아" in page.text
    assert (await visitor("mina").get(f"{PREFIX}{UNIT}/similarity")).status_code == 404
    assert (await visitor("mina").get(f"{PREFIX}/courses/inference/history")).status_code == 404


async def test_the_history_is_told_in_words_and_pages(visitor: Any, db: Database) -> None:
    with db.write() as session:
        for number in range(230):
            record(session, "prof", "due", "inference", "arrays", due_at=f"2026-01-01T00:00:{number % 60:02}+00:00")
        record(session, "mina", "fetch", "inference", "arrays", "mina")
        record(session, "prof", "due", "elsewhere", "arrays")
    client = visitor("ari", "ko")
    page = (await client.get(f"{PREFIX}/courses/inference/history")).text
    assert page.count("마감을 바꿈") == 200
    assert "2026년 1월 1일 (목) 09:00" in page
    assert "과제를 내려받음" not in page
    older = re.search(r'href="([^"]+before=\d+)"', page)
    assert older
    assert (await client.get(older.group(1).replace("&amp;", "&"))).text.count("마감을 바꿈") == 30
    assert "과제를 내려받음" in (await client.get(f"{PREFIX}/courses/inference/history?what=all")).text


async def test_feedback_is_given_without_script_and_to_its_owner_only(visitor: Any, db: Database, settings: Settings) -> None:
    submission = submit(db, "mina")
    give_feedback(db, settings, submission, b"<script>parent.document.cookie</script>")
    path = f"{PREFIX}/submissions/{submission}/feedback"
    page = await visitor("mina").get(path)
    assert '<iframe class="feedback-frame" sandbox=""' in page.text
    frame = await visitor("mina").get(f"{path}/0", headers={"Sec-Fetch-Dest": "iframe"})
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "script-src" not in policy
    assert "allow" not in policy
    assert frame.text.startswith("<script>")
    for login, status in (("jun", 404), ("other", 404), ("op", 404), ("prof", 200), ("ari", 200)):
        for target in (path, f"{path}/0"):
            assert (await visitor(login).get(target)).status_code == status, login
    assert (await visitor("mina").get(f"{path}/1")).status_code == 404


async def test_servers_are_stopped_and_sandboxes_made(visitor: Any, hub: Hub) -> None:
    hub.servers = {
        "": {"url": "/user/ceo/", "ready": True, "pending": None},
        "demo": {"url": "/user/ceo/demo/", "ready": False, "pending": None},
    }
    client = visitor("ceo")
    page = (await client.get(f"{PREFIX}/")).text
    assert 'href="/user/ceo/"' in page
    assert 'href="/hub/spawn/ceo/demo"' in page
    await post(client, "/servers/stop", "ceo", server="")
    assert ("DELETE", "/users/ceo/server", "{}") in hub.calls
    made = await post(client, "/servers/new", "ceo", name="try-2")
    assert made.headers["location"] == "/hub/spawn/ceo/try-2"
    for name in ("demo", "Bad Name!", "grade-inference", "a--b", ""):
        assert (await post(client, "/servers/new", "ceo", name=name)).status_code == 422, name
    assert (await post(visitor("mina"), "/servers/new", "mina", name="mine")).status_code == 404
    assert "Delete the sandbox demo?" in (await client.get(f"{PREFIX}/servers/demo/delete")).text
    await post(client, "/servers/demo/delete", "ceo")
    assert ("DELETE", "/users/ceo/servers/demo", '{"remove":true}') in hub.calls


async def test_a_server_that_stops_is_followed_by_the_page(visitor: Any, hub: Hub) -> None:
    hub.servers = {"": {"url": "/user/mina/", "ready": False, "pending": "stop"}}
    page = (await visitor("mina").get(f"{PREFIX}/")).text
    assert "data-states=" in page
    assert "Stopping" in page
    script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    assert (await visitor("mina").get(f"{PREFIX}/servers.json", headers=script)).json() == {"": "stopping"}


async def test_the_exchange_can_be_read_with_the_browsers_session(visitor: Any) -> None:
    script = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
    path = f"{PREFIX}/api/v1/me"
    assert (await visitor("mina").get(path, headers=script)).json()["login"] == "mina"
    assert (await visitor("mina").get(path, headers=script | {"Sec-Fetch-Site": "cross-site"})).status_code == 401
    assert (await visitor().get(path, headers=script)).status_code == 401
    withdraw = f"{PREFIX}/api/v1/courses/inference/units/arrays/release"
    assert (await visitor("prof").delete(withdraw, headers=script)).status_code == 401


async def test_formgrader_starts_the_grading_server_and_goes_there(visitor: Any, hub: Hub) -> None:
    reply = await post(visitor("prof"), "/courses/inference/formgrader", "prof")
    target = "/user/prof/grade-inference/formgrader"
    assert reply.headers["location"] == f"/hub/spawn-pending/prof/grade-inference?next={target}"
    assert ("POST", "/users/prof/servers/grade-inference", '{"profile":"grading"}') in hub.calls
    hub.servers = {"grade-inference": {"ready": True, "url": "/user/prof/grade-inference/"}}
    reply = await post(visitor("prof"), "/courses/inference/formgrader", "prof")
    assert reply.headers["location"] == target
    assert (await post(visitor("mina"), "/courses/inference/formgrader", "mina")).status_code == 404


async def test_the_language_is_chosen_and_remembered(visitor: Any, db: Database) -> None:
    client = visitor("mina", "xx")
    assert "안녕하세요" in (await client.get(f"{PREFIX}/")).text  # the academy's language
    client.cookies.delete(i18n.LANGUAGE_COOKIE, domain="academy.test", path="/")
    reply = await client.get(f"{PREFIX}/language/en", params={"next": "//evil.test/"}, headers={"Sec-Fetch-Site": "none"})
    assert reply.headers["location"] == f"{PREFIX}/"
    assert "Hello" in (await client.get(f"{PREFIX}/")).text
    with db.read() as session:
        person = session.get(Person, "mina")
        assert person
        assert person.language == "en"
    await client.get(f"{PREFIX}/language/ko", headers={"Sec-Fetch-Site": "cross-site"})
    assert "Hello" in (await client.get(f"{PREFIX}/")).text


async def test_a_choice_on_the_sign_in_page_becomes_the_persons(visitor: Any, db: Database) -> None:
    with db.write() as session:
        person = session.get(Person, "mina")
        assert person
        person.language = "ko"
    for chosen, expected in ((False, "ko"), (True, "en")):
        client = visitor("", "en")
        if chosen:
            await client.get(f"{PREFIX}/language/en")
        state = httpx.URL((await client.get(f"{PREFIX}/")).headers["location"]).params["state"]
        await client.get(f"{PREFIX}/oauth_callback", params={"code": "good", "state": state})
        assert client.cookies.get(i18n.LANGUAGE_COOKIE) == expected
        with db.read() as session:
            person = session.get(Person, "mina")
            assert person
            assert person.language == expected


async def test_a_trial_without_isolation_says_so_everywhere(visitor: Any) -> None:
    for client, path in ((visitor("mina"), "/"), (visitor("mina"), "/nothing"), (visitor("gone"), "/")):
        assert "isolates nothing" in (await client.get(PREFIX + path)).text


async def test_health_needs_nobody(visitor: Any) -> None:
    assert (await visitor().get(f"{PREFIX}/health")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    "target", ["//evil", "https://evil", "/\\evil", "javascript:x", "", None, "/a\nb", "/\t/evil", "\\\\evil"]
)
def test_redirects_stay_here(target: str | None) -> None:
    assert local_path(target) == f"{PREFIX}/"


def test_cards_show_profiles_in_both_languages_and_escape_them() -> None:
    cards = {"cpu": Profile(title=Text(ko="가<i>", en="A<i>"), cpus=1.5, memory_mb=1536)}
    assert "A&lt;i&gt;" in hub_pages.profile_cards(cards, "en")
    assert "CPU cores: 1.5, memory: 1.5 GB" in hub_pages.profile_cards(cards, "en")
    assert "가&lt;i&gt;" in hub_pages.profile_cards(cards, "ko")


def test_every_text_of_the_pages_is_in_the_korean_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    pot = tmp_path / "academy.pot"
    command = ["pybabel", "-q", "extract", "-F", "pyproject.toml", "-k", "mark", "-k", "done", "-o", str(pot), "."]
    CommandLineInterface().run(command)
    wanted = {str(entry.id) for entry in read_po(pot.open("rb")) if entry.id}
    korean = [entry for entry in read_po((i18n.LOCALE / "ko/LC_MESSAGES/academy.po").open("rb")) if entry.id]
    assert {str(entry.id) for entry in korean} == wanted
    assert not [entry.id for entry in korean if not (entry.string[0] if isinstance(entry.string, tuple) else entry.string)]
    assert not [entry.id for entry in korean if entry.fuzzy]


def test_times_are_shown_in_the_academys_zone() -> None:
    moment = datetime(2026, 3, 2, 14, 59, tzinfo=UTC)
    assert i18n.show_time(moment, "ko", "Asia/Seoul") == "2026년 3월 2일 (월) 23:59"
    assert i18n.show_time(moment, "en", "Asia/Seoul") == "Mon, 2 Mar 2026, 23:59"
    assert i18n.field_time(moment, "Asia/Seoul") == "2026-03-02T23:59"
